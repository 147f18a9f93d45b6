"""Momentum contrast: a query, a key of a moving average, and a queue of earlier keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.losses.contrastive import KeyQueue, pruned_info_nce
from monai_anat.methods.base import mean_token
from monai_anat.methods.parts import MethodPart, frozen_copy
from monai_anat.precision import at_least_float32

__all__ = ["MomentumContrast"]


class MomentumContrast(MethodPart):
    r"""Contrast of a student's query with a teacher's key and with the keys of earlier images.

    MoCo v2 (He et al., CVPR 2020, arXiv:1911.05722; Chen et al., 2020, arXiv:2003.04297): the mean of the last feature
    map goes through Linear, ReLU, Linear to a unit vector, the *query*. The moving averages of backbone and projection
    give the *key* of the other view. A queue holds the keys of earlier steps as negatives. MoCo v2, Adam and DiRA are
    composed with this part.

    Differs from the released code: the teacher is in evaluation mode and normalizes by running statistics, so that keys
    need not be shuffled between devices; keys enter the queue after the optimizer step, and only in training; the queue
    size must be a multiple of the batch size over all processes.

    Args:
        in_features: channels of the backbone's last map.
        embedding_dim: width of queries and keys.
        hidden_dim: width of the projection's hidden layer; ``in_features`` if None.
        queue_size: number of keys in the queue.
        temperature: temperature of the contrast.

    Raises:
        ValueError: if the queue has no rows, or the temperature is not positive.

    >>> contrast = MomentumContrast(8, embedding_dim=4, queue_size=16)
    >>> contrast(torch.rand(2, 8, 3, 3), torch.rand(2, 8, 3, 3)).shape
    torch.Size([])
    """

    def __init__(
        self,
        in_features: int,
        *,
        embedding_dim: int = 128,
        hidden_dim: int | None = None,
        queue_size: int = 65536,
        temperature: float = 0.2,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}; MoCo v2 uses 0.2")
        self.temperature = temperature
        hidden = in_features if hidden_dim is None else hidden_dim
        self.projection = nn.Sequential(
            nn.Linear(in_features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, embedding_dim)
        )
        self.teacher_projection = frozen_copy(self.projection)
        self.queue = KeyQueue(queue_size, embedding_dim)

    def forward(
        self, student_map: Tensor, teacher_map: Tensor, prune_threshold: float | Tensor | None = None
    ) -> Tensor:
        """Contrast the student's map of one view with the teacher's map of the other; the queue observes the key.

        Args:
            student_map: the student's last feature map of one view (B, D, h, w[, d]).
            teacher_map: the teacher's last feature map of another view of the same images, row by row.
            prune_threshold: cosine from which on a key of the queue is left out of the negatives; None keeps all.

        Returns:
            The scalar of :func:`~monai_anat.losses.pruned_info_nce`.
        """
        query = _unit_embedding(self.projection, student_map)
        with torch.no_grad():
            key = _unit_embedding(self.teacher_projection, teacher_map)
        self.queue.observe(key)
        return pruned_info_nce(query, key, self.queue.keys, self.temperature, prune_threshold)

    def student_teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pair the student's projection with the teacher's."""
        return [(self.projection, self.teacher_projection)]

    def enqueue(self) -> int:
        """Put the keys of this step, those of all processes, into the queue; call it from ``after_step``.

        Returns:
            The number of keys that entered.
        """
        return self.queue.update()


def _unit_embedding(projection: nn.Module, feature_map: Tensor) -> Tensor:
    """(B, D, h, w[, d]) -> unit vectors (B, embedding_dim), float32 also under autocast."""
    embedding: Tensor = projection(mean_token(feature_map))
    return F.normalize(at_least_float32(embedding), dim=1)
