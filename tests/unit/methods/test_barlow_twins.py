"""Barlow Twins: both terms against the full matrix, the projector, and the learning rate of biases."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from monai_anat.methods import BarlowTwinsMethod, RandContrastViewsd, asymmetric_appearances
from monai_anat.networks import SwinBackbone
from monai_anat.schedules import Progress

START = Progress(0, 1, 0, 1)


def tiny_method(**options: Any) -> BarlowTwinsMethod:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    return BarlowTwinsMethod(backbone, **{"embedding_dim": 24, **options})


#: used by the contract tests
CASE = SimpleNamespace(
    method=tiny_method,
    views=lambda: RandContrastViewsd(image_size=16, area=(0.08, 1.0), appearance=asymmetric_appearances()),
    image=lambda seed: np.kron(np.random.RandomState(seed).randint(0, 256, (1, 3, 3)), np.ones((8, 7))).astype(
        np.uint8
    ),
    keeps_batch=False,  # the correlation is a statistic of the batch
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
            method.correlation.projector(
                torch.cat([method.backbone(image[None]) for image in batch[name]]).mean((2, 3))
            ).double()
            for name in ("view_1", "view_2")
        )
    units = [(z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (z_1, z_2)]
    matrix = units[0].T @ units[1] / 6
    slow = {
        "agreement": sum((1 - matrix[i, i]) ** 2 for i in range(24)),
        "redundancy": sum(matrix[i, j] ** 2 for i in range(24) for j in range(24) if i != j),
    }
    assert set(terms) == set(slow) == set(method.loss_weights)
    for name in slow:
        torch.testing.assert_close(terms[name].double(), slow[name], rtol=1e-5, atol=1e-5, msg=name)


def test_an_encoder_that_sees_cells_agrees_only_for_pairs_of_equal_images(cell_backbone: Any) -> None:
    method = BarlowTwinsMethod(cell_backbone(4))
    method.correlation.projector = nn.Identity()
    view = batch_of()["view_1"]
    assert method({"view_1": view, "view_2": view}, START)["agreement"].item() == pytest.approx(0, abs=1e-4)
    assert method({"view_1": view, "view_2": view.roll(1, 0)}, START)["agreement"] > 1


def test_published_widths_weights_and_rates() -> None:
    method = tiny_method()
    assert method.loss_weights == {"agreement": 1.0, "redundancy": 0.005}
    with torch.device("meta"):
        projector = tiny_method(embedding_dim=8192).correlation.projector
    linears = [layer for layer in projector if isinstance(layer, nn.Linear)]
    assert [layer.weight.shape[0] for layer in linears] == [8192] * 3
    assert all(layer.bias is None for layer in linears)
    scales = {group["name"]: group.get("lr_scale", 1.0) for group in method.param_groups(1e-6)}
    assert scales == {"decayed": 1.0, "undecayed": pytest.approx(0.024)}
    assert set(tiny_method(redundancy_weight=0.0)(batch_of(), START)) == {"agreement"}


def test_misfits_are_refused() -> None:
    method, batch = tiny_method(), batch_of()
    with pytest.raises(ValueError, match=r"at least 2 images.*got 1; set batch_size"):
        method({name: view[:1] for name, view in batch.items()}, START)
    with pytest.raises(ValueError, match=r"undecayed_lr_scale must be positive, got 0"):
        tiny_method(undecayed_lr_scale=0)
    with pytest.raises(ValueError, match="at least 0"):
        tiny_method(redundancy_weight=-1.0)
