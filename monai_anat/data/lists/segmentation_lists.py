"""Check of segmentation lists before training or evaluation: masks, their values and their sizes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_anat.data.items import DatalistError, Item, transform_item
from monai_anat.data.reading.masks import check_mask_classes, read_mask
from monai_anat.data.reading.preprocessing import radiograph_preprocessing
from monai_anat.keys import IMAGE, LABEL

__all__ = ["check_segmentation_list"]

logger = logging.getLogger(__name__)

_SIZE = 16  # pixels to which images are loaded, only to compare them with their masks
_SHOWN = 5


def check_segmentation_list(
    datalist: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    *,
    section: str = "training",
    mask_values: Mapping[Any, int] | None = None,
    most: int = 2000,
) -> list[Item]:
    """Check that a list can be used for segmentation, and bring its items to one form.

    Images and masks are loaded once: values must be class numbers, sizes must fit, and some mask must show a structure.
    Images without a mask are left out, with a count in the log.

    Args:
        datalist: items from ``load_datalist``. ``label`` is a file of class numbers, or MONAI's list form
            ``[right, left]`` with one binary mask per class.
        class_names: names of the classes, background first.
        section: name of the list's section, for messages.
        mask_values: stored value -> class number of masks, such as ``{255: 1}``.
        most: number of items to load. Of a longer list, this many are chosen evenly.

    Returns:
        Items with ``image``, ``label`` and ``patient`` (the image itself if the list names none), and nothing else, so
        that they can be batched.

    Raises:
        DatalistError: if no item has a mask, or a file cannot be read, or holds other values, or differs in size from
            its image. The message names the file and the way out.

    >>> from monai_anat.data import segmentation_datalist
    >>> items = check_segmentation_list(segmentation_datalist("test"), ["background", "right lung", "left lung"])
    >>> len(items), sorted(items[0])
    (16, ['image', 'label', 'patient'])
    """
    items = _with_masks(datalist, section)
    checked = items if len(items) <= most else [items[int(i)] for i in np.linspace(0, len(items) - 1, most).round()]
    if len(checked) < len(items):
        logger.warning(f"{section}: {len(checked)} of {len(items)} masks were checked, evenly chosen")
    chain = radiograph_preprocessing(_SIZE, label_key=LABEL, square=True, metadata=True, mask_values=mask_values)
    shown: Counter[int] = Counter()
    for item in checked:
        mask = read_mask(item[LABEL], values=mask_values).pixels
        first = item[LABEL] if isinstance(item[LABEL], str) else " and ".join(map(str, item[LABEL]))
        check_mask_classes(mask, len(class_names), first)
        transform_item(chain, item)
        shown.update(int(number) for number in np.unique(mask) if number)
    if not shown:
        raise DatalistError(
            f"{section} masks must show at least one of {list(class_names[1:])}, got none in {len(checked)} masks"
        )
    absent = [name for number, name in enumerate(class_names) if number and number not in shown]
    if absent:
        logger.warning(f"{section}: no mask of {len(checked)} shows {', '.join(absent)}")
    return items


def _with_masks(datalist: Sequence[Mapping[str, Any]], section: str) -> list[Item]:
    """Return the items that have a mask, with the keys that training reads."""
    labeled = [item for item in datalist if item.get(LABEL) not in (None, "", [])]
    if not labeled:
        found = sorted({str(key) for item in datalist for key in item})
        raise DatalistError(
            f"items of {section} must have {LABEL!r}, the path of a mask, or [right, left], got the keys {found}; "
            "columns right_mask and left_mask and folders images and masks are read as well"
        )
    other = [item for item in labeled if not _is_mask_path(item[LABEL])]
    if other:
        raise DatalistError(
            f"{LABEL!r} of every item must be the path of a mask, or [right, left], got {other[0][LABEL]!r} for "
            f"{other[0].get(IMAGE)} in {section}"
        )
    if len(labeled) < len(datalist):
        left = [str(item.get(IMAGE)) for item in datalist if item.get(LABEL) in (None, "", [])]
        shown = ", ".join(left[:_SHOWN]) + (", ..." if len(left) > _SHOWN else "")
        logger.warning(f"{section}: {len(left)} of {len(datalist)} images have no mask and are left out ({shown})")
    return [
        {IMAGE: item[IMAGE], LABEL: item[LABEL], "patient": str(item.get("patient") or item[IMAGE])} for item in labeled
    ]


def _is_mask_path(label: Any) -> bool:
    if isinstance(label, (list, tuple)):
        return all(isinstance(part, str) for part in label)
    return isinstance(label, str)
