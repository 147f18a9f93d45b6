"""SimSiam: symmetric prediction, stopped gradient, and published heads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import list_data_collate
from torch import Tensor, nn

from monai_anat.methods import RandContrastViewsd, SimSiamMethod
from monai_anat.networks import ResNetBackbone, SwinBackbone
from monai_anat.schedules import Progress

START = Progress(0, 1, 0, 1)


def tiny_method(**options: Any) -> SimSiamMethod:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    return SimSiamMethod(backbone, **{"embedding_dim": 24, "hidden_dim": 12, **options})


def patterned(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A coarse pattern per image, since batch normalization of nearly equal embeddings is mostly rounding."""
    coarse = np.random.RandomState(seed).randint(0, 256, (1, 3, 3))
    return coarse.repeat(8, 1).repeat(7, 2).astype(np.uint8)


def batch_of(count: int = 8) -> dict[str, Any]:
    views = RandContrastViewsd(image_size=16)
    return list_data_collate([views.set_random_state(seed)({"image": patterned(seed)}) for seed in range(count)])


#: used by the contract tests
CASE = SimpleNamespace(
    method=tiny_method,
    views=lambda: RandContrastViewsd(image_size=16),
    image=patterned,
    keeps_batch=False,  # batch normalization of the heads
)
MORE_CASES = {
    "resnet": SimpleNamespace(
        method=lambda: SimSiamMethod(ResNetBackbone(depth=18), embedding_dim=24, hidden_dim=12),
        views=lambda: RandContrastViewsd(image_size=64),
        image=patterned,
        keeps_batch=False,
        joint_batch=False,  # batch normalization of the backbone uses the images of one process
    ),
}


def normalized(x: Tensor, norm: nn.Module) -> Tensor:
    out = (x - x.mean(0)) / (x.var(0, unbiased=False) + norm.eps).sqrt()
    return out * norm.weight + norm.bias


def test_the_term_equals_the_formulas_layer_by_layer() -> None:
    torch.manual_seed(0)
    method, batch = tiny_method().train(), batch_of()
    first, norm_1, _, second, norm_2, _, third, norm_3 = method.similarity.projection
    hidden, norm_h, _, out = method.similarity.predictor
    z, p = [], []
    for name in ("view_1", "view_2"):
        tokens = torch.stack([method.backbone(view[None])[0].flatten(1).mean(1) for view in batch[name]])
        x = torch.relu(normalized(tokens @ first.weight.T, norm_1))
        x = torch.relu(normalized(x @ second.weight.T, norm_2))
        z.append(normalized(x @ third.weight.T, norm_3))
        p.append(torch.relu(normalized(z[-1] @ hidden.weight.T, norm_h)) @ out.weight.T + out.bias)
    expected = -(F.cosine_similarity(p[0], z[1]) + F.cosine_similarity(p[1], z[0])).mean() / 2
    torch.testing.assert_close(method(batch, START)["similarity"], expected, rtol=1e-4, atol=1e-5)
    wrong = -(F.cosine_similarity(p[0], z[0]) + F.cosine_similarity(p[1], z[1])).mean() / 2
    assert abs(wrong - expected) > 1e-4


def test_the_best_is_minus_one_and_opposite_predictions_give_one() -> None:
    method = tiny_method().train()
    view = batch_of()["view_1"]
    method.similarity.predictor = nn.Identity()
    assert method({"view_1": view, "view_2": view}, START)["similarity"].item() == pytest.approx(-1.0, abs=1e-6)
    method.similarity.predictor = nn.Linear(24, 24, bias=False)
    method.similarity.predictor.weight.data.copy_(-torch.eye(24))
    assert method({"view_1": view, "view_2": view}, START)["similarity"].item() == pytest.approx(1.0, abs=1e-6)


def test_the_gradient_stops_at_the_embedding_that_is_predicted() -> None:
    """With a predictor that ignores its input, only the predictor gets a gradient."""
    method, batch = tiny_method().train(), batch_of()
    method.similarity.predictor = nn.Sequential(nn.Linear(24, 24))
    nn.init.zeros_(method.similarity.predictor[0].weight)
    method(batch, START)["similarity"].backward()
    assert method.similarity.predictor[0].bias.grad.abs().max() > 0
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in method.backbone.parameters())
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in method.similarity.projection.parameters())


def test_the_two_views_are_alike() -> None:
    torch.manual_seed(0)
    method, batch = tiny_method().eval(), batch_of()
    swapped = {"view_1": batch["view_2"], "view_2": batch["view_1"]}
    torch.testing.assert_close(method(batch, START), method(swapped, START))


def test_batch_normalization_sees_each_view_alone() -> None:
    torch.manual_seed(0)
    method = SimSiamMethod(ResNetBackbone(depth=18), embedding_dim=24, hidden_dim=12).train()
    views = RandContrastViewsd(image_size=64)
    batch = list_data_collate([views.set_random_state(s)({"image": patterned(s)}) for s in range(4)])
    brighter = {**batch, "view_2": batch["view_2"] + 5}
    maps = [method.backbone(brighter[name]).mean((2, 3)) for name in ("view_1", "view_2")]
    z = [method.similarity.projection(m) for m in maps]
    p = [method.similarity.predictor(x) for x in z]
    expected = -(F.cosine_similarity(p[0], z[1]) + F.cosine_similarity(p[1], z[0])).mean() / 2
    torch.testing.assert_close(method(brighter, START)["similarity"], expected, rtol=1e-4, atol=1e-5)


def test_the_heads_and_the_predictors_rate_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        method = SimSiamMethod(ResNetBackbone(depth=50))
    linears = [m for m in (*method.similarity.projection, *method.similarity.predictor) if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [(2048, 2048)] * 3 + [(2048, 512), (512, 2048)]
    assert [m.bias is None for m in linears] == [True] * 4 + [False]
    assert not any(p.requires_grad for p in method.similarity.projection[-1].parameters())
    groups = method.param_groups(1e-4)
    fixed = {id(p) for group in groups if not group.get("scheduled", True) for p in group["params"]}
    assert fixed == {id(p) for p in method.similarity.predictor.parameters()}
    assert {group["weight_decay"] for group in groups if not group.get("scheduled", True)} == {1e-4, 0.0}


def test_misfits_are_refused() -> None:
    method, batch = tiny_method(), batch_of()
    with pytest.raises(ValueError, match=r"at least 2 images.*got 1"):
        method({name: view[:1] for name, view in batch.items()}, START)
    with pytest.raises(ValueError, match=r"one shape, got \(8, 1, 16, 16\) and \(4, 1, 16, 16\)"):
        method({**batch, "view_2": batch["view_2"][:4]}, START)
    with pytest.raises(ValueError, match=r"hidden_dim must be at least 1, got 0"):
        tiny_method(hidden_dim=0)
