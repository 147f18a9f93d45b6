"""SimMIM: absolute difference of hidden cells, which the network does not see."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import list_data_collate
from torch import Tensor

from monai_anat.methods import RandMaskedViewsd, SimMIMMethod
from monai_anat.networks import ResNetBackbone, SwinBackbone, ViTBackbone
from monai_anat.schedules import Progress

START = Progress(0, 1, 0, 1)


def swin_method() -> SimMIMMethod:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    return SimMIMMethod(backbone, image_size=16, cell_size=4)


def vit_method() -> SimMIMMethod:
    """Cells of 2 x 2 patches."""
    backbone = ViTBackbone(image_size=16, patch_size=2, embed_dim=16, depth=2, num_heads=2, class_token=True)
    return SimMIMMethod(backbone, image_size=16, cell_size=4)


def patterned(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    coarse = np.random.RandomState(seed).randint(0, 256, (1, 6, 5))
    return coarse.repeat(8, 1).repeat(8, 2).astype(np.uint8)


def views() -> RandMaskedViewsd:
    return RandMaskedViewsd(image_size=16, cell_size=4)


#: used by the contract tests
CASE = SimpleNamespace(method=swin_method, views=views, image=patterned)
MORE_CASES = {"vit": SimpleNamespace(method=vit_method, views=views, image=patterned)}


def batch_of(count: int = 4) -> dict[str, Any]:
    transform = views()
    return list_data_collate([transform.set_random_state(seed)({"image": patterned(seed)}) for seed in range(count)])


def pixels_of(mask: Tensor) -> Tensor:
    """(B, 16) cells of 4 pixels -> (B, 1, 16, 16)."""
    return mask.reshape(-1, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)


@pytest.fixture(params=[swin_method, vit_method])
def method(request: pytest.FixtureRequest) -> SimMIMMethod:
    torch.manual_seed(0)
    made: SimMIMMethod = request.param().eval()
    return made


def test_the_term_equals_the_formula_image_by_image(method: SimMIMMethod) -> None:
    batch = batch_of()
    hidden = pixels_of(batch["mask"])
    backbone, patch = method.backbone, method.backbone.patch_size
    total = torch.zeros(())
    for view, target, pixels in zip(batch["view_1"], batch["target"], hidden, strict=True):
        patches = backbone.patch_embed(view[None]).clone()
        for row in range(16 // patch):
            for column in range(16 // patch):
                if pixels[0, row * patch, column * patch]:
                    patches[0, row, column] = method.mask_token.mask_token
        restored = method.restoration_head(backbone.forward_patches(patches)[-1])[0]
        total = total + (restored - target)[pixels].abs().sum()
    torch.testing.assert_close(method(batch, START)["restoration"], total / hidden.sum(), rtol=1e-5, atol=1e-5)


def test_only_the_hidden_pixels_of_the_target_count(method: SimMIMMethod) -> None:
    batch = batch_of()
    hidden = pixels_of(batch["mask"])
    expected = method(batch, START)["restoration"]
    visible_changed = batch["target"] + torch.rand(batch["target"].shape) * ~hidden
    assert torch.equal(method({**batch, "target": visible_changed}, START)["restoration"], expected)
    hidden_changed = batch["target"] + 3 * hidden
    assert abs(method({**batch, "target": hidden_changed}, START)["restoration"] - expected) > 0.1


def test_the_network_sees_the_visible_pixels_and_no_others(method: SimMIMMethod) -> None:
    batch = batch_of()
    hidden = pixels_of(batch["mask"])
    expected = method(batch, START)["restoration"]
    noise = torch.rand(hidden.shape)
    assert torch.equal(method({**batch, "view_1": batch["view_1"] + noise * hidden}, START)["restoration"], expected)
    other = method({**batch, "view_1": batch["view_1"] + noise * ~hidden}, START)["restoration"]
    assert not torch.isclose(other, expected)


def test_it_counts_the_hidden_cells() -> None:
    batch = batch_of()
    assert swin_method().loss_denominators(batch)["mask_count"] == 4 * 10


def test_the_paper_s_network() -> None:
    with torch.device("meta"):
        method = SimMIMMethod(SwinBackbone(window_size=6))
    assert method.grid == (6, 6)
    assert method.restoration_head.linear.weight.shape == (32 * 32, 1024)
    assert method.mask_token.mask_token.shape == (128,)


def test_misfits_are_refused() -> None:
    method, batch = swin_method(), batch_of()
    with pytest.raises(ValueError, match=r"view_1 must be \(B, C, 16, 16\), got \(4, 1, 12, 12\)"):
        method({**batch, "view_1": batch["view_1"][..., :12, :12]}, START)
    with pytest.raises(
        ValueError, match=r"mask must be \(B, 16\).*cell of 4 pixels, got \(4, 9\); give RandMaskedViewsd"
    ):
        method({**batch, "mask": batch["mask"][:, :9]}, START)
    with pytest.raises(TypeError, match=r"SwinBackbone or a ViTBackbone.*got ResNetBackbone"):
        SimMIMMethod(ResNetBackbone(depth=18))  # type: ignore[arg-type]
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    with pytest.raises(ValueError, match=r"cell_size=5 and patch_size=2"):
        SimMIMMethod(backbone, image_size=16, cell_size=5)
    with pytest.raises(ValueError, match=r"image_size=18 and strides\[-1\]=4"):
        SimMIMMethod(backbone, image_size=18, cell_size=4)
