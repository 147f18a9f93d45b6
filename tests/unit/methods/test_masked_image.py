"""Base of SimMIM and BEiT: hidden cells, their count, and error messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_anat.methods.masked_image import MaskedImageMethod
from monai_anat.networks import SwinBackbone, ViTBackbone
from monai_anat.schedules import Progress


class Seen(MaskedImageMethod):
    """The smallest subclass."""

    def __init__(self, backbone: SwinBackbone | ViTBackbone, **options: Any) -> None:
        super().__init__(backbone, **{"image_size": 16, "cell_size": 4, **options})
        self.loss_weights = {"size": 1.0}

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        return {"size": self.masked_map(batch["view_1"], self.get_mask(batch)).square().mean()}


def swin() -> SwinBackbone:
    return SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)


def vit() -> ViTBackbone:
    return ViTBackbone(image_size=16, patch_size=2, embed_dim=16, depth=2, num_heads=2, class_token=True)


@pytest.mark.parametrize("backbone", [swin, vit])
def test_the_map_depends_on_visible_cells_only(backbone: Any) -> None:
    torch.manual_seed(0)
    method = Seen(backbone()).eval()
    view, noise = torch.rand(2, 3, 1, 16, 16)
    mask = torch.rand(3, 16) < 0.5
    pixels = mask.reshape(3, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    expected = method.masked_map(view, mask)
    assert expected.shape == (3, method.backbone.num_features, *[16 // method.backbone.strides[-1]] * 2)
    assert torch.equal(method.masked_map(view + noise * pixels, mask), expected)
    assert not torch.isclose(method.masked_map(view + noise * ~pixels, mask), expected).all()
    # without hidden cells the map is that of the backbone
    shown = method.masked_map(view, torch.zeros_like(mask))
    torch.testing.assert_close(shown, method.backbone(view))


def test_hidden_cells_are_counted_and_the_backbone_is_kept() -> None:
    method = Seen(vit())
    assert method.loss_denominators({"mask": torch.arange(16).lt(5).repeat(2, 1)}) == {"mask_count": torch.tensor(10)}
    assert method.export_networks() == {"encoder": method.backbone}


def test_misfits_are_refused() -> None:
    method = Seen(vit())
    with pytest.raises(ValueError, match=r"view_1 must be \(B, C, 16, 16\), got \(1, 1, 8, 8\)"):
        method.masked_map(torch.zeros(1, 1, 8, 8), torch.zeros(1, 16, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask must be \(B, 16\), one entry for each cell of 4 pixels, got \(1, 4\)"):
        method.get_mask({"mask": torch.zeros(1, 4, dtype=torch.bool)})
    with pytest.raises(KeyError, match=r"batch lacks \['mask'\]"):
        method.get_mask({})
    with pytest.raises(ValueError, match=r"cell_size=3 and patch_size=2"):
        Seen(vit(), cell_size=3)
    with pytest.raises(ValueError, match=r"image_size=18 and strides\[-1\]=4"):
        Seen(swin(), image_size=18)
