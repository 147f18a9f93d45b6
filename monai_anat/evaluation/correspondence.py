"""The foundation's probe: do dense features find the same anatomy in another patient?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..engines import autocast_dtype
from ..metrics import (
    LUNG_LANDMARKS,
    correspondence_error,
    lung_landmarks,
    match_landmarks,
    read_features,
    search_landmarks,
    thorax_width,
)
from ..networks import Backbone
from .cases import SegmentationCases, load_cases
from .frozen import random_backbone
from .paired import nan_mean

__all__ = ["CorrespondenceProbe"]


@dataclass
class CorrespondenceProbe:
    """Nearest-neighbour correspondence of lung landmarks between patients, on frozen dense features.

    Six landmarks of the lung masks (:func:`~monai_anat.metrics.lung_landmarks`) are taken in one image and searched in
    the image of every other patient by the cosine of the encoder's features. Errors are fractions of the image side,
    and of the thorax width. Beside the encoder stand the same position (no features at all, strong on aligned
    radiographs) and the same architecture with random weights.

    Args:
        image_size: side in pixels at which the encoder sees the whole image.
        level: which feature map is used; -1 is the last.
        center: subtract the mean feature of all images first, so that what they all share does not hide the rest.
        temperature: of the sub-cell refinement; 0 takes centres of cells.
        mean: of the normalisation that the encoder was trained with, one number or one per channel.
        std: of that normalisation.
        random_seeds: random initialisations to compare with; their mean is given.
        precision: "auto", "bf16" or "fp32".
        device: where to compute.

    >>> CorrespondenceProbe(image_size=112).level
    -1
    """

    image_size: int = 224
    level: int = -1
    center: bool = True
    temperature: float = 0.05
    mean: float | Sequence[float] = 0.5056
    std: float | Sequence[float] = 0.252
    random_seeds: Sequence[int] = (0,)
    precision: str = "fp32"
    device: str | torch.device = "cpu"

    def run(self, encoder: Backbone, datalist: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Measure an encoder on every ordered pair of images of different patients.

        Args:
            encoder: the encoder; left in the mode in which it was.
            datalist: items ``{"image", "label", "patient"}``.

        Returns:
            ``error``, ``error_same_position`` and ``error_random`` (means, fractions of the image side), the same with
            ``_thorax`` (fractions of the thorax width), ``by_landmark``, ``pairs`` and ``image_size``.

        Raises:
            ValueError: if there are no two patients with a common landmark.
        """
        return self.measure(encoder, load_cases(datalist, self.image_size))

    def measure(self, encoder: Backbone, cases: SegmentationCases) -> dict[str, Any]:
        """As :meth:`run`, on images that are in memory already."""
        points = torch.stack([lung_landmarks(mask) for mask in cases.labels])  # (N, K, 2)
        other = torch.tensor([[one != two for two in cases.patients] for one in cases.patients])
        pairs = other & torch.isfinite(points[:, None] + points[None]).all(dim=3).any(dim=2)  # (N, N)
        if not pairs.any():
            raise ValueError(
                f"datalist must hold two patients with a common landmark, got {len(cases)} images of "
                f"{len(set(cases.patients))} patients; look at the masks and at the patient names"
            )
        errors = {
            "": self._errors(self._features(encoder, cases.images), points)[pairs],
            "_same_position": correspondence_error(points[:, None], points[None])[pairs],
        }
        if self.random_seeds:
            drawn = [self._features(random_backbone(encoder, seed), cases.images) for seed in self.random_seeds]
            errors["_random"] = torch.stack([self._errors(maps, points)[pairs] for maps in drawn]).mean(0)
        widths = torch.tensor([thorax_width(points[j]) for j in pairs.nonzero()[:, 1]])[:, None]
        result: dict[str, Any] = {"image_size": self.image_size, "pairs": int(pairs.sum())}
        for name, error in errors.items():
            result[f"error{name}"] = float(nan_mean(error / self.image_size))
            result[f"error{name}_thorax"] = float(nan_mean(error / widths))
        result["by_landmark"] = {
            landmark: {
                f"error{name}": float(nan_mean(error[:, index] / self.image_size)) for name, error in errors.items()
            }
            for index, landmark in enumerate(LUNG_LANDMARKS)
        }
        return result

    def match(self, encoder: Backbone, cases: SegmentationCases, source: int, target: int) -> dict[str, Tensor]:
        """One pair for a picture: ``landmarks`` in the source, ``found`` and ``truth`` in the target, (K, 2) each."""
        features = self._features(encoder, cases.images)
        landmarks, truth = (lung_landmarks(cases.labels[index]) for index in (source, target))
        size = (self.image_size, self.image_size)
        found = match_landmarks(features[source], landmarks, features[target], size, self.temperature)
        return {"landmarks": landmarks, "found": found, "truth": truth}

    def _errors(self, features: Tensor, points: Tensor) -> Tensor:
        """Distances in pixels from every image (first) to every image (second), (N, N, K)."""
        size = (self.image_size, self.image_size)
        queries = torch.stack([read_features(one, there, size) for one, there in zip(features, points, strict=True)])
        return correspondence_error(search_landmarks(queries, features, size, self.temperature), points[None])

    @torch.no_grad()
    def _features(self, encoder: Backbone, images: Tensor) -> Tensor:
        """Dense features of all images on the CPU, (N, D, h, w)."""
        device = torch.device(self.device)
        dtype = autocast_dtype(self.precision, device)
        training = encoder.training
        encoder.eval().to(device)
        parts = []
        mean, std = (torch.as_tensor(value).reshape(1, -1, 1, 1) for value in (self.mean, self.std))
        for batch in ((images.expand(-1, encoder.in_channels, -1, -1) - mean) / std).split(16):
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                parts.append(encoder.forward_features(batch.to(device))[self.level].float().cpu())
        encoder.train(training)
        features = torch.cat(parts)
        return features - features.mean(dim=(0, 2, 3), keepdim=True) if self.center else features
