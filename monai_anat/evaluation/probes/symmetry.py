"""Left-right symmetry probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_anat.data.items import DatalistError
from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.features import cosines
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.frozen_protocol import FrozenProtocol
from monai_anat.evaluation.landmark_lists import has_landmarks, load_landmarks, to_image
from monai_anat.evaluation.metric import Better, Metrics
from monai_anat.evaluation.patients import Items, other_patient
from monai_anat.evaluation.protocol import Measured, three_cases
from monai_anat.keys import IMAGE
from monai_anat.metrics.landmarks import read_features

__all__ = ["SymmetryProbe"]

Floats = NDArray[np.float64]


@dataclass(kw_only=True)
class SymmetryProbe(FrozenProtocol):
    """Cosine of dense features of an image and of its mirror image.

    The mirror image shows, at each place, what was on the other side of the body. An encoder that distinguishes the
    sides has low cosines off the midline and high ones at the midline. An encoder of textures has high cosines
    everywhere. ``same_anatomy`` compares each place with the place to which its own anatomy moved. ``side_told`` is the
    fraction of lateral places where that cosine is the higher one. ``control`` takes another patient. Features are
    centered.

    Args:
        midline: width of the midline as a fraction of the image width.
        lateral: distance from the midline beyond which a place is lateral, as a fraction of the image width.

    >>> SymmetryProbe(midline=0.1).name
    'symmetry'
    """

    least_grid: ClassVar[int] = 4
    name: ClassVar[str] = "symmetry"
    kinds: ClassVar[dict[str, tuple[Better, str]]] = {
        "midline": (None, "cosine"),
        "lateral": (None, "cosine"),
        "gap": ("higher", "cosine"),
        "same_anatomy": (None, "cosine"),
        "side_told": ("higher", "share"),
        "control": (None, "cosine"),
        "landmarks": (None, "cosine"),
    }

    midline: float = 0.2
    lateral: float = 0.2

    def measure(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Compute cosines by place."""
        encoder.prepare(items, {"": None, "mirror": _mirror})
        mean = encoder.mean_feature(items)
        points = self._points(encoder)
        off = np.abs((points[:, 1] + 0.5) / encoder.image_size - 0.5)
        middle, side = off <= self.midline / 2 + 1e-9, off >= self.lateral
        plain, mirrored = self._read(encoder, items, points, mean)
        place = cosines(plain, mirrored)  # (N, P)
        anatomy = cosines(plain, self._read(encoder, items, _flipped(points, encoder), mean)[1])
        partner = other_patient(bootstrap.patient_of, self.seed)
        values = {
            "midline": place[:, middle].mean(axis=1),
            "lateral": place[:, side].mean(axis=1),
            "same_anatomy": anatomy.mean(axis=1),
            "side_told": (anatomy > place)[:, side].mean(axis=1),
            "control": cosines(plain, mirrored[partner]).mean(axis=1),
        }
        values["gap"] = values["midline"] - values["lateral"]
        metrics = self.means(bootstrap, values)
        rows = [row for row, item in enumerate(items) if has_landmarks(item)]
        notes = []
        if rows:
            try:
                metrics |= self._landmarks(encoder, items, rows, bootstrap, mean)
            except DatalistError as error:  # the other metrics need no masks
                notes.append(f"There are no cosines at landmarks: {error}.")

        def describe(index: int) -> dict[str, Any]:
            rows = [[round(float(value), 3) for value in point] for point in points]
            return {"image": str(items[index][IMAGE]), "points": rows, "cosine": np.round(place[index], 3).tolist()}

        return Measured(metrics, three_cases(values["gap"], "higher", describe), notes=notes)

    def _points(self, encoder: FrozenEncoder) -> Floats:
        """Place points evenly over the image and symmetric to the midline, about one per cell, (P, 2)."""
        rows, columns = (
            (np.arange(count) + 0.5) * encoder.image_size / count - 0.5
            for count in (encoder.grid[0], encoder.grid[1] | 1)
        )
        return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)

    def _read(self, encoder: FrozenEncoder, items: Items, points: Floats, mean: Floats) -> tuple[Floats, Floats]:
        """Read features of the images and of their mirror images at points, (N, P, D) each."""
        where = torch.as_tensor(points, dtype=torch.float32)
        found: list[list[Tensor]] = [[], []]
        for start in range(0, len(items), encoder.batch_size):
            part = items[start : start + encoder.batch_size]
            for rows, (change, variant) in zip(found, ((None, ""), (_mirror, "mirror")), strict=True):
                maps = torch.as_tensor(encoder.feature_maps(part, change, variant))
                rows += [read_features(feature_map, where, encoder.extent) for feature_map in maps]
        plain, mirrored = (torch.stack(rows).double().numpy() - mean for rows in found)
        return plain, mirrored

    def _landmarks(
        self, encoder: FrozenEncoder, items: Items, rows: list[int], bootstrap: PatientBootstrap, mean: Floats
    ) -> Metrics:
        """Compute the cosine at the landmarks of the items in ``rows``, averaged over each side."""
        landmarks = load_landmarks([items[row] for row in rows])
        places = to_image(landmarks.points, landmarks.shapes[:, None], encoder.image_size)
        cosine = np.full(places.shape[:2], np.nan)
        for index, row in enumerate(rows):
            first, second = self._read(encoder, [items[row]], places[index], mean)
            cosine[index] = cosines(first[0], second[0])
        metrics = {}
        for side in ("right", "left"):
            chosen = [number for number, name in enumerate(landmarks.names) if side in name.split()]
            if chosen:
                metrics[f"landmarks/{side}"] = bootstrap.mean(cosine[:, chosen], rows, **self.kind("landmarks"))
        return metrics


def _mirror(images: Tensor) -> Tensor:
    return images.flip(3)


def _flipped(points: Floats, encoder: FrozenEncoder) -> Floats:
    return np.stack([points[:, 0], encoder.image_size - 1 - points[:, 1]], axis=1)
