"""Self-distillation with prototypes: the heads, the center and the temperatures of DINO."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from monai_anat.losses.distillation import DistillationCenter, check_temperatures, self_distillation
from monai_anat.losses.multi_view import multi_view_distillation
from monai_anat.methods.parts import MethodPart, frozen_copy
from monai_anat.networks.heads.prototypes import PrototypeHead

__all__ = ["SelfDistillation"]


class SelfDistillation(MethodPart):
    r"""Prototype heads of a student and its teacher, with the center of the teacher's scores.

    A head scores embeddings by K prototypes. The student's soft assignment follows the teacher's, which is sharpened
    and centered:

    .. math:: H(t, s) = -\mathrm{softmax}\Big(\frac{t - c}{\tau_t}\Big) \cdot
        \log \mathrm{softmax}\Big(\frac{s}{\tau_s}\Big)

    (Caron et al., ICCV 2021, arXiv:2104.14294). DINO, Lamps, ACE and Adam-v2 are composed with this part.

    Args:
        in_features: channels of an embedding.
        num_prototypes: K; ln K is the chance level of the loss.
        hidden_features: width of the two hidden layers of a head.
        bottleneck_features: width of the layer that is scaled to unit length.
        student_temperature: :math:`\tau_s`.
        teacher_temperature: :math:`\tau_t`, the default of the calls.
        center_momentum: weight of the old center.
        frozen_epochs: epochs at the start of a run in which the prototypes get no gradient.

    Raises:
        ValueError: if a temperature is not positive, ``frozen_epochs`` is negative, or the momentum is outside [0, 1).

    >>> distillation = SelfDistillation(8, num_prototypes=16, hidden_features=8, bottleneck_features=4)
    >>> views = torch.rand(2, 3, 8).unbind()  # two views of three images
    >>> distillation(views, views, pairs=[(0, 1), (1, 0)], epoch=0).shape
    torch.Size([])
    """

    def __init__(
        self,
        in_features: int,
        num_prototypes: int = 65536,
        *,
        hidden_features: int = 2048,
        bottleneck_features: int = 256,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        center_momentum: float = 0.9,
        frozen_epochs: int = 1,
    ) -> None:
        super().__init__()
        check_temperatures(student_temperature=student_temperature, teacher_temperature=teacher_temperature)
        if frozen_epochs < 0:
            raise ValueError(
                f"frozen_prototype_epochs must be at least 0, got {frozen_epochs}; 0 trains the prototypes at once"
            )
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.frozen_epochs = frozen_epochs
        self.head = PrototypeHead(
            in_features,
            num_prototypes,
            hidden_features=hidden_features,
            bottleneck_features=bottleneck_features,
        )
        self.teacher_head = frozen_copy(self.head)
        self.center = DistillationCenter(num_prototypes, center_momentum)

    def scores(self, student: Tensor, teacher: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Score embeddings by the prototypes; the center observes the teacher's scores.

        Args:
            student: embeddings of the student (S, D).
            teacher: embeddings of the teacher (T, D).
            epoch: current epoch, from 0; decides whether the prototypes get a gradient.

        Returns:
            Scores of the student (S, K) and of the teacher (T, K), the latter without a gradient.
        """
        student_scores: Tensor = self.head(student, frozen_prototypes=epoch < self.frozen_epochs)
        with torch.no_grad():
            teacher_scores: Tensor = self.teacher_head(teacher)
        self.center.observe(teacher_scores)
        return student_scores, teacher_scores

    def compare(self, student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
        """Average :math:`H` over rows that belong together.

        Args:
            student_scores: (B, K).
            teacher_scores: (B, K).

        Returns:
            The scalar of :func:`~monai_anat.losses.self_distillation`.
        """
        return self_distillation(
            student_scores, teacher_scores, self.center.center, self.student_temperature, self.teacher_temperature
        )

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        pairs: Sequence[tuple[int, int]],
        epoch: int,
        teacher_temperature: float | None = None,
    ) -> Tensor:
        """Average :math:`H` over pairs of views and over the batch.

        Args:
            student: embeddings (B, D) of each view of the student.
            teacher: embeddings (B, D) of each view of the teacher, without a gradient.
            pairs: (teacher view, student view) each; :func:`~monai_anat.losses.distinct_pairs` for DINO.
            epoch: current epoch, from 0; decides whether the prototypes get a gradient.
            teacher_temperature: replaces the temperature of the constructor, for a warm-up.

        Returns:
            The scalar of :func:`~monai_anat.losses.multi_view_distillation`.
        """
        student_scores, teacher_scores = self.scores(torch.cat(tuple(student)), torch.cat(tuple(teacher)), epoch)
        return multi_view_distillation(
            student_scores.chunk(len(student)),
            teacher_scores.chunk(len(teacher)),
            self.center.center,
            self.student_temperature,
            self.teacher_temperature if teacher_temperature is None else teacher_temperature,
            pairs,
        )

    def student_teacher_pairs(self) -> list[tuple[torch.nn.Module, torch.nn.Module]]:
        """Pair the student's head with the teacher's."""
        return [(self.head, self.teacher_head)]

    def update_center(self) -> None:
        """Move the center to the scores that it observed since the last call; call it from ``after_step``."""
        self.center.update()
