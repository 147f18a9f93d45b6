"""VICReg: the three terms against the full covariance matrix, and the expander."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from monai_anat.methods import RandContrastViewsd, VICRegMethod, asymmetric_appearances
from monai_anat.networks import SwinBackbone
from monai_anat.schedules import Progress

START = Progress(0, 1, 0, 1)
TERMS = {"invariance", "variance", "covariance"}


def tiny_method(**options: Any) -> VICRegMethod:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    return VICRegMethod(backbone, **{"embedding_dim": 24, **options})


#: used by the contract tests
CASE = SimpleNamespace(
    method=tiny_method,
    views=lambda: RandContrastViewsd(image_size=16, area=(0.08, 1.0), appearance=asymmetric_appearances()),
    image=lambda seed: np.kron(np.random.RandomState(seed).randint(0, 256, (1, 3, 3)), np.ones((8, 7))).astype(
        np.uint8
    ),
    keeps_batch=False,  # variance and covariance are statistics of the batch
    # batch normalization removes what is constant over the batch
    without_gradient=("expander.0.bias", "expander.3.bias"),
)


def batch_of(size: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(size, 1, 16, 16, generator=generator) for name in ("view_1", "view_2")}


def test_terms_equal_slow_separate_formulas() -> None:
    torch.manual_seed(0)
    method, batch = tiny_method(), batch_of()
    with torch.no_grad():
        terms = method(batch, START)
        z_1, z_2 = (
            method.expander(torch.cat([method.backbone(image[None]) for image in batch[name]]).mean((2, 3))).double()
            for name in ("view_1", "view_2")
        )
    matrices = [torch.cov(z.T) for z in (z_1, z_2)]
    slow = {
        "invariance": (z_1 - z_2).square().mean(),
        "variance": sum((1 - (z.var(0) + 1e-4).sqrt()).clamp(min=0).mean() for z in (z_1, z_2)) / 2,
        "covariance": sum((m - m.diag().diag()).square().sum() for m in matrices) / 24,
    }
    assert set(terms) == TERMS
    for name in TERMS:
        torch.testing.assert_close(terms[name].double(), slow[name], rtol=1e-5, atol=1e-6, msg=name)
    exchanged = method({"view_1": batch["view_2"], "view_2": batch["view_1"]}, START)
    for name in TERMS:
        torch.testing.assert_close(exchanged[name], terms[name], msg=name)


def test_an_encoder_that_sees_cells_gives_zero_only_for_pairs_of_equal_images(cell_backbone: Any) -> None:
    method = VICRegMethod(cell_backbone(4))
    method.expander = nn.Identity()
    view = batch_of()["view_1"]
    assert method({"view_1": view, "view_2": view}, START)["invariance"] == 0
    assert method({"view_1": view, "view_2": view.roll(1, 0)}, START)["invariance"] > 0.01


def test_published_widths_and_weights() -> None:
    assert tiny_method().loss_weights == {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}
    with torch.device("meta"):
        expander = tiny_method(embedding_dim=8192).expander
    assert [layer.weight.shape[0] for layer in expander if isinstance(layer, nn.Linear)] == [8192] * 3
    assert expander[-1].bias is None
    assert set(tiny_method(covariance_weight=0.0)(batch_of(), START)) == {"invariance", "variance"}


def test_misfits_are_refused() -> None:
    method, batch = tiny_method(), batch_of()
    with pytest.raises(ValueError, match=r"at least 2 images.*got 1; set batch_size"):
        method({name: view[:1] for name, view in batch.items()}, START)
    with pytest.raises(ValueError, match="must have one shape"):
        method({**batch, "view_2": batch["view_2"][:, :, :8]}, START)
    with pytest.raises(ValueError, match="one must be positive"):
        tiny_method(invariance_weight=0.0, variance_weight=0.0, covariance_weight=0.0)
