"""MoCo v3: symmetric contrast within the batch, heads, and frozen patch embedding."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import list_data_collate
from torch import Tensor, nn

from monai_anat.methods import MoCoV3Method, RandContrastViewsd, asymmetric_appearances
from monai_anat.networks import ResNetBackbone, SwinBackbone, ViTBackbone
from monai_anat.networks.backbones.positions import sincos_positions
from monai_anat.schedules import Progress
from monai_anat.transforms import RandDistort

START = Progress(0, 1, 0, 1)


def tiny_method(backbone: Any = None, **options: Any) -> MoCoV3Method:
    if backbone is None:
        backbone = ViTBackbone(image_size=16, patch_size=4, embed_dim=24, depth=1, num_heads=2)
    return MoCoV3Method(backbone, **{"embedding_dim": 12, "hidden_dim": 20, **options})


def tiny_views(image_size: int = 16, **options: Any) -> RandContrastViewsd:
    return RandContrastViewsd(image_size=image_size, appearance=asymmetric_appearances((0.1, 0.2)), **options)


def patterned(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A coarse pattern per image, so that images differ clearly."""
    coarse = np.random.RandomState(seed).randint(0, 256, (1, 6, 5))
    return coarse.repeat(8, 1).repeat(8, 2).astype(np.uint8)


#: used by the contract tests
COMMON = {"image": patterned, "keeps_batch": False}  # the other images of the batch are the negatives
CASE = SimpleNamespace(method=tiny_method, views=tiny_views, **COMMON)
MORE_CASES = {
    "frozen": SimpleNamespace(
        method=lambda: tiny_method(frozen_patch_embedding=True, fixed_positions=True), views=tiny_views, **COMMON
    ),
    "distorted": SimpleNamespace(method=tiny_method, views=lambda: tiny_views(distorter=RandDistort()), **COMMON),
    "resnet": SimpleNamespace(
        method=lambda: tiny_method(ResNetBackbone(depth=18)),
        views=lambda: tiny_views(64),
        joint_batch=False,  # batch normalization of the student uses the images of one process
        **COMMON,
    ),
}


def batch_of(count: int = 6, **options: Any) -> dict[str, Any]:
    views = tiny_views(**options)
    return list_data_collate([views.set_random_state(seed)({"image": patterned(seed)}) for seed in range(count)])


def moved_teacher(method: MoCoV3Method) -> MoCoV3Method:
    with torch.no_grad():
        for parameter in (p for _, teacher in method.student_teacher_pairs() for p in teacher.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return method


def by_layers(head: nn.Sequential, x: Tensor) -> Tensor:
    """The head, layer by layer."""
    for layer in head:
        if isinstance(layer, nn.Linear):
            assert layer.bias is None
            x = x @ layer.weight.T
        elif isinstance(layer, nn.ReLU):
            x = x.clamp(min=0)
        else:
            x = (x - x.mean(0)) / (x.var(0, unbiased=False) + layer.eps).sqrt() * layer.weight + layer.bias
    return x


def slow_term(method: MoCoV3Method, batch: dict[str, Any]) -> Tensor:
    """Algorithm 1 of the paper, image by image and score by score."""
    queries, keys = [], []
    for name in ("view_1", "view_2"):
        tokens = torch.cat([method.backbone(view[None]).mean((2, 3)) for view in batch[name]])
        queries.append(F.normalize(by_layers(method.prediction, by_layers(method.projection, tokens))))
        tokens = torch.cat([method.teacher["backbone"](view[None]).mean((2, 3)) for view in batch[name]])
        keys.append(F.normalize(by_layers(method.teacher["projection"], tokens)))
    total = torch.zeros(())
    for query, key in ((queries[0], keys[1]), (queries[1], keys[0])):
        rows = [
            torch.logsumexp(torch.stack([q @ k for k in key]) / 0.2, 0) - q @ key[b] / 0.2 for b, q in enumerate(query)
        ]
        total = total + 2 * 0.2 * torch.stack(rows).mean()
    return total


@pytest.mark.parametrize("training", [True, False])
def test_the_term_equals_the_formulas_layer_by_layer(training: bool) -> None:
    torch.manual_seed(0)
    method, batch = moved_teacher(tiny_method()).train(training), batch_of()
    slow = slow_term(method, batch)
    torch.testing.assert_close(method(batch, START)["contrast"], slow, rtol=1e-4, atol=1e-5)
    swapped = {"view_1": batch["view_2"], "view_2": batch["view_1"]}
    torch.testing.assert_close(method(swapped, START)["contrast"], slow, rtol=1e-4, atol=1e-5)
    assert abs(slow_term(method, {**batch, "view_2": batch["view_2"].roll(1, 0)}) - slow) > 1e-3


def test_an_encoder_that_sees_cells_is_best_only_for_pairs_of_equal_images(cell_backbone: Callable[..., Any]) -> None:
    method = tiny_method(cell_backbone(4), temperature=0.01)
    method.projection, method.prediction, method.teacher["projection"] = nn.Identity(), nn.Identity(), nn.Identity()
    view = torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert method({"view_1": view, "view_2": view}, START)["contrast"] < 1e-6
    assert method({"view_1": view, "view_2": view.roll(1, 0)}, START)["contrast"] > 1


def test_at_a_collapse_it_is_the_logarithm_of_the_batch() -> None:
    class Collapsed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ones(len(x), 4) + 0 * x.sum()

    method, view = tiny_method().train(), torch.ones(6, 1, 16, 16)
    # batch normalization of equal rows gives rounding errors, which unit length would magnify
    method.prediction, method.teacher["projection"] = Collapsed(), Collapsed()
    term = method({"view_1": view, "view_2": view}, START)["contrast"]
    assert term.item() == pytest.approx(4 * 0.2 * math.log(6), rel=1e-5)


def test_each_view_is_normalized_by_itself_also_in_a_resnet() -> None:
    torch.manual_seed(0)
    method, batch = tiny_method(ResNetBackbone(depth=18)).train(), batch_of(4, image_size=64)
    brighter = {**batch, "view_2": batch["view_2"] + 5}
    queries, keys = [], []
    with torch.no_grad():
        for name in ("view_1", "view_2"):
            feature_map = method.backbone(brighter[name]).mean((2, 3))
            queries.append(F.normalize(method.prediction(method.projection(feature_map))))
            keys.append(
                F.normalize(method.teacher["projection"](method.teacher["backbone"](brighter[name]).mean((2, 3))))
            )
    scores = queries[0] @ keys[1].T / 0.2, queries[1] @ keys[0].T / 0.2
    expected = 0.4 * sum(F.cross_entropy(score, torch.arange(4)) for score in scores)
    torch.testing.assert_close(method(brighter, START)["contrast"], expected, rtol=1e-4, atol=1e-5)


def test_frozen_patches_get_no_gradient_and_are_not_in_the_optimizer() -> None:
    method, batch = tiny_method(frozen_patch_embedding=True).train(), batch_of()
    method(batch, START)["contrast"].backward()
    frozen = list(method.backbone.patch_embed.parameters())
    assert frozen
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in frozen)
    assert method.backbone.pos_embed.grad is not None
    grouped = {id(p) for group in method.param_groups(0.1) for p in group["params"]}
    assert not grouped & {id(p) for p in frozen}
    assert all(p.requires_grad for p in tiny_method().backbone.parameters())


def test_positions_are_fixed_as_published_or_learned() -> None:
    method, batch = tiny_method(fixed_positions=True).train(), batch_of()
    method(batch, START)["contrast"].backward()
    positions = sincos_positions(method.backbone.num_features, method.backbone.grid)
    for backbone in (method.backbone, method.teacher["backbone"]):
        assert torch.equal(backbone.pos_embed[0], positions)
        assert backbone.pos_embed.grad is None
        assert not backbone.pos_embed.requires_grad
    assert tiny_method().backbone.pos_embed.requires_grad


def test_the_heads_are_those_of_the_paper_and_keep_no_running_statistics() -> None:
    with torch.device("meta"):
        method = MoCoV3Method(ViTBackbone())
    heads = [
        [layer for layer in head if isinstance(layer, nn.Linear)] for head in (method.projection, method.prediction)
    ]
    assert [[(m.in_features, m.out_features) for m in head] for head in heads] == [
        [(768, 4096), (4096, 4096), (4096, 256)],
        [(256, 4096), (4096, 256)],
    ]
    for head in (method.projection, method.prediction):
        assert not any(p.requires_grad for p in head[-1].parameters())
        assert [type(layer).__name__ for layer in list(head)[:3]] == ["Linear", "GlobalBatchNorm", "ReLU"]
        assert not list(head.buffers())
    assert method.temperature == 0.2
    assert [student for student, _ in method.student_teacher_pairs()] == [method.backbone, method.projection]
    assert method.export_networks() == {"encoder": method.backbone}


@pytest.mark.parametrize("dims", [2, 3])
def test_any_backbone_trains(dims: int) -> None:
    torch.manual_seed(0)
    sizes = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 2, "patch_size": 2}
    method = tiny_method(SwinBackbone(spatial_dims=dims, **sizes)).train()
    view = torch.randn(3, 1, *[16] * dims)
    method({"view_1": view, "view_2": view + 0.1 * torch.randn_like(view)}, START)["contrast"].backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.requires_grad)
    assert all(p.grad is None for _, teacher in method.student_teacher_pairs() for p in teacher.parameters())


def test_misfits_are_refused(cell_backbone: Callable[..., Any]) -> None:
    method, batch = tiny_method(), batch_of()
    with pytest.raises(ValueError, match=r"at least 2 images.*got 1; set batch_size"):
        method({name: view[:1] for name, view in batch.items()}, START)
    with pytest.raises(ValueError, match=r"one shape, got \(6, 1, 16, 16\) and \(4, 1, 16, 16\)"):
        method({**batch, "view_2": batch["view_2"][:4]}, START)
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0; MoCo v3 uses 0.2"):
        tiny_method(temperature=0)
    with pytest.raises(ValueError, match=r"backbone that embeds patches, got CellBackbone; take a ViTBackbone, or"):
        tiny_method(cell_backbone(4), frozen_patch_embedding=True)
    with pytest.raises(ValueError, match=r"fixed_positions needs a backbone with positions, got CellBackbone"):
        tiny_method(cell_backbone(4), fixed_positions=True)
