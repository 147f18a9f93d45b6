"""Adam-v2 against recorded numbers: localizability of both kinds of stage, composition and decomposition."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.losses import DistillationCenter, composition_distance, decomposition_distance, multi_view_distillation
from monai_anat.losses.multi_view import distinct_pairs
from monai_anat.networks.heads.part_whole_heads import CompositionHead, DecompositionHead

LOCALIZABILITY = ["adam_v2_L_stageL", "adam_v2_L_stageLCD", "adam_v2_L_stageLCD_centered"]
PART_WHOLE = ["adam_v2_CD", "adam_v2_CD_d96"]


def localizability(entry: dict[str, Any], tensors: dict[str, Tensor], pairs: list[tuple[int, int]]) -> Tensor:
    inputs = entry["inputs"]
    student = tensors["student_logits"].chunk(inputs["n_student_views"])
    teacher = tensors["teacher_logits"].chunk(inputs["n_teacher_views"])
    center = tensors.get("initial_center", torch.zeros(1, student[0].shape[1]))[0]
    return multi_view_distillation(student, teacher, center, inputs["student_temp"], inputs["teacher_temp"], pairs)


@pytest.mark.parametrize("name", LOCALIZABILITY)
def test_localizability(
    name: str, recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    entry = reference("adam_v2")[name]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    tensors = recipes.build(inputs)
    pairs = distinct_pairs(2, 10) if inputs["stage"] == "L" else [(0, crop) for crop in range(9)]
    assert len(pairs) == expected["n_terms"]
    assert_agrees(localizability(entry, tensors, pairs), expected["loss"], tolerance)

    center = DistillationCenter(tensors["teacher_logits"].shape[1], inputs["center_momentum"])
    if "initial_center" in tensors:
        center.center.copy_(tensors["initial_center"][0])
    center.observe(tensors["teacher_logits"])
    center.update()
    assert_agrees(center.center[:6], expected["center_first6"], tolerance)
    assert_agrees(center.center.norm(), expected["center_norm"], tolerance)


def test_leaving_out_the_first_crop_does_not_agree(
    recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    """Losses for two equal lists of views leave out the pair of number 0 with number 0."""
    entry = reference("adam_v2")["adam_v2_L_stageLCD"]
    with pytest.raises(AssertionError):
        assert_agrees(
            localizability(entry, recipes.build(entry["inputs"]), distinct_pairs(1, 9)),
            entry["expected"]["loss"],
            entry["tolerance"],
        )


@pytest.mark.parametrize("name", PART_WHOLE)
def test_composition_and_decomposition(
    name: str, recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    entry = reference("adam_v2")[name]
    expected, tolerance = entry["expected"], entry["tolerance"]
    t = recipes.build(entry["inputs"])
    width = t["student_whole"].shape[1]
    compose, decompose = CompositionHead(width), DecompositionHead(width)
    compose.load_state_dict(t["compose_head"])
    decompose.load_state_dict(t["decompose_head"])
    student, teacher = (torch.stack([t[f"{who}_part{i}"] for i in range(4)], 1) for who in ("student", "teacher"))
    with torch.no_grad():
        composed, decomposed = compose(student), decompose(t["student_whole"])
    together = F.normalize(decomposed.flatten(1), dim=1).unflatten(1, (4, width))

    assert_agrees(F.normalize(composed, dim=1)[0, :6], expected["composed_first6"], tolerance)
    assert_agrees(together[0, 0, :6], expected["decomposed_first6"], tolerance)
    c = composition_distance(composed, t["teacher_whole"], reduction="mean")
    d = decomposition_distance(decomposed, teacher, reduction="mean")
    assert_agrees(c, expected["C"], tolerance)
    assert_agrees(d, expected["D_with_slice_normalisation"], tolerance)
    assert_agrees(decomposition_distance(decomposed, teacher), width * d.item(), {"rtol": 1e-5, "atol": 0})

    # the released form gives all parts one length together
    released = (together - F.normalize(teacher, dim=2)).square().mean()
    assert_agrees(released, expected["D"], tolerance)
    assert_agrees(entry["inputs"]["localizability_value"] + c + released, expected["total"], tolerance)
    with pytest.raises(AssertionError):
        assert_agrees(d, expected["D"], tolerance)
