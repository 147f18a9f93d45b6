"""Self-distillation over pairs of teacher and student views."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.losses.distillation import check_temperatures
from monai_anat.precision import same_precision

__all__ = ["distinct_pairs", "multi_view_distillation"]


def distinct_pairs(teacher_views: int, student_views: int) -> list[tuple[int, int]]:
    """Pair every teacher view with every student view except itself, as DINO does.

    Both sides number the views in the same way: the student sees the teacher's views first, then its own.

    Args:
        teacher_views: number of views of the teacher.
        student_views: number of views of the student.

    Returns:
        Pairs (teacher view, student view).

    >>> distinct_pairs(2, 3)
    [(0, 1), (0, 2), (1, 0), (1, 2)]
    """
    return [(t, s) for t in range(teacher_views) for s in range(student_views) if t != s]


def multi_view_distillation(
    student_logits: Sequence[Tensor] | Tensor,
    teacher_logits: Sequence[Tensor] | Tensor,
    center: Tensor,
    student_temperature: float,
    teacher_temperature: float,
    pairs: Sequence[tuple[int, int]],
) -> Tensor:
    r"""Compute the mean self-distillation loss over pairs of views.

    .. math:: -\frac{1}{|P| B} \sum_{(u, v) \in P} \sum_b
        \mathrm{softmax}((t_{ub} - c) / \tau_t) \cdot \log \mathrm{softmax}(s_{vb} / \tau_s)

    Equation 3 of DINO (Caron et al., ICCV 2021, arXiv:2104.14294) and the localizability of Adam-v2 (Hosseinzadeh
    Taher et al., CVPR 2024, arXiv:2404.15672). It equals the mean of :func:`self_distillation` over the pairs, but
    computes the softmax of each view once. The teacher receives no gradient.

    Differs from the released code: the pairs are an argument. The released code always omits the pair (0, 0), even if
    its two views are different images (Adam-v2, where the whole is the only view of the teacher).

    Args:
        student_logits: prototype scores (S, B, K) of the student, or S tensors (B, K).
        teacher_logits: prototype scores (T, B, K) of the teacher, or T tensors (B, K).
        center: (K,), running mean of the teacher's logits, see :class:`DistillationCenter`.
        student_temperature: temperature of the student; 0.1 in DINO.
        teacher_temperature: temperature of the teacher; 0.04 to 0.07 in DINO. A lower value sharpens the target.
        pairs: pairs (teacher view, student view); :func:`distinct_pairs` for DINO.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes differ, a temperature is not positive, there are no pairs, or a pair names a view that
            does not exist.

    >>> logits = torch.zeros(2, 3, 4)  # two views of three images
    >>> round(multi_view_distillation(logits, logits, torch.zeros(4), 0.1, 0.04, distinct_pairs(2, 2)).item(), 4)
    1.3863
    """
    student, teacher = tuple(student_logits), tuple(teacher_logits)
    shapes = {tuple(logits.shape) for logits in (*student, *teacher)}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(
            "student_logits and teacher_logits must hold (B, K) for each view, all of the same shape, got "
            f"{[tuple(logits.shape) for logits in student]} and {[tuple(logits.shape) for logits in teacher]}"
        )
    check_temperatures(student_temperature=student_temperature, teacher_temperature=teacher_temperature)
    if not pairs or any(not (0 <= t < len(teacher) and 0 <= s < len(student)) for t, s in pairs):
        raise ValueError(
            f"pairs must name at least one (teacher view, student view) of {len(teacher)} and {len(student)} views, "
            f"got {list(pairs)}; distinct_pairs({len(teacher)}, {len(student)}) gives those of DINO"
        )
    center, *views = same_precision(center, *teacher, *student)
    targets = [F.softmax((logits.detach() - center) / teacher_temperature, 1) for logits in views[: len(teacher)]]
    logs = [F.log_softmax(logits / student_temperature, 1) for logits in views[len(teacher) :]]
    return -torch.stack([(targets[t] * logs[s]).sum(1).mean() for t, s in pairs]).mean()
