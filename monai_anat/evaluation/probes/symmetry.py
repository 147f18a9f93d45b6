"""What the embedding makes of the two sides of the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_anat.data.items import DatalistError
from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.frozen import FrozenEncoder, cosines
from monai_anat.evaluation.frozen_protocol import FrozenProtocol, Items, Measured, three_cases
from monai_anat.evaluation.landmark_lists import has_landmarks, load_landmarks, to_image
from monai_anat.evaluation.probes.composition import other_patient
from monai_anat.keys import IMAGE
from monai_anat.metrics.landmarks import read_features

__all__ = ["SymmetryProbe"]

Floats = NDArray[np.float64]


@dataclass(kw_only=True)
class SymmetryProbe(FrozenProtocol):
    """Dense features of an image and of its mirror image, at the same place, by centered cosine.

    At the same place of the mirror image stands what was on the other side. An encoder that tells the sides apart gives
    low cosines there, and high ones at the midline; one that only knows textures gives high cosines everywhere.
    ``same_anatomy`` compares each place with the place to which its own anatomy went; ``side_told`` is the share of
    places off the midline where that is the more similar one of the two; ``control`` takes another patient.

    Args:
        midline: width of the midline, and
        lateral: distance from it beyond which a place is lateral, as shares of the image's width.

    >>> SymmetryProbe(midline=0.1).name
    'symmetry'
    """

    least_grid: ClassVar[int] = 4
    name: ClassVar[str] = "symmetry"
    kinds: ClassVar[dict[str, tuple[str | None, str]]] = {
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
        """Cosines by place."""
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
            except DatalistError as error:  # the rest needs no masks
                notes.append(f"There are no cosines at landmarks: {error}.")

        def describe(index: int) -> dict[str, Any]:
            rows = [[round(float(value), 3) for value in point] for point in points]
            return {"image": str(items[index][IMAGE]), "points": rows, "cosine": np.round(place[index], 3).tolist()}

        return Measured(metrics, three_cases(values["gap"], "higher", describe), notes=notes)

    def _points(self, encoder: FrozenEncoder) -> Floats:
        """Places, evenly over the image and mirror images of each other, as many as the map has cells, (P, 2)."""
        rows, columns = (
            (np.arange(count) + 0.5) * encoder.image_size / count - 0.5
            for count in (encoder.grid[0], encoder.grid[1] | 1)
        )
        return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)

    def _read(self, encoder: FrozenEncoder, items: Items, points: Floats, mean: Floats) -> tuple[Floats, Floats]:
        """Features of the images and of their mirror images at points, (N, P, D) each."""
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
    ) -> dict[str, dict[str, Any]]:
        """Cosine at each landmark of the items in ``rows``, averaged over those of either side."""
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
