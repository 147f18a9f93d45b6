"""Is the embedding of a whole the mean of its parts', and do parts tell which whole they belong to?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from monai_anat.data.reading.radiograph import read_radiograph
from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.frozen import FrozenEncoder, centered, cosines, unit
from monai_anat.evaluation.frozen_protocol import FrozenProtocol, Items, Measured, three_cases
from monai_anat.evaluation.windows import split_window, window_at
from monai_anat.keys import IMAGE

__all__ = ["ComposabilityProbe", "DecomposabilityProbe", "other_patient"]

Floats = NDArray[np.float64]

#: number of parts -> the ways to tile a window by so many
SPLITS = {2: ((1, 2), (2, 1)), 3: ((1, 3), (3, 1)), 4: ((2, 2),)}
#: parts of a window for the heads
PARTS = 4


@dataclass(kw_only=True)
class ComposabilityProbe(FrozenProtocol):
    """Cosine of a window's embedding and the mean of its parts' (Adam, arXiv:2309.15358; Adam-v2, arXiv:2404.15672).

    The parts tile the window: two halves and three strips (both ways, averaged), and 2 x 2. The control takes the parts
    of a window of another patient, as large for its image; ``gap`` is the mean of their differences. A collapsed
    network scores 1 on raw cosines; therefore embeddings are centered for ``cosine``, ``control`` and ``gap``, and the
    raw cosine stands beside them as the papers show it.

    Args:
        windows: per image, at random places, of sizes that are spread evenly over ``sides``.
        sides: smallest and largest side as a share of the image's shorter side.

    >>> ComposabilityProbe(windows=1).name
    'composability'
    """

    name: ClassVar[str] = "composability"
    kinds: ClassVar[dict[str, tuple[str | None, str]]] = {
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
        """Cosines of wholes and parts, by number of parts."""
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
        other = other_patient(bootstrap.patient_of, self.seed)  # an image, whose window of the same size is taken
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
        composed, notes = _ask_head(encoder, "composition_head", raw[:, -PARTS:])  # the last split is 2 x 2
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


@dataclass(kw_only=True)
class DecomposabilityProbe(FrozenProtocol):
    """Does a part's embedding find the window that it was cut from?

    Each window is tiled by 2 x 2 parts; each part searches, by centered cosine, its own window among ``gallery``
    windows of different patients (after the retrieval in batches of 16 of ACE, without its trained head). The control
    gives the window of another patient as the right answer: chance.

    Where the encoder has a decomposition head for 2 x 2 parts, ``head_cosine`` is the mean cosine of the parts and of
    what the head makes of the window, ``head_control`` that with another patient's parts, and ``part_identification``
    the share of the head's parts that are nearest to the true one of the four (chance one quarter). With both heads,
    ``loop_cosine`` is that of the window and of the window composed of its decomposed parts (Lamps), and
    ``loop_control`` that with another patient's window.

    Args:
        gallery: windows in each search, as many as there are patients at most.
        rounds: galleries that each window takes part in.
        sides: smallest and largest side as a share of the image's shorter side.

    >>> DecomposabilityProbe(gallery=8).name
    'decomposability'
    """

    name: ClassVar[str] = "decomposability"
    kinds: ClassVar[dict[str, tuple[str | None, str]]] = {
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
        """Recall of the window by its parts."""
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
        """What the encoder's own heads make of each window, from the embeddings (N, 5, D) of windows and parts."""
        decomposed, notes = _ask_head(encoder, "decomposition_head", raw[:, 0])
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
        composed, more = _ask_head(encoder, "composition_head", decomposed)
        if composed is not None:
            values["loop_cosine"] = cosines(composed - mean, whole)
            values["loop_control"] = cosines(composed - mean, whole[partner])
        return values, notes + more

    def _galleries(self, bootstrap: PatientBootstrap, size: int) -> list[NDArray[np.int64]]:
        """Rounds of galleries of one image per patient; the last gallery of a round borrows from its start."""
        generator = np.random.default_rng(self.seed + 2)
        galleries = []
        for _ in range(self.rounds):
            shuffled = generator.permutation(len(bootstrap.patient_of))
            _, first = np.unique(bootstrap.patient_of[shuffled], return_index=True)
            order = generator.permutation(shuffled[first])
            for start in range(0, len(order), size):
                galleries.append(np.take(order, range(start, start + size), mode="wrap"))
        return galleries


def draw_windows(items: Items, shares: Floats, seed: int) -> NDArray[np.int64]:
    """Square windows at random places, (N, W, 4), of these shares (N, W) of the images' shorter sides.

    Sides are multiples of 12 pixels, so that parts are equal.
    """
    generator = np.random.default_rng(seed)
    boxes = []
    for item, wanted in zip(items, shares, strict=True):
        shape = read_radiograph(item[IMAGE]).pixels.shape
        size = (int(shape[0]), int(shape[1]))
        for share in wanted:
            side = max(12, round(share * min(size) / 12) * 12) if min(size) >= 12 else min(size)
            center = generator.uniform(side / 2, np.array(size) - side / 2 + 1e-9)
            boxes.append(window_at(center - 0.5, min(side, min(size)), size))
    return np.array(boxes).reshape(*shares.shape, 4)


def other_patient(patients: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """For every row another row, of another patient, each patient's rows shifted to the next in a random order.

    >>> bool((other_patient(np.array([0, 0, 1, 2]), 0) != np.arange(4)).all())
    True
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(patients.max() + 1)
    following = dict(zip(order.tolist(), np.roll(order, -1).tolist(), strict=True))
    rows = {patient: np.flatnonzero(patients == patient) for patient in np.unique(patients).tolist()}
    return np.array([generator.choice(rows[following[patient]]) for patient in patients.tolist()])


def _ask_head(encoder: FrozenEncoder, name: str, features: Floats) -> tuple[Floats | None, list[str]]:
    """What a head that the encoder has makes of embeddings; None, and a sentence, for one of other numbers of parts."""
    head = encoder.heads.get(name)
    if head is None:
        return None, []
    if head.num_parts != PARTS:
        return None, [f"The {name} is for {head.num_parts} parts, not for {PARTS}, and is not asked."]
    with torch.no_grad():
        return head(torch.as_tensor(features, dtype=torch.float32)).double().numpy(), []
