"""What the methods that contrast a query with keys of a moving average share: MoCo v2, and those built on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.losses.contrastive import KeyQueue, pruned_info_nce
from monai_anat.methods.base import TeacherStudentMethod, mean_token
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.precision import at_least_float32
from monai_anat.schedules import Progress

__all__ = ["MomentumContrastMethod"]


class MomentumContrastMethod(TeacherStudentMethod):
    r"""A student's query of one view against a teacher's key of the other, and keys of earlier images.

    MoCo v2 (He et al., CVPR 2020, arXiv:1911.05722; Chen et al., 2020, arXiv:2003.04297): the mean of the last feature
    map goes through Linear, ReLU, Linear to a unit vector, the *query*; the moving average of backbone and projection
    makes the *key* of the other view; keys of earlier steps wait in a queue as negatives.

    Differs from the released code: the teacher is in evaluation mode and normalizes by the student's running
    statistics, which leaves nothing to shuffle between devices; keys are enqueued after the optimizer step, and only in
    training; the batch over all processes must divide the queue.

    A subclass registers the backbone and names it in ``export_networks``.

    Args:
        backbone: any backbone of the contract.
        embedding_dim: width of queries and keys.
        hidden_dim: width of the projection's hidden layer; that of the backbone if None.
        queue_size: how many keys wait.
        temperature: of the contrast.

    Raises:
        ValueError: for a queue without rows, or a temperature that is not positive.
    """

    def __init__(
        self, backbone: Backbone, *, embedding_dim: int, hidden_dim: int | None, queue_size: int, temperature: float
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}; MoCo v2 has 0.2")
        self.temperature = temperature
        hidden = backbone.num_features if hidden_dim is None else hidden_dim
        self.projection = nn.Sequential(  # the keys of the published files are fc.0 and fc.2
            nn.Linear(backbone.num_features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, embedding_dim)
        )
        self.teacher = nn.ModuleDict(
            {"backbone": self.teacher_of(backbone), "projection": self.teacher_of(self.projection)}
        )
        self.queue = KeyQueue(queue_size, embedding_dim)

    def contrast(
        self, feature_map: Tensor, other_view: Tensor, prune_threshold: float | Tensor | None = None
    ) -> Tensor:
        """Contrast the student's feature map of one view with the teacher's key of the other; the key is remembered.

        Args:
            feature_map: (B, D, h, w[, d]), the backbone's last map of one view.
            other_view: (B, C, H, W[, D]), another view of the same images, row by row.
            prune_threshold: cosine from which on a key of the queue is no negative; None keeps all.

        Returns:
            The scalar of :func:`~monai_anat.losses.pruned_info_nce`.
        """
        query = _unit_embedding(self.projection, feature_map)
        with torch.no_grad():
            key = _unit_embedding(self.teacher["projection"], self.teacher["backbone"](other_view))
        self.queue.observe(key)
        return pruned_info_nce(query, key, self.queue.keys, self.temperature, prune_threshold)

    def student_teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pair backbone and projection with those that make the keys."""
        students = {"backbone": self.export_networks()["encoder"], "projection": self.projection}
        return [(students[name], teacher) for name, teacher in self.teacher.items()]

    def after_step(self, progress: Progress) -> None:
        """Enqueue the keys of the step."""
        self.queue.update()


def _unit_embedding(projection: nn.Module, feature_map: Tensor) -> Tensor:
    """(B, D, h, w[, d]) -> unit vectors (B, embedding_dim), float32 also under autocast."""
    embedding: Tensor = projection(mean_token(feature_map))
    return F.normalize(at_least_float32(embedding), dim=1)
