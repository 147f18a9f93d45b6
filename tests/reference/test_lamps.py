"""Lamps against recorded numbers: positions of quadrants and windows, three objectives, and the decoder."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.losses import matched_consistency, order_cross_entropy
from monai_anat.losses.smooth import smooth_l1
from monai_anat.networks.backbones.positions import sincos_positions
from monai_anat.networks.heads.context_decoder import ContextDecoder
from monai_anat.networks.heads.part_whole_heads import CompositionHead, DecompositionHead
from monai_anat.transforms.geometry import crop_slices
from monai_anat.transforms.windows import split_quadrants, window_cells

Read = Callable[..., Any]
Check = Callable[..., None]


def test_quadrants_and_windows(reference: Read, assert_agrees: Check) -> None:
    entry = reference("lamps")["lamps_quadrants"]
    draws, expected = entry["inputs"]["draws"], entry["expected"]
    places = torch.stack(torch.meshgrid(torch.arange(576), torch.arange(576), indexing="ij"))  # (2, 576, 576)
    corners = []
    for crop in ("1", "2"):
        window = crop_slices((draws["x" + crop], draws["y" + crop]), 14, 32)
        quadrants = split_quadrants(places[(slice(None), *window)], 2)
        assert quadrants.shape[2:] == (expected["quadrant_size"],) * 2
        corners += quadrants[:, :, 0, 0].tolist()
    assert_agrees(corners, expected["quadrant_topleft_row_col"])
    offsets = torch.tensor([[draws["x3"], draws["y3"]], [draws["x4"], draws["y4"]]])
    cells = window_cells(offsets, 11, (14, 14))
    assert_agrees(torch.stack([cells[:, 0] // 14, cells[:, 0] % 14], 1), expected["kept_window_topleft"])
    assert_agrees([len(row.unique()) for row in cells], expected["kept_cells"])
    assert_agrees([196 - len(row.unique()) for row in cells], expected["complement_cells"])


def missing_of(offsets: Tensor) -> Tensor:
    cells = window_cells(offsets, 11, (14, 14))
    return torch.ones(len(offsets), 196, dtype=torch.bool).scatter(1, cells, False)


def test_extrapolation(recipes: SimpleNamespace, reference: Read, assert_agrees: Check) -> None:
    """The released mean is over all 196 cells, of which 75 are missing."""
    entry = reference("lamps")["lamps_cycle0_b4"]
    t = recipes.build(entry["inputs"])
    missing = missing_of(torch.tensor(entry["inputs"]["kept_window_offsets"]))
    ours = smooth_l1(t["student_tokens"], t["teacher_tokens"], missing)
    assert_agrees(ours * 75 / 196, entry["expected"]["loss"], entry["tolerance"])
    with pytest.raises(AssertionError):
        assert_agrees(ours, entry["expected"]["loss"], entry["tolerance"])


def test_order(recipes: SimpleNamespace, reference: Read, assert_agrees: Check) -> None:
    entry = reference("lamps")["lamps_cycle1_b2"]
    expected, tolerance = entry["expected"], entry["tolerance"]
    t = recipes.build(entry["inputs"])
    order = t["perm"].repeat(2, 1)
    term = order_cross_entropy(t["order_logits"].unflatten(0, (-1, 196)), order)
    consistency = matched_consistency(t["student_tokens"], t["teacher_tokens"], order)
    assert_agrees(term, expected["order"], tolerance)
    assert_agrees(consistency, expected["consistency_intended"], tolerance)
    assert_agrees(0.1 * term + consistency, expected["total_intended"], tolerance)


def test_the_released_target_of_the_order_is_one_token_for_a_whole_sample(
    recipes: SimpleNamespace, reference: Read, assert_agrees: Check
) -> None:
    entry = reference("lamps")["lamps_cycle1_b2"]
    t = recipes.build(entry["inputs"])
    flat = t["perm"].repeat(2, 1).flatten()
    released = torch.stack([t["teacher_tokens"][i, flat[i]].expand(196, -1) for i in range(4)])
    assert_agrees(
        F.mse_loss(t["student_tokens"], released), entry["expected"]["consistency_released"], entry["tolerance"]
    )
    assert released.std(1).max() == 0
    intended = t["teacher_tokens"].gather(1, t["perm"].repeat(2, 1)[:, :, None].expand(-1, -1, 64))
    torch.testing.assert_close(intended.std(1), t["teacher_tokens"].std(1))


def test_hierarchy(recipes: SimpleNamespace, reference: Read, assert_agrees: Check) -> None:
    entry = reference("lamps")["lamps_cycle2_b3"]
    expected, tolerance = entry["expected"], entry["tolerance"]
    t = recipes.build(entry["inputs"])
    composer = CompositionHead(1024, hidden_features=(1024, 1024), layer_norm=True)
    decomposer = DecompositionHead(1024, hidden_features=(4096,), layer_norm=True)
    for head, name in ((composer, "composer"), (decomposer, "decomposer")):
        head.load_state_dict({key.removeprefix("layer."): value for key, value in t[name].items()}, strict=True)
    student, teacher = (torch.stack([t[f"{who}_quadrant{i}"] for i in range(4)], 1) for who in ("student", "teacher"))
    with torch.no_grad():
        whole, parts = composer(student), decomposer(t["student_global_aug"])
    composition, decomposition = smooth_l1(whole, t["teacher_global_clean"]), smooth_l1(parts, teacher)
    assert_agrees(composition, expected["comp"], tolerance)
    assert_agrees(decomposition, expected["decomp"], tolerance)
    assert_agrees(composition + decomposition, expected["total"], tolerance)
    assert_agrees(whole[0, :8], expected["composer_first8"], tolerance)
    assert_agrees(whole.std(), expected["composer_std"], tolerance)
    assert_agrees(parts[0, :, :4], expected["decomposer_part_first4"], tolerance)
    with torch.no_grad():
        row_major = smooth_l1(composer(student[:, [0, 2, 1, 3]]), t["teacher_global_clean"])
    with pytest.raises(AssertionError):
        assert_agrees(row_major, expected["comp"], tolerance)


def test_positions(reference: Read, assert_agrees: Check) -> None:
    entry = reference("lamps")["lamps_pos_embed_64"]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    cells = sincos_positions(inputs["dim"], (inputs["grid"],) * 2, torch.float64)
    table = torch.cat(
        [torch.zeros(1, inputs["dim"], dtype=torch.float64), cells]
    )  # nothing is added to the class token
    assert list(table.shape) == expected["shape"]
    assert_agrees(table.sum(), expected["sum"], tolerance)
    assert_agrees(torch.stack([table[tuple(at)] for at in inputs["entries"]]), expected["entries"], tolerance)


def test_decoder(recipes: SimpleNamespace, reference: Read, assert_agrees: Check) -> None:
    entry = reference("lamps")["lamps_vitdecoder_reduced"]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    arch = inputs["arch"]
    shapes = {
        key.replace("blocks.0", f"blocks.{block}"): shape
        for key, shape in inputs["weights"]["keys"].items()
        for block in range(arch["depth"] if "blocks" in key else 1)
    }
    assert len(shapes) == inputs["weights"]["n"]
    decoder = ContextDecoder(arch["dim"], (arch["grid"],) * 2, depth=arch["depth"], num_heads=arch["heads"]).eval()
    missing, unexpected = decoder.load_state_dict(recipes.fill_state(shapes, "hfill"), strict=False)
    assert (missing, unexpected) == (["mask_token"], [])
    tokens = recipes.build(inputs)["tokens"]
    with torch.no_grad():
        predicted = decoder(tokens, torch.arange(196).repeat(2, 1))
    assert list(predicted.shape) == expected["shape"]
    assert_agrees(predicted.mean(), expected["mean"], tolerance)
    assert_agrees(predicted.std(), expected["std"], tolerance)
    assert_agrees(torch.stack([predicted[tuple(at)] for at in inputs["entries"]]), expected["entries"], tolerance)
