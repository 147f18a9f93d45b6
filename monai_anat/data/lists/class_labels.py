"""Class labels in whatever form a list has them, brought to one: a row of 0, 1 and NaN (unknown) per image."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_anat.data.items import DatalistError, Item
from monai_anat.keys import IMAGE, LABEL

__all__ = ["UNCERTAIN", "check_class_labels", "class_weights", "read_class_labels"]

logger = logging.getLogger(__name__)

#: what becomes of a label that its reader was not sure of (-1)
UNCERTAIN = ("ignore", "zeros", "ones", "smooth")
#: between the names of several findings in one cell
SEPARATOR = "|"
#: names of a list that a message shows, the commonest
_SHOWN = 20


def read_class_labels(
    datalist: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    *,
    exclusive: bool = False,
    uncertain: str = "ignore",
    smooth_range: tuple[float, float] = (0.55, 0.85),
    seed: int = 0,
    label_key: str = LABEL,
) -> list[Item]:
    """Give every item its labels as one float32 row, ``(C,)``, in the order of ``class_names``.

    A list may have them as a row of numbers (0, 1, -1 for uncertain, None for unknown), as a class number, as names
    (``"Effusion|Mass"``; a name that is no class, such as ``"No Finding"``, counts for none), or as one column per
    class, in which an empty cell is 0, as in CheXpert.

    Args:
        datalist: items, as ``load_datalist`` gives them.
        class_names: the classes, in the order of the rows.
        exclusive: exactly one class holds for an image (normal, bacterial, viral), instead of any number of findings;
            an image is unknown where one of its labels is.
        uncertain: ``"ignore"`` makes uncertain labels unknown, ``"zeros"`` and ``"ones"`` decide, ``"smooth"`` draws
            each from ``smooth_range`` once and for all (Pham et al., arXiv:1911.06475). Use ``"ignore"`` for images
            that are measured.
        smooth_range: the smallest and the largest value that is drawn.
        seed: of those draws.
        label_key: where the labels are, if not in columns.

    Returns:
        Items with ``image``, ``patient`` (the image itself where none is named) and ``label``, and nothing else.

    Raises:
        DatalistError: labels that cannot be read, naming the item and what was found.
        TypeError: class_names that are one text.
        ValueError: another policy for uncertain labels, or no class.

    >>> read_class_labels([{"image": "a.png", "label": "Mass|Effusion"}], ["Effusion", "Nodule"])[0]["label"].tolist()
    [1.0, 0.0]
    >>> read_class_labels([{"image": "a.png", "Edema": "-1", "Mass": "1.0"}], ["Edema", "Mass"])[0]["label"].tolist()
    [nan, 1.0]
    """
    if uncertain not in UNCERTAIN:
        raise ValueError(f"uncertain must be one of {', '.join(UNCERTAIN)}, got {uncertain!r}")
    if isinstance(class_names, str):
        raise TypeError(f"class_names must be a list of names, got the text {class_names!r}; write {[class_names]}")
    if not class_names or len(set(class_names)) != len(class_names):
        raise ValueError(f"class_names must be at least one name and no name twice, got {list(class_names)}")
    columns = {name for item in datalist for name in class_names if name in item}
    if not columns and not any(label_key in item for item in datalist):
        found = sorted({str(key) for item in datalist for key in item})
        raise DatalistError(
            f"items must have {label_key!r} or a column for each of {list(class_names)}, got the keys {found}; "
            "name the columns by class_names, or the key by label_key"
        )
    if columns and columns != set(class_names):
        missing = [name for name in class_names if name not in columns]
        raise DatalistError(f"the list must have a column for every class, got none for {missing}; check class_names")
    rows = [
        _from_columns(item, class_names) if columns else _from_label(item, class_names, exclusive, label_key)
        for item in datalist
    ]
    labels = np.asarray(rows, dtype=np.float64)
    bad = np.argwhere(~(np.isnan(labels) | np.isin(labels, (-1, 0, 1))))
    if len(bad):
        row, column = bad[0]
        raise DatalistError(
            f"labels must be 0, 1, -1 (uncertain) or empty, got {labels[row, column]:g} for {class_names[column]} of "
            f"{datalist[row].get(IMAGE)}"
        )
    labels = _decide(labels, uncertain, smooth_range, seed)
    if exclusive:
        _check_exclusive(labels, datalist, class_names)
    if not columns:
        _tell_absent_names(datalist, class_names, label_key)
    # nothing else: a loader refuses to batch what only some items have
    return [
        {IMAGE: item[IMAGE], "patient": str(item.get("patient", item[IMAGE])), LABEL: row.astype(np.float32)}
        for item, row in zip(datalist, labels, strict=True)
    ]


def class_weights(datalist: Sequence[Mapping[str, Any]], *, exclusive: bool = False, maximum: float = 20.0) -> Tensor:
    """Weights that make rare classes count as much as common ones.

    Of findings, the weight of the positives, ``negatives / positives``: the ``pos_weight`` of a binary cross-entropy.
    Of exclusive classes, ``images / (classes * images of the class)``. A class without any image gets 1.

    Args:
        datalist: what :func:`read_class_labels` returned for the training images.
        exclusive: which of the two.
        maximum: no weight is larger, so that a single image does not lead a whole training.

    Returns:
        float32 (C,).

    >>> class_weights([{"label": [1, 0]}, {"label": [0, 0]}, {"label": [0, 1]}, {"label": [0, float("nan")]}]).tolist()
    [3.0, 2.0]
    """
    labels = np.stack([np.asarray(item[LABEL], dtype=np.float64) for item in datalist])
    known = np.isfinite(labels)
    positive = np.nansum(labels, axis=0)
    if exclusive:
        weight = known.any(axis=1).sum() / (labels.shape[1] * np.maximum(positive, 1e-12))
    else:
        weight = (known.sum(axis=0) - positive) / np.maximum(positive, 1e-12)
    weight = np.where(positive > 0, np.minimum(weight, maximum), 1.0)
    return torch.as_tensor(weight, dtype=torch.float32)


def check_class_labels(splits: Mapping[str, Sequence[Mapping[str, Any]]], class_names: Sequence[str]) -> None:
    """Say which classes a split cannot teach or measure, before the first step.

    A class whose known labels are all alike gets a sentence in the log. What could not be learned at all is refused.

    Args:
        splits: name of the split -> what :func:`read_class_labels` returned; ``training`` among them.
        class_names: of the rows.

    Raises:
        DatalistError: no class of ``training`` has both positive and negative images.

    >>> check_class_labels({"training": [{"label": [1.0]}, {"label": [0.0]}]}, ["Effusion"])
    """
    for split, items in splits.items():
        labels = np.stack([np.asarray(item[LABEL], dtype=np.float64) for item in items])
        one_sided = [
            name
            for name, column in zip(class_names, labels.T, strict=True)
            if not (column > 0.5).any() or not (column < 0.5).any()
        ]
        if one_sided and split == "training" and len(one_sided) == len(class_names):
            raise DatalistError(
                f"training must hold positive and negative images of some class, got one kind only of every one of "
                f"{list(class_names)}; check class_names and the labels"
            )
        if one_sided:
            logger.warning(
                f"{split}: only one kind of image for {', '.join(one_sided)}, which have no area under a curve"
            )


def _check_exclusive(
    labels: NDArray[np.float64], datalist: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> None:
    """Refuse an image of several classes, and one of none: its largest label would be that of class 0."""
    for item, row in zip(datalist, labels, strict=True):
        held = [name for name, value in zip(class_names, row, strict=True) if value > 0]
        if len(held) > 1:
            raise DatalistError(
                f"exclusive=True needs one class per image, got {held} for {item.get(IMAGE)}; use exclusive=False"
            )
        if not held and not np.isnan(row).any():
            raise DatalistError(
                f"exclusive=True needs one class per image, got none of {list(class_names)} for {item.get(IMAGE)}; "
                "give it one, or -1 (uncertain) where it is not known"
            )


def _tell_absent_names(datalist: Sequence[Mapping[str, Any]], class_names: Sequence[str], label_key: str) -> None:
    """Say which classes no image names, since a misspelt one would count as absent everywhere."""
    labels = [item[label_key] for item in datalist if isinstance(item.get(label_key), str)]
    parts = [part.strip() for label in labels if not _is_number(label) for part in label.split(SEPARATOR)]
    found = Counter(part for part in parts if part)
    absent = [name for name in class_names if name not in found]
    if found and absent:
        names = [name for name, _ in found.most_common(_SHOWN)]
        logger.warning(
            f"no image of {len(datalist)} is labeled {', '.join(absent)}; the names there are {', '.join(names)}"
            f"{', ...' if len(found) > _SHOWN else ''}; check the spelling of class_names"
        )


def _from_columns(item: Mapping[str, Any], class_names: Sequence[str]) -> list[float]:
    return [_number(item.get(name, 0), item, name) for name in class_names]


def _from_label(item: Mapping[str, Any], class_names: Sequence[str], exclusive: bool, label_key: str) -> list[float]:
    label = item.get(label_key)
    if isinstance(label, str) and not _is_number(label):
        named = {part.strip() for part in label.split(SEPARATOR)}
        if exclusive and not named & set(class_names):
            raise DatalistError(
                f"{label_key!r} must name one of {list(class_names)}, got {label!r} for {item.get(IMAGE)}"
            )
        return [float(name in named) for name in class_names]
    if (
        isinstance(label, (str, int, float, np.number))
        and (exclusive or len(class_names) > 1)
        and (not isinstance(label, bool) or (exclusive and len(class_names) == 2))
    ):
        number = float(label)
        if not 0 <= number < len(class_names) or number != int(number):
            raise DatalistError(
                f"a class number must be in 0..{len(class_names) - 1} for {list(class_names)}, got {label!r} for "
                f"{item.get(IMAGE)}"
            )
        return [float(index == number) for index in range(len(class_names))]
    values = list(label) if isinstance(label, (list, tuple, np.ndarray, Tensor)) else [label]
    if len(values) != len(class_names):
        raise DatalistError(
            f"{label_key!r} must have {len(class_names)} values, one for each of {list(class_names)}, got {label!r} "
            f"for {item.get(IMAGE)}"
        )
    return [_number(value, item, name) for value, name in zip(values, class_names, strict=True)]


def _number(value: Any, item: Mapping[str, Any], name: str) -> float:
    if value is None:
        return float("nan")
    if value == "":
        return 0.0
    if not _is_number(value):
        raise DatalistError(
            f"a label must be a number, got {value!r} for {name} of {item.get(IMAGE)}; write 1, 0, or -1 where it is "
            "not known"
        )
    return float(value)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _decide(
    labels: NDArray[np.float64], uncertain: str, smooth_range: tuple[float, float], seed: int
) -> NDArray[np.float64]:
    if not 0 <= smooth_range[0] <= smooth_range[1] <= 1:
        raise ValueError(f"smooth_range must be two numbers in [0, 1], smaller first, got {smooth_range}")
    fixed = {"ignore": np.nan, "zeros": 0.0, "ones": 1.0}
    if uncertain in fixed:
        value = np.full(labels.shape, fixed[uncertain])
    else:
        value = np.random.default_rng(seed).uniform(*smooth_range, size=labels.shape)
    decided: NDArray[np.float64] = np.where(labels == -1, value, labels)
    return decided
