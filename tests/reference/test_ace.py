"""ACE against recorded numbers: targets, both matching terms, self-distillation, overlap means, heads."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.losses import DistillationCenter, matching_cross_entropy, self_distillation
from monai_anat.networks.heads.matching_heads import DenseHead, DownsamplingHead, UpsamplingHead, masked_mean
from monai_anat.transforms.cell_matches import shifted_inside, soft_match_targets

TOKENS = (14, 14)


def offsets_of(geometries: list[list[int]]) -> Tensor:
    """(B, 2): from the first cell of the large crop to that of the small one."""
    return torch.tensor([[r2 - r1, c2 - c1] for r1, c1, r2, c2 in geometries])


def to_large(offset: Tensor) -> Tensor:
    return soft_match_targets(offset, TOKENS, (28, 28), radius=2)


def to_small(offset: Tensor) -> Tensor:
    return soft_match_targets(-offset // 2, TOKENS, (7, 7), radius=1)


@pytest.mark.parametrize("name", [f"ace_targets_{letter}" for letter in "abcde"])
def test_targets(name: str, reference: Callable[..., Any], assert_agrees: Callable[..., None]) -> None:
    entry = reference("ace_targets")[name]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    offset = offsets_of([inputs["geometry"]])
    for which, targets in (("l2s", to_large(offset)[0]), ("s2l", to_small(offset)[0])):
        assert list(targets.shape) == inputs[f"{which}_shape"]
        rows, columns = zip(*inputs[f"{which}_index"], strict=True)
        assert_agrees(targets[list(rows), list(columns)], expected[f"{which}_entries"], tolerance)
        assert_agrees(targets.sum(), expected[f"{which}_sum"], tolerance)
        assert_agrees(targets.max(), expected[f"{which}_max"], tolerance)
        assert_agrees((targets > 0).sum(), expected[f"{which}_nonzero"], tolerance)
    assert_agrees(shifted_inside(-offset // 2, TOKENS, (7, 7)).sum(), expected["n_overlap_large"], tolerance)
    assert_agrees(shifted_inside(offset, TOKENS, (28, 28)).sum(), expected["n_overlap_small"], tolerance)


@pytest.mark.parametrize("name", [f"ace_targets_{letter}" for letter in "abcde"])
def test_exchanged_rows_and_columns_pair_other_anatomy(name: str, reference: Callable[..., Any]) -> None:
    """The released pairs are right only if both offsets are equal."""
    entry = reference("ace_targets")[name]
    offset = offsets_of([entry["inputs"]["geometry"]])
    right, released = (
        {tuple(pair) for pair in to_large(o)[0].eq(1).nonzero().tolist()} for o in (offset, offset.flip(1))
    )
    assert len(released) == entry["expected"]["released_small_pairs"]
    assert len(released & right) == entry["expected"]["released_small_pairs_right"]


def terms_of(t: dict[str, Any], offset: Tensor) -> tuple[Tensor, Tensor]:
    """Decomposition and composition with unnormalized tokens of the student (the released scale)."""
    decomposition = t["teacher_dense_crop2"] @ t["student_up_crop1"].mT / 0.07
    composition = t["teacher_dense_crop1"] @ t["student_down_crop2"].mT / 0.07
    return (
        matching_cross_entropy(decomposition, to_large(offset), 0.99),
        matching_cross_entropy(composition, to_small(offset), 0.9),
    )


@pytest.mark.parametrize("name", ["ace_losses_b2", "ace_losses_b3"])
def test_losses(
    name: str, recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    entry = reference("ace")[name]
    expected, tolerance = entry["expected"], entry["tolerance"]
    t, offset = recipes.build(entry["inputs"]), offsets_of(entry["inputs"]["geometries"])
    decomposition, composition = terms_of(t, offset)
    center = DistillationCenter(128, momentum=0.9)
    center.center.copy_(t["initial_center"][0])
    s1, s2, *_ = t["student_head_logits"].chunk(4)  # overlap of crop 1, of crop 2, then the non-overlap rows
    t1, t2, *_ = t["teacher_head_logits"].chunk(4)
    both = self_distillation(s1, t2, center.center, 0.1, 0.04) + self_distillation(s2, t1, center.center, 0.1, 0.04)
    assert_agrees(decomposition, expected["decomposition"], tolerance)
    assert_agrees(composition, expected["composition"], tolerance)
    assert_agrees((decomposition + composition) / 2, expected["local"], tolerance)
    assert_agrees(both / 2, expected["global_"], tolerance)
    assert_agrees(0.05 * both + (decomposition + composition) / 2, expected["total"], tolerance)
    # the released center also observes rows outside the overlap
    center.observe(t["teacher_head_logits"])
    center.update()
    assert_agrees(center.center[:6], expected["center_after_first6"], tolerance)
    assert_agrees(center.center.norm(), expected["center_after_norm"], tolerance)


@pytest.mark.parametrize("name", ["ace_losses_b2", "ace_losses_b3"])
def test_weights_on_the_halves_of_the_cross_entropy_are_another_loss(
    name: str, recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    entry = reference("ace")[name]
    expected, tolerance = entry["expected"], entry["tolerance"]
    t, offset = recipes.build(entry["inputs"]), offsets_of(entry["inputs"]["geometries"])
    for which, value in zip(("decomposition", "composition"), terms_of(t, offset), strict=True):
        with pytest.raises(AssertionError):
            assert_agrees(value, expected[f"separately_weighted_bce_{which}"], tolerance)
    # the transposed matching does not agree
    for which, value in zip(("decomposition", "composition"), terms_of(t, offset.flip(1)), strict=True):
        with pytest.raises(AssertionError):
            assert_agrees(value, expected[which], tolerance)


def test_overlap_means(
    recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    entry = reference("ace")["ace_overlap_mean"]
    tokens, offset = recipes.build(entry["inputs"])["tokens"], offsets_of(entry["inputs"]["geometries"])
    inside = torch.cat([shifted_inside(-offset // 2, TOKENS, (7, 7)), shifted_inside(offset, TOKENS, (28, 28))])
    assert_agrees(masked_mean(tokens, inside), entry["expected"]["overlap_mean"], entry["tolerance"])
    assert_agrees(masked_mean(tokens, ~inside), entry["expected"]["nonoverlap_mean"], entry["tolerance"])


def test_heads(recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]) -> None:
    entry = reference("ace")["ace_dense_up_down"]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    t, width = recipes.build(inputs), inputs["arch"]["dim"]
    feature_map = t["tokens"].mT.unflatten(2, TOKENS)  # (B, D, 14, 14)
    heads = {"dense": DenseHead(width).train(), "up": UpsamplingHead(width), "down": DownsamplingHead(width)}
    for head, name in zip(heads.values(), ("dense", "upsample", "downsample"), strict=True):
        missing = head.load_state_dict(t[name], strict=False)
        assert not missing.unexpected_keys
        assert all(key.split(".")[-1].startswith(("running_", "num_batches")) for key in missing.missing_keys)
    with torch.no_grad():
        dense = heads["dense"](feature_map)
        maps = {"dense": dense, "up": heads["up"](dense), "down": heads["down"](dense)}  # both stand on the dense head
    for name, feature_map in maps.items():
        out = feature_map.flatten(2).mT  # (B, N, D)
        index = tuple(torch.tensor(inputs[f"{name}_entries"]).T)
        assert_agrees(out[index], expected[name], tolerance)
        assert_agrees(out.std(), expected[f"{name}_std"], tolerance)


def test_the_released_extra_normalization_changes_nothing() -> None:
    tokens = DenseHead(8)(torch.randn(2, 8, 4, 4))
    torch.testing.assert_close(F.normalize(tokens, dim=1), tokens)
