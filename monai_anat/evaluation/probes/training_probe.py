"""Fast landmark probe for use during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from monai_anat.evaluation.cases import SegmentationCases, load_cases
from monai_anat.evaluation.landmark_lists import has_mask
from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.metrics.landmarks import (
    LUNG_LANDMARKS,
    correspondence_error,
    lung_landmarks,
    read_features,
    search_landmarks,
)
from monai_anat.visualize.correspondences import draw_correspondence

__all__ = ["TrainingProbe"]


class TrainingProbe:
    """Correspondence and nearest neighbors of lung landmarks between patients, for ``handlers.EncoderProbe``.

    Scores: ``landmark_error`` is the mean distance between the place where the features find a landmark in another
    patient and its true place, as a fraction of the image side. ``same_position_error`` is that of the same position.
    ``landmark_knn`` is the fraction of landmarks whose name the most similar features of other patients give (chance
    1/6). The figure shows the pair with the median error. Masks provide the landmarks; pass validation patients.

    Args:
        datalist: items ``{"image", "label", "patient"}`` with lung masks.
        image_size: side in pixels to which images are resized.
        mean: mean of the normalization.
        std: standard deviation of the normalization.
        max_images: number of images; the first ones with masks are used.
        neighbors: number of neighbors that vote.

    Raises:
        ValueError: if there are fewer than two patients with landmarks.
    """

    def __init__(
        self,
        datalist: Sequence[Mapping[str, Any]],
        image_size: int,
        *,
        mean: float = CHEST_MEAN,
        std: float = CHEST_STD,
        max_images: int = 16,
        neighbors: int = 5,
    ) -> None:
        masked = [item for item in datalist if has_mask(item)]
        self.cases: SegmentationCases = load_cases(masked[:max_images], image_size)
        self.image_size = image_size
        self.mean = mean
        self.std = std
        self.neighbors = neighbors
        self.points = torch.stack([lung_landmarks(mask) for mask in self.cases.labels])  # (N, K, 2)
        patients = self.cases.patients
        self.other = torch.tensor([[one != two for two in patients] for one in patients])  # (N, N)
        if not bool((self.other & self._seen().any(1)[:, None] & self._seen().any(1)[None]).any()):
            raise ValueError(
                f"datalist must hold two patients with lung landmarks, got {len(patients)} images of "
                f"{len(set(patients))} patients; look at the masks and at the patient names"
            )

    def __call__(self, encoder: nn.Module) -> tuple[dict[str, float], Figure | None]:
        """Measure an encoder.

        Args:
            encoder: network in evaluation mode, on its own device.

        Returns:
            Scores and figure. If features are not finite, scores are NaN or chance and there is no figure.
        """
        features = self._features(encoder)
        size = (self.image_size, self.image_size)
        queries = torch.stack([read_features(m, p, size) for m, p in zip(features, self.points, strict=True)])
        found = search_landmarks(queries, features, size)  # (source, target, K, 2)
        errors = self._errors(found)
        scores = {
            "landmark_error": _mean(errors),
            "same_position_error": _mean(self._errors(self.points[:, None].expand_as(found))),
            "landmark_knn": self._votes(queries),
        }
        return scores, self._picture(found, errors) if bool(torch.isfinite(errors).any()) else None

    @torch.no_grad()
    def _features(self, encoder: nn.Module) -> Tensor:
        """Centered dense features on the CPU, (N, D, h, w)."""
        device = next(encoder.parameters()).device
        batches = ((self.cases.images - self.mean) / self.std).split(16)
        features = torch.cat([encoder(batch.to(device)).float().cpu() for batch in batches])
        return features - features.mean(dim=(0, 2, 3), keepdim=True)

    def _seen(self) -> Tensor:
        return torch.isfinite(self.points).all(2)  # (N, K)

    def _errors(self, found: Tensor) -> Tensor:
        """Errors as fractions of the image side, (N, N, K); NaN for missing landmarks and pairs of one patient."""
        distance = correspondence_error(found, self.points[None], scale=self.image_size)
        return distance.masked_fill(~self.other[:, :, None], float("nan"))

    def _votes(self, queries: Tensor) -> float:
        """Fraction of landmarks named correctly by the most similar features of other patients."""
        count, kinds = self.points.shape[:2]
        unit = F.normalize(queries.flatten(0, 1), dim=1)
        allowed = self.other.repeat_interleave(kinds, 0).repeat_interleave(kinds, 1) & self._seen().flatten()
        alike = (unit @ unit.T).masked_fill(~allowed, -torch.inf)
        best, nearest = alike.topk(min(self.neighbors, count * kinds), dim=1)
        ballots = F.one_hot(nearest % kinds, kinds) * torch.isfinite(best)[:, :, None]
        named = ballots.sum(1).argmax(1).reshape(count, kinds)
        asked = self._seen() & allowed.any(1).reshape(count, kinds)
        return float((named == torch.arange(kinds))[asked].float().mean())

    def _picture(self, found: Tensor, errors: Tensor) -> Figure:
        mean = torch.nanmean(errors, dim=2)
        pairs = torch.nonzero(torch.isfinite(mean))
        order = mean[pairs[:, 0], pairs[:, 1]].argsort()
        source, target = pairs[order[len(order) // 2]].tolist()
        return draw_correspondence(
            self.cases.images[source],
            self.points[source],
            self.cases.images[target],
            found[source, target],
            self.points[target],
            LUNG_LANDMARKS,
        )


def _mean(values: Tensor) -> float:
    return float(torch.nanmean(values))
