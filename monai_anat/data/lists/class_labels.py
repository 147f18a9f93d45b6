"""Class labels of any form as one row of 0, 1 and NaN (unknown) per image."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_anat.data.items import DatalistError, Item
from monai_anat.data.lists.label_names import LabelNames, normalize_name, told_counts
from monai_anat.keys import IMAGE, LABEL

__all__ = ["UNCERTAIN", "check_class_labels", "class_weights", "read_class_labels"]

logger = logging.getLogger(__name__)

#: policies for labels that the reader of an image was not sure of (-1)
UNCERTAIN = ("ignore", "zeros", "ones", "smooth")
_SHOWN = 20  # names that a message shows, the most common ones


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
    """Read the labels of a datalist as one float32 row ``(C,)`` per item, in the order of ``class_names``.

    A list may hold labels as a row of numbers (0, 1, -1 for uncertain, None for unknown), as a class number (-1 for
    unknown), as names (``"Effusion|Mass"``, also with ``,`` or ``;``, in any case), or as one column per class, in
    which an empty cell is 0, as in CheXpert. Names that are no class, such as ``"No Finding"``, count for none and are
    listed in the log. An empty label is unknown.

    Args:
        datalist: items, as ``load_datalist`` returns them.
        class_names: the classes, in the order of the rows.
        exclusive: whether exactly one class holds for an image (normal, bacterial, viral) instead of any number of
            findings. An image with an unknown label is unknown.
        uncertain: ``"ignore"`` makes uncertain labels unknown, ``"zeros"`` and ``"ones"`` replace them, ``"smooth"``
            draws each from ``smooth_range`` once (Pham et al., arXiv:1911.06475). Use ``"ignore"`` for images that are
            evaluated.
        smooth_range: smallest and largest value of those draws.
        seed: random seed of those draws.
        label_key: key of the labels, if they are not in columns.

    Returns:
        Items with ``image``, ``patient`` (the image itself if the list names no patient) and ``label``, and nothing
        else, so that they can be batched.

    Raises:
        DatalistError: if labels cannot be read. The message names the item, or counts the names.
        TypeError: if ``class_names`` is one string.
        ValueError: if ``uncertain`` is unknown, or the classes are none or not distinct.

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
    columns = _class_columns(datalist, class_names, label_key)
    names = LabelNames(class_names)
    rows = [
        _from_columns(item, class_names, columns) if columns else _from_label(item, names, exclusive, label_key)
        for item in datalist
    ]
    names.check()
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
        _log_names(datalist, names, label_key)
    # nothing else: a loader refuses to batch what only some items have
    return [
        {IMAGE: item[IMAGE], "patient": str(item.get("patient", item[IMAGE])), LABEL: row.astype(np.float32)}
        for item, row in zip(datalist, labels, strict=True)
    ]


def class_weights(datalist: Sequence[Mapping[str, Any]], *, exclusive: bool = False, maximum: float = 20.0) -> Tensor:
    """Compute class weights that balance rare and common classes.

    For findings, the weight of the positives is ``negatives / positives``, the ``pos_weight`` of a binary
    cross-entropy. For exclusive classes, it is ``images / (classes * images of the class)``. A class without images
    gets 1.

    Args:
        datalist: training items from :func:`read_class_labels`.
        exclusive: whether the classes are exclusive.
        maximum: upper limit of a weight, so that a single image does not dominate the training.

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
    """Check before the first step that the classes of each split can be learned and evaluated.

    A class with only positive or only negative images is logged.

    Args:
        splits: split -> items from :func:`read_class_labels`; with ``training``.
        class_names: classes of the rows.

    Raises:
        DatalistError: if no class of ``training`` has both positive and negative images.

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
            logger.warning(f"{split}: only one kind of image for {', '.join(one_sided)}, whose AUROC is undefined")


def _check_exclusive(
    labels: NDArray[np.float64], datalist: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> None:
    """Refuse an image of several classes, and one of none, which would count as class 0."""
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


def _class_columns(datalist: Sequence[Mapping[str, Any]], class_names: Sequence[str], label_key: str) -> dict[str, str]:
    """Return class -> column, or nothing for lists that hold labels under one key."""
    keys = dict.fromkeys(str(key) for item in datalist for key in item)
    normalized = {normalize_name(key): key for key in reversed(keys)}
    columns = {
        name: name if name in keys else normalized[normalize_name(name)]
        for name in class_names
        if normalize_name(name) in normalized
    }
    if not columns and label_key not in keys:
        raise DatalistError(
            f"items must have {label_key!r} or a column for each of {list(class_names)}, got the keys {sorted(keys)}; "
            "name the columns by class_names, or the key by label_key"
        )
    missing = [name for name in class_names if name not in columns]
    if missing and label_key in keys:
        return {}  # a key that happens to be named like a class, beside labels that hold all of them
    if columns and missing:
        raise DatalistError(f"the list must have a column for every class, got none for {missing}; check class_names")
    return columns


def _log_names(datalist: Sequence[Mapping[str, Any]], names: LabelNames, label_key: str) -> None:
    """Log names that are no class, classes that no image names, and empty labels."""
    if names.unknown:
        logger.warning(
            f"names that are no class count for none of {names.class_names}: {told_counts(names.unknown)}; check the "
            "spelling of class_names"
        )
    empty = sum(item.get(label_key) in (None, "") for item in datalist if not isinstance(item.get(label_key), Tensor))
    if empty:
        logger.info(f"{empty} of {len(datalist)} images have an empty {label_key!r}, which counts as unknown")
    found = {normalize_name(name) for name in names.found}
    absent = [name for name in names.class_names if normalize_name(name) not in found]
    if names.found and absent:
        shown = [name for name, _ in names.found.most_common(_SHOWN)]
        logger.warning(
            f"no image of {len(datalist)} is labeled {', '.join(absent)}; the names there are {', '.join(shown)}"
            f"{', ...' if len(names.found) > _SHOWN else ''}; check the spelling of class_names"
        )


def _from_columns(item: Mapping[str, Any], class_names: Sequence[str], columns: Mapping[str, str]) -> list[float]:
    return [_number(item.get(columns[name], 0), item, name) for name in class_names]


def _from_label(item: Mapping[str, Any], names: LabelNames, exclusive: bool, label_key: str) -> list[float]:
    label, class_names = item.get(label_key), names.class_names
    values = list(label) if isinstance(label, (list, tuple, np.ndarray, Tensor)) else [label]
    if isinstance(label, str) and not _is_number(label) and label.strip():
        values = list(names.parts(label))
    if values and all(isinstance(value, str) and not _is_number(value) for value in values) and values != [""]:
        texts = [label] if isinstance(label, str) else values
        found = {number for text in texts for number in names.classes_of(str(text))}
        if exclusive and not found:
            raise DatalistError(f"{label_key!r} must name one of {class_names}, got {label!r} for {item.get(IMAGE)}")
        return [float(number in found) for number in range(len(class_names))]
    if len(values) == 1 and (exclusive or len(class_names) > 1):
        if values[0] is None or values[0] == "":
            return [np.nan] * len(class_names)
        if _is_number(values[0]) and (not isinstance(values[0], bool) or (exclusive and len(class_names) == 2)):
            return _from_class_number(float(values[0]), item, class_names, exclusive)
    if len(values) != len(class_names):
        raise DatalistError(
            f"{label_key!r} must have {len(class_names)} values, one for each of {class_names}, got {label!r} for "
            f"{item.get(IMAGE)}"
        )
    return [_number(value, item, name) for value, name in zip(values, class_names, strict=True)]


def _from_class_number(
    number: float, item: Mapping[str, Any], class_names: Sequence[str], exclusive: bool
) -> list[float]:
    if number == -1:  # a policy for uncertain findings cannot choose one of several classes
        return [np.nan if exclusive else -1.0] * len(class_names)
    if not 0 <= number < len(class_names) or number != int(number):
        raise DatalistError(
            f"a class number must be in 0..{len(class_names) - 1} for {list(class_names)}, or -1 (unknown), got "
            f"{number:g} for {item.get(IMAGE)}"
        )
    return [float(index == number) for index in range(len(class_names))]


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
