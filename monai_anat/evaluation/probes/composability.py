"""Composability probe: embedding of a window and the mean of its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.features import centered, cosines
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.frozen_protocol import FrozenProtocol
from monai_anat.evaluation.metric import Better
from monai_anat.evaluation.patients import Items, other_patient
from monai_anat.evaluation.protocol import Measured, three_cases
from monai_anat.evaluation.windows import draw_windows, split_window
from monai_anat.keys import IMAGE

__all__ = ["ComposabilityProbe"]

Floats = NDArray[np.float64]

#: number of parts -> the tilings of a window with that many parts
SPLITS = {2: ((1, 2), (2, 1)), 3: ((1, 3), (3, 1)), 4: ((2, 2),)}
#: parts of a window for the heads
PARTS = 4


@dataclass(kw_only=True)
class ComposabilityProbe(FrozenProtocol):
    """Cosine of a window's embedding and the mean of its parts' (Adam, arXiv:2309.15358; Adam-v2, arXiv:2404.15672).

    The parts tile the window: two halves and three strips (in both directions, averaged), and 2 x 2. The control takes
    the parts of a window of another patient, of the same size relative to its image; ``gap`` is the mean of cosine
    minus control. A collapsed network has a raw cosine of 1, so embeddings are centered for ``cosine``, ``control`` and
    ``gap``. The raw cosine, which the papers report, is given as well. With a composition head in the encoder,
    ``head_cosine`` compares the window with the output of the head for its 2 x 2 parts.

    Args:
        windows: windows per image at random places, with sizes spread evenly over ``sides``.
        sides: smallest and largest side as a fraction of the shorter side of the image.

    >>> ComposabilityProbe(windows=1).name
    'composability'
    """

    name: ClassVar[str] = "composability"
    kinds: ClassVar[dict[str, tuple[Better, str]]] = {
        "gap": ("higher", "cosine"),
        "cosine": ("higher", "cosine"),
        "control": (None, "cosine"),
        "raw_cosine": (None, "cosine"),
        "raw_control": (None, "cosine"),
        "head_cosine": ("higher", "cosine"),
        "head_control": (None, "cosine"),
        "head_gap": ("higher", "cosine"),
    }

    windows: int = 2
    sides: tuple[float, float] = (0.4, 0.8)

    def measure(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Compute cosines of windows and parts, by number of parts."""
        shares = np.interp((np.arange(self.windows) + 0.5) / self.windows, (0, 1), self.sides)
        places = draw_windows(items, np.tile(shares, (len(items), 1)), self.seed)  # (N, W, 4)
        splits = [(parts, split) for parts, ways in SPLITS.items() for split in ways]
        boxes = np.stack(
            [
                [np.concatenate([[box], *(split_window(box, *split) for _, split in splits)]) for box in image]
                for image in places
            ]
        )  # (N, W, 15, 4)
        count, windows, each = boxes.shape[:3]
        features = encoder.window_embeddings(items, boxes.reshape(count, windows * each, 4))
        raw = features.reshape(count * windows, each, -1).astype(np.float64)
        centered(raw, axis=(0, 1))
        rows = np.repeat(np.arange(count), windows)
        other = other_patient(bootstrap.patient_of, self.seed)  # an image; its window of the same size is taken
        partner = (other[:, None] * windows + np.arange(windows)).ravel()
        values: dict[str, Floats] = {}
        for kind, embedded in (("", raw - raw.mean(axis=(0, 1))), ("raw_", raw)):
            start = 1
            found: dict[int, list[tuple[Floats, Floats]]] = {}
            for parts, _ in splits:
                mean = embedded[:, start : start + parts].mean(axis=1)
                start += parts
                found.setdefault(parts, []).append(
                    (cosines(embedded[:, 0], mean), cosines(embedded[:, 0], mean[partner]))
                )
            for parts, pairs in found.items():
                values[f"{kind}cosine/{parts}"], values[f"{kind}control/{parts}"] = np.mean(pairs, axis=0)
        for parts in SPLITS:
            values[f"gap/{parts}"] = values[f"cosine/{parts}"] - values[f"control/{parts}"]
        values["gap"] = np.mean([values[f"gap/{parts}"] for parts in SPLITS], axis=0)
        composed, notes = encoder.apply_head("composition_head", raw[:, -PARTS:], PARTS)  # the last split is 2 x 2
        if composed is not None:
            whole, mean = raw[:, 0] - raw.mean(axis=(0, 1)), raw.mean(axis=(0, 1))
            values["head_cosine"] = cosines(composed - mean, whole)
            values["head_control"] = cosines((composed - mean)[partner], whole)
            values["head_gap"] = values["head_cosine"] - values["head_control"]
        metrics = self.means(bootstrap, values, rows)
        flat = places.reshape(-1, 4)

        def describe(index: int) -> dict[str, Any]:
            return {"image": str(items[rows[index]][IMAGE]), "window": flat[index].tolist()}

        quartiles = {name: np.quantile(value, [0.25, 0.5, 0.75]).tolist() for name, value in values.items()}
        return Measured(metrics, three_cases(values["cosine/4"], "higher", describe), {"quartiles": quartiles}, notes)
