"""Decomposability probe: retrieval of a window by its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.features import centered, cosines, unit
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.frozen_protocol import FrozenProtocol
from monai_anat.evaluation.metric import Better
from monai_anat.evaluation.patients import Items, other_patient
from monai_anat.evaluation.protocol import Measured, three_cases
from monai_anat.evaluation.windows import draw_windows, split_window
from monai_anat.keys import IMAGE

__all__ = ["DecomposabilityProbe"]

Floats = NDArray[np.float64]

#: parts of a window: 2 x 2
PARTS = 4


@dataclass(kw_only=True)
class DecomposabilityProbe(FrozenProtocol):
    """Retrieval of a window by the embeddings of its parts.

    Each window is tiled into 2 x 2 parts. Each part searches its own window among ``gallery`` windows of different
    patients, by the cosine of centered embeddings (after the retrieval in batches of 16 of ACE, without its trained
    head). The control counts the window of another patient as correct; it estimates chance.

    With a decomposition head for 2 x 2 parts in the encoder, ``head_cosine`` is the mean cosine of the parts and the
    output of the head for the window, ``head_control`` the same with the parts of another patient, and
    ``part_identification`` the fraction of outputs that are closest to the correct one of the four parts (chance 0.25).
    With both heads, ``loop_cosine`` compares the window with the composition of its decomposed parts (Lamps), and
    ``loop_control`` with the window of another patient.

    Args:
        gallery: windows in each search, at most as many as there are patients.
        rounds: galleries that contain each window.
        sides: smallest and largest side as a fraction of the shorter side of the image.

    >>> DecomposabilityProbe(gallery=8).name
    'decomposability'
    """

    name: ClassVar[str] = "decomposability"
    kinds: ClassVar[dict[str, tuple[Better, str]]] = {
        "recall_at_1": ("higher", "share"),
        "control": (None, "share"),
        "part_cosine": (None, "cosine"),
        "part_identification": ("higher", "share"),
        "head_cosine": ("higher", "cosine"),
        "head_control": (None, "cosine"),
        "loop_cosine": (None, "cosine"),
        "loop_control": (None, "cosine"),
    }

    gallery: int = 16
    rounds: int = 4
    sides: tuple[float, float] = (0.4, 0.8)

    def measure(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Compute the recall of windows by their parts."""
        shares = np.random.default_rng(self.seed + 1).uniform(*self.sides, size=(len(items), 1))
        places = draw_windows(items, shares, self.seed)[:, 0]
        boxes = np.stack([np.concatenate([[box], split_window(box, 2, 2)]) for box in places])
        raw = encoder.window_embeddings(items, boxes).astype(np.float64)
        rows = centered(raw, axis=(0, 1))  # (N, 5, D)
        wholes, parts = rows[:, 0], rows[:, 1:]
        size = min(self.gallery, len(bootstrap.names))
        hits, shuffled, who = [], [], []
        for gallery in self._galleries(bootstrap, size):
            found = np.einsum("npd,gd->npg", parts[gallery], wholes[gallery]).argmax(axis=2)
            own = np.arange(len(gallery))[:, None]
            hits.append((found == own).mean(axis=1))
            shuffled.append((found == np.roll(own, 1)).mean(axis=1))
            who.append(gallery)
        rows_of = np.concatenate(who)
        values = {"recall_at_1": np.concatenate(hits), "control": np.concatenate(shuffled)}
        metrics = self.means(bootstrap, values, rows_of)
        cosine = np.einsum("npd,nd->np", parts, wholes)
        metrics["part_cosine"] = bootstrap.mean(cosine, **self.kind("part_cosine"))
        values, notes = self._by_head(encoder, raw, bootstrap)
        metrics |= self.means(bootstrap, values)

        def describe(index: int) -> dict[str, Any]:
            return {"image": str(items[index][IMAGE]), "window": places[index].tolist()}

        cases = three_cases(cosine.mean(axis=1), "higher", describe)
        return Measured(metrics, cases, {"chance": 1 / size, "gallery": size}, notes)

    def _by_head(
        self, encoder: FrozenEncoder, raw: Floats, bootstrap: PatientBootstrap
    ) -> tuple[dict[str, Floats], list[str]]:
        """Compute the scores of the encoder's own heads from the embeddings (N, 5, D) of windows and parts."""
        decomposed, notes = encoder.apply_head("decomposition_head", raw[:, 0], PARTS)
        if decomposed is None:
            return {}, notes
        mean, partner = raw.mean(axis=(0, 1)), other_patient(bootstrap.patient_of, self.seed)
        predicted, parts, whole = decomposed - mean, raw[:, 1:] - mean, raw[:, 0] - mean  # (N, 4, D) twice, (N, D)
        best = np.einsum("npd,nqd->npq", unit(predicted), unit(parts)).argmax(axis=2)
        values = {
            "part_identification": (best == np.arange(PARTS)).mean(axis=1),
            "head_cosine": cosines(predicted, parts).mean(axis=1),
            "head_control": cosines(predicted, parts[partner]).mean(axis=1),
        }
        composed, more = encoder.apply_head("composition_head", decomposed, PARTS)
        if composed is not None:
            values["loop_cosine"] = cosines(composed - mean, whole)
            values["loop_control"] = cosines(composed - mean, whole[partner])
        return values, notes + more

    def _galleries(self, bootstrap: PatientBootstrap, size: int) -> list[NDArray[np.int64]]:
        """Draw galleries of one image per patient. The last gallery of a round is filled up from its start."""
        generator = np.random.default_rng(self.seed + 2)
        galleries = []
        for _ in range(self.rounds):
            shuffled = generator.permutation(len(bootstrap.patient_of))
            _, first = np.unique(bootstrap.patient_of[shuffled], return_index=True)
            order = generator.permutation(shuffled[first])
            for start in range(0, len(order), size):
                galleries.append(np.take(order, range(start, start + size), mode="wrap"))
        return galleries
