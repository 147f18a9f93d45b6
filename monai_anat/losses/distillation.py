"""Self-distillation loss of DINO and the running center of its teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.distributed import sum_over_processes
from monai_anat.precision import same_precision

__all__ = ["DistillationCenter", "check_temperatures", "self_distillation"]


def check_temperatures(**temperatures: float) -> None:
    """Check that every temperature is positive.

    Args:
        temperatures: temperatures by argument name.

    Raises:
        ValueError: if a temperature is 0 or less.

    >>> check_temperatures(student_temperature=0.1, teacher_temperature=0.04)
    """
    if min(temperatures.values()) <= 0:
        got = ", ".join(f"{name}={temperature}" for name, temperature in temperatures.items())
        raise ValueError(
            f"temperatures must be positive, got {got}; DINO uses 0.1 for the student and 0.04 for the teacher"
        )


def self_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    center: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    r"""Compute the cross-entropy between the sharpened, centered teacher and the student.

    .. math:: -\frac{1}{B} \sum_b \mathrm{softmax}((t_b - c) / \tau_t) \cdot \log \mathrm{softmax}(s_b / \tau_s)

    DINO (Caron et al., ICCV 2021, arXiv:2104.14294), equation 1 with the centering of section 3.1. The teacher
    receives no gradient.

    Args:
        student_logits: prototype scores (B, K) of the student.
        teacher_logits: prototype scores (B, K) of the teacher, for another view of the same images.
        center: (K,), running mean of the teacher's logits, see :class:`DistillationCenter`.
        student_temperature: temperature of the student; 0.1 in DINO.
        teacher_temperature: temperature of the teacher; 0.04 to 0.07 in DINO. A lower value sharpens the target.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes differ or a temperature is not positive.

    >>> logits = torch.zeros(2, 4)
    >>> round(self_distillation(logits, logits, torch.zeros(4), 0.1, 0.04).item(), 4)  # log 4
    1.3863
    """
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise ValueError(
            "student_logits and teacher_logits must both be (B, K), "
            f"got {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}; pair the rows of the views first"
        )
    check_temperatures(student_temperature=student_temperature, teacher_temperature=teacher_temperature)
    student_logits, teacher_logits, center = same_precision(student_logits, teacher_logits, center)
    target = F.softmax((teacher_logits.detach() - center) / teacher_temperature, dim=1)
    log_student = F.log_softmax(student_logits / student_temperature, dim=1)
    return -(target * log_student).sum(1).mean()


class DistillationCenter(nn.Module):
    r"""Running mean of the teacher's logits, over all processes: ``c <- m c + (1 - m) mean``.

    DINO (arXiv:2104.14294), equation 4. Each forward pass (micro-batch) of an optimizer step adds its logits with
    :meth:`observe`. :meth:`update`, called from ``after_step``, moves the center once. Logits that are not finite leave
    the center unchanged.

    Args:
        num_prototypes: number of prototypes K.
        momentum: weight m of the old center.

    Raises:
        ValueError: if the momentum is outside [0, 1).

    >>> center = DistillationCenter(2, momentum=0.5)
    >>> center.observe(torch.tensor([[2.0, 4.0]]))
    >>> center.update()
    >>> center.center
    tensor([1., 2.])
    """

    center: Tensor

    def __init__(self, num_prototypes: int, momentum: float = 0.9) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}; DINO uses 0.9")
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(num_prototypes))
        self._seen: list[Tensor] = []

    @torch.no_grad()
    def observe(self, teacher_logits: Tensor) -> None:
        """Collect logits (B, K) for the next :meth:`update`, in training mode only."""
        if self.training:
            total = teacher_logits.detach().to(self.center.dtype).sum(0)
            self._seen.append(torch.cat([total, total.new_full((1,), len(teacher_logits))]))

    @torch.no_grad()
    def update(self) -> None:
        """Move the center toward the mean of the logits observed since the last call, if there are any."""
        if not self._seen:
            return
        joint = sum_over_processes(torch.stack(self._seen).sum(0))
        self._seen.clear()
        moved = self.momentum * self.center + (1 - self.momentum) * joint[:-1] / joint[-1]
        self.center.copy_(torch.where(torch.isfinite(moved).all(), moved, self.center))
