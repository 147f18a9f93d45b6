"""Scale consistency probe: embeddings of one place at several zooms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.reading.radiograph import read_radiograph
from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.features import centered, cosines
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.frozen_protocol import FrozenProtocol
from monai_anat.evaluation.metric import Better
from monai_anat.evaluation.patients import Items
from monai_anat.evaluation.protocol import Measured, three_cases
from monai_anat.evaluation.windows import window_at
from monai_anat.keys import IMAGE

__all__ = ["ScaleConsistencyProbe"]

Floats = NDArray[np.float64]


@dataclass(kw_only=True)
class ScaleConsistencyProbe(FrozenProtocol):
    """Cosine of two windows with a common center, of which one is larger.

    The windows are squares, each resized to the network's input. The control is the larger window around another place
    of the same image, one side of the larger window away. ``place_told`` is the fraction of windows that are closer to
    their own place than to the control (chance 0.5). Embeddings are centered; raw cosines are given as well.

    Args:
        places: random places per image, each with a control beside it.
        window: side of the smaller window as a fraction of the shorter side of the image.
        ratios: sides of the larger windows relative to the smaller one.

    Raises:
        ValueError: if a ratio is at most 1, or two of the largest windows do not fit beside each other.

    >>> ScaleConsistencyProbe(ratios=(1.5,)).name
    'scale-consistency'
    """

    name: ClassVar[str] = "scale-consistency"
    kinds: ClassVar[dict[str, tuple[Better, str]]] = {
        "gap": ("higher", "cosine"),
        "place_told": ("higher", "share"),
        "cosine": ("higher", "cosine"),
        "control": (None, "cosine"),
        "raw_cosine": (None, "cosine"),
        "raw_control": (None, "cosine"),
    }

    places: int = 4
    window: float = 0.25
    ratios: tuple[float, ...] = (1.25, 1.5, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.places < 1 or not self.ratios or min(self.ratios) <= 1 or not 0 < self.window * max(self.ratios) <= 0.5:
            raise ValueError(
                "places must be at least 1, ratios above 1 and window times the largest ratio at most 0.5, so that two "
                f"windows fit beside each other, got places={self.places}, window={self.window}, ratios={self.ratios}"
            )

    def measure(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Cosines by ratio."""
        boxes = self._boxes(items)  # (N, P, 1 + 2 R, 4)
        features = encoder.window_embeddings(items, boxes.reshape(len(items), -1, 4)).astype(np.float64)
        centered(features, axis=(0, 1))
        values: dict[str, Floats] = {}
        for kind, embedded in (("", features - features.mean(axis=(0, 1))), ("raw_", features)):
            rows = embedded.reshape(*boxes.shape[:3], -1)
            for number, ratio in enumerate(self.ratios):
                own, other = (cosines(rows[:, :, 0], rows[:, :, 1 + 2 * number + control]) for control in (0, 1))
                values[f"{kind}cosine/{ratio:g}"], values[f"{kind}control/{ratio:g}"] = own, other
                if not kind:
                    values[f"gap/{ratio:g}"] = own - other
                    values[f"place_told/{ratio:g}"] = np.where(own == other, 0.5, own > other)
        for name in self.kinds:
            values[name] = np.mean([values[f"{name}/{ratio:g}"] for ratio in self.ratios], axis=0)
        scores = values["gap"].mean(axis=1)

        def describe(index: int) -> dict[str, Any]:
            return {"image": str(items[index][IMAGE]), "windows": boxes[index, :, [0, -2]].tolist()}

        return Measured(self.means(bootstrap, values), three_cases(scores, "higher", describe))

    def _boxes(self, items: Items) -> NDArray[np.int64]:
        """Place the smaller window, then for each ratio the larger one and its control, (N, P, 1 + 2 R, 4)."""
        generator = np.random.default_rng(self.seed)
        boxes = []
        for item in items:
            height, width = read_radiograph(item[IMAGE]).pixels.shape
            sides = [max(1, round(self.window * ratio * min(height, width))) for ratio in (1.0, *self.ratios)]
            largest = max(sides)
            for _ in range(self.places):
                # place and control lie side by side or one above the other, with space for the largest windows
                step = largest * (np.arange(2) == generator.integers(2))
                room = np.array([height, width]) - largest - step
                start = largest / 2 - 0.5 + generator.uniform(0, 1, size=2) * np.maximum(room, 0)
                pair = np.stack([start, start + step])[generator.permutation(2)]
                boxes.append(window_at(pair[0], sides[0], (height, width)))
                boxes += [window_at(center, side, (height, width)) for side in sides[1:] for center in pair]
        return np.array(boxes).reshape(len(items), self.places, -1, 4)
