"""Interpolation probe: linear prediction of embeddings along a line of windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.reading.radiograph import read_radiograph
from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.features import centered, cosines, unit
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.frozen_protocol import FrozenProtocol
from monai_anat.evaluation.metric import Better
from monai_anat.evaluation.patients import Items, other_patient
from monai_anat.evaluation.protocol import Measured, three_cases
from monai_anat.evaluation.windows import window_at
from monai_anat.keys import IMAGE

__all__ = ["InterpolationProbe"]

Floats = NDArray[np.float64]

#: positions of the embedded windows on the line from A (0) to B (1)
GRID = tuple(round(0.1 * step, 1) for step in range(11))


@dataclass(kw_only=True)
class InterpolationProbe(FrozenProtocol):
    r"""Linear prediction of the embedding of a window from those of two others on a line (Adam-v2, arXiv:2404.15672).

    Between windows A and B, at the fraction t of the way: :math:`(1 - t) E_A + t E_B`. Beyond B, by the fraction t of
    the distance: :math:`E_B + t (E_B - E_A)`. The prediction is compared with the embedding of the actual window.
    ``gain`` compares with the nearer end point, ``control`` with the window of another patient at the same place.

    Differs from the poster: it prints :math:`t E_A + (1 - t) E_B`, which is :math:`E_B` at A.

    Args:
        window: side of the windows as a fraction of the shorter side of the image.
        line: positions of A and B as fractions of the image, once from side to side and once from top to bottom. For
            extrapolation, B is half way between them.
        inside: fractions t of the way from A to B.
        outside: fractions t beyond B.

    Raises:
        ValueError: if windows would cross the border and be shifted off the line, or fractions are outside (0, 1].

    >>> InterpolationProbe(inside=(0.5,)).name
    'interpolation'
    """

    name: ClassVar[str] = "interpolation"
    kinds: ClassVar[dict[str, tuple[Better, str]]] = {
        "interpolation_cosine": ("higher", "cosine"),
        "interpolation_gain": ("higher", "cosine above the nearer end point"),
        "interpolation_error": ("lower", "distances from A to B"),
        "interpolation_rank_1": ("higher", "share"),
        "extrapolation_cosine": ("higher", "cosine"),
        "extrapolation_gain": ("higher", "cosine above the end point"),
        "extrapolation_error": ("lower", "distances from A to B"),
        "interpolation_control": (None, "cosine"),
        "extrapolation_control": (None, "cosine"),
    }

    window: float = 0.4
    line: tuple[float, float] = (0.25, 0.75)
    inside: tuple[float, ...] = (0.25, 0.5, 0.75)
    outside: tuple[float, ...] = (0.25, 0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.line
        if not (0 < self.window <= 1 and self.window / 2 <= low < high <= 1 - self.window / 2):
            raise ValueError(
                "line must keep the windows inside the image, from half a window to 1 less half a window, got "
                f"line={self.line} and window={self.window}"
            )
        if not self.inside or not self.outside or not all(0 < t <= 1 for t in (*self.inside, *self.outside)):
            raise ValueError(
                f"inside and outside must be shares in (0, 1], got inside={self.inside} and outside={self.outside}"
            )

    def measure(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Compare predicted and actual embeddings."""
        boxes, shares = self._boxes(items)
        features = encoder.window_embeddings(items, boxes).astype(np.float64)
        centered(features, axis=(0, 1))
        features = (features - features.mean(axis=(0, 1))).reshape(len(items), 2, len(shares), -1)
        place = {share: index for index, share in enumerate(shares)}
        others = features[other_patient(bootstrap.patient_of, self.seed)]
        grid = unit(features[:, :, [place[share] for share in GRID]])
        found: dict[str, list[Floats]] = {}

        def add(kind: str, predicted: Floats, share: float, nearer: Floats, span: Floats) -> None:
            actual, other = (embedded[:, :, place[share]] for embedded in (features, others))
            cosine = cosines(predicted, actual)
            error = np.linalg.norm(predicted - actual, axis=-1) / np.maximum(np.linalg.norm(span, axis=-1), 1e-12)
            found.setdefault(f"{kind}_cosine", []).append(cosine)
            found.setdefault(f"{kind}_gain", []).append(cosine - cosines(nearer, actual))
            found.setdefault(f"{kind}_error", []).append(error)
            found.setdefault(f"{kind}_control", []).append(cosines(predicted, other))

        ends = features[:, :, place[0.0]], features[:, :, place[1.0]]
        for t in self.inside:
            predicted = (1 - t) * ends[0] + t * ends[1]
            add("interpolation", predicted, t, ends[round(t)], ends[1] - ends[0])
            best = np.einsum("nld,nlgd->nlg", unit(predicted), grid).argmax(axis=2)
            close = np.abs(np.array(GRID)[best] - t) <= 0.05 + 1e-9
            found.setdefault("interpolation_rank_1", []).append(close.astype(float))
        start, middle = features[:, :, place[0.0]], features[:, :, place[0.5]]
        for t in self.outside:
            predicted = middle + t * (middle - start)
            add("extrapolation", predicted, round(0.5 + t / 2, 6), middle, middle - start)
        values = {name: np.mean(parts, axis=0) for name, parts in found.items()}  # (N, 2) each
        scores = values["interpolation_error"].mean(axis=1)

        def describe(index: int) -> dict[str, Any]:
            return {"image": str(items[index][IMAGE]), "line": list(self.line), "window": self.window}

        return Measured(self.means(bootstrap, values), three_cases(scores, "lower", describe))

    def _boxes(self, items: Items) -> tuple[NDArray[np.int64], list[float]]:
        """Place windows at all positions on both lines, (N, 2 * T, 4); returns them and the positions."""
        shares = sorted({*GRID, *self.inside, *(round(0.5 + t / 2, 6) for t in self.outside)})
        boxes = []
        for item in items:
            shape = read_radiograph(item[IMAGE]).pixels.shape
            size = (int(shape[0]), int(shape[1]))
            side = max(1, round(self.window * min(size)))
            low, high = self.line
            way = low + (high - low) * np.array(shares)
            centers = np.concatenate(
                [np.stack([np.full(len(way), 0.5), way], axis=1), np.stack([way, np.full(len(way), 0.5)], axis=1)]
            )
            boxes.append([window_at(center * np.array(size) - 0.5, side, size) for center in centers])
        return np.array(boxes), shares
