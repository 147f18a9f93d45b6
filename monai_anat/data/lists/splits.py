"""Splits of datalists by patient: checks, random splits, few labeled images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_anat.data.items import DatalistError, Item
from monai_anat.keys import IMAGE

__all__ = [
    "check_splits",
    "split_by_patient",
    "take_fraction",
    "take_shots",
]

_SHOWN = 5  # offenders that an error message names


def check_splits(splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Refuse lists in which one patient or one image file is in two splits.

    Args:
        splits: split -> items. Items without ``patient`` are compared by their files only.

    Raises:
        DatalistError: if splits overlap. The message names the patients or files and the two splits.

    >>> check_splits({"training": [{"image": "a", "patient": "1"}], "test": [{"image": "b", "patient": "2"}]})
    """
    for key, what in (("patient", "patient"), (IMAGE, "image file")):
        owner: dict[Any, str] = {}
        shared: dict[tuple[str, str], list[str]] = {}
        for split, items in splits.items():
            for value in {str(item[key]) for item in items if item.get(key) is not None}:
                if owner.setdefault(value, split) != split:
                    shared.setdefault((owner[value], split), []).append(value)
        for (first, second), values in shared.items():
            names = ", ".join(repr(value) for value in sorted(values)[:_SHOWN])
            raise DatalistError(
                f"every {what} must be in one split only, got {len(values)} in both {first!r} and {second!r} "
                f"({names}{', ...' if len(values) > _SHOWN else ''}); divide with split_by_patient"
            )


def split_by_patient(
    datalist: Sequence[Mapping[str, Any]],
    fractions: Mapping[str, float],
    seed: int,
    stratify: str | None = None,
) -> dict[str, list[Item]]:
    """Split a list at random so that all images of a patient are in the same split.

    Args:
        datalist: items. An item without ``patient`` counts as a patient of its own.
        fractions: split -> share of the patients; the shares sum to 1.
        seed: random seed of the split.
        stratify: key (a class label, a source) whose values are spread evenly over the splits. A patient counts for the
            value that most of the patient's images have.

    Returns:
        Split -> items in their original order.

    Raises:
        ValueError: if a fraction is negative, or the fractions do not sum to 1.

    >>> items = [{"image": str(i), "patient": str(i // 2)} for i in range(20)]
    >>> parts = split_by_patient(items, {"training": 0.8, "test": 0.2}, seed=0)
    >>> len(parts["training"]), len(parts["test"])
    (16, 4)
    """
    if abs(sum(fractions.values()) - 1) > 1e-6 or min(fractions.values()) < 0:
        raise ValueError(f"fractions must be at least 0 and sum to 1, got {dict(fractions)}")
    groups = _by_patient(datalist)
    strata: dict[str, list[str]] = {}
    for patient, members in groups.items():
        values = Counter(str(datalist[i].get(stratify)) if stratify else "" for i in members)
        strata.setdefault(sorted(values, key=lambda v: (-values[v], v))[0], []).append(patient)
    generator = np.random.default_rng(seed)
    names = list(fractions)
    home: dict[str, str] = {}
    taken, wanted = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for value in sorted(strata):
        patients = strata[value]
        for name in names:
            wanted[name] += fractions[name] * len(patients)
        for number in generator.permutation(len(patients)):
            # the split that is furthest below its share gets the next patient: exact to one patient per stratum
            name = max(names, key=lambda n: wanted[n] - taken[n])
            taken[name] += 1
            home[patients[int(number)]] = name
    result: dict[str, list[Item]] = {name: [] for name in names}
    owner = {i: home[patient] for patient, members in groups.items() for i in members}
    for i, item in enumerate(datalist):
        result[owner[i]].append(dict(item))
    return result


def take_shots(datalist: Sequence[Mapping[str, Any]], shots: int, seed: int) -> list[Item]:
    """Draw a few labeled images from as many patients as possible.

    Draws are nested: the first 3 of 6 shots are the 3 shots of the same seed.

    Args:
        datalist: items to draw from.
        shots: number of images.
        seed: random seed of the draw.

    Returns:
        The items in the order in which they were drawn.

    Raises:
        ValueError: if ``shots`` is less than 1 or more than the number of items.

    >>> items = [{"image": str(i), "patient": str(i % 5)} for i in range(10)]
    >>> few, more = take_shots(items, 3, seed=1), take_shots(items, 6, seed=1)
    >>> few == more[:3], len({item["patient"] for item in few})
    (True, 3)
    """
    if not 1 <= shots <= len(datalist):
        raise ValueError(f"shots must be between 1 and the {len(datalist)} images of the list, got {shots}")
    generator = np.random.default_rng(seed)
    queues = []
    groups = list(_by_patient(datalist).values())
    for number in generator.permutation(len(groups)):
        members = groups[int(number)]
        queues.append([members[int(i)] for i in generator.permutation(len(members))])
    order = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    return [dict(datalist[i]) for i in order[:shots]]


def take_fraction(datalist: Sequence[Mapping[str, Any]], fraction: float, seed: int) -> list[Item]:
    """Draw a fraction of the labeled images, whole patients at a time.

    Draws of one seed are nested: a smaller fraction is a part of a larger one.

    Args:
        datalist: items.
        fraction: share of the images, in (0, 1].
        seed: random seed of the draw.

    Returns:
        The images of as few patients as reach the share, in the order of the list.

    Raises:
        ValueError: if the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}; 0.1 takes 10 % of the images, 1 all")
    groups = list(_by_patient(datalist).values())
    wanted = math.ceil(fraction * len(datalist) - 1e-9)
    chosen: list[int] = []
    for number in np.random.default_rng(seed).permutation(len(groups)):
        if len(chosen) >= wanted:
            break
        chosen += groups[int(number)]
    return [dict(datalist[i]) for i in sorted(chosen)]


def _by_patient(datalist: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Return the positions of each patient's items; an item without a patient is a patient of its own."""
    groups: dict[str, list[int]] = {}
    for i, item in enumerate(datalist):
        patient = item.get("patient")
        groups.setdefault(f"item {i}" if patient is None else f"patient {patient}", []).append(i)
    return groups
