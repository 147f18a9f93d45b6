"""Datalist items: their type, their error, and the file behind an item's path."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from monai_anat.keys import IMAGE

__all__ = [
    "DatalistError",
    "Item",
    "file_of",
    "is_prepared_path",
    "transform_item",
]

#: one entry of a datalist: ``{"image": path, "label": path or value, "patient": str, ...}``
Item = dict[str, Any]

_PREPARED = re.compile(r"(\.npy)#-?\d+$", re.IGNORECASE)


class DatalistError(ValueError):
    """A list of images that cannot be used. The message names the item and the way out."""


def is_prepared_path(path: str) -> bool:
    """Return whether a path names one image of a prepared folder: ``.../index.npy#12``.

    A ``#`` anywhere else is an ordinary character of a path.

    Args:
        path: path of an item.

    >>> is_prepared_path("out/index.npy#12"), is_prepared_path("case #12/chest.png")
    (True, False)
    """
    return _PREPARED.search(path) is not None


def file_of(path: str) -> str:
    """Return the file on disk that holds an item's image: the path without the number of a prepared image.

    Args:
        path: path of an item.

    >>> file_of("out/index.npy#12"), file_of("case #12/chest.png")
    ('out/index.npy', 'case #12/chest.png')
    """
    return _PREPARED.sub(r"\1", path)


def transform_item(transform: Callable[[Item], Mapping[str, Any]], item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Apply a transform to an item; an error names the file and the root cause instead of the transform.

    Args:
        transform: chain of dictionary transforms.
        item: datalist item.

    Returns:
        What the transform returns.

    Raises:
        DatalistError: if the transform fails.

    >>> transform_item(lambda item: {"image": item["image"].upper()}, {"image": "a.png"})
    {'image': 'A.PNG'}
    """
    try:
        return transform(dict(item))
    except Exception as error:
        cause: BaseException = error
        while type(cause) is RuntimeError and cause.__cause__ is not None:  # MONAI wraps the cause once per chain
            cause = cause.__cause__
        path = str(item.get(IMAGE))
        told = f"{type(cause).__name__} {cause}" if isinstance(cause, LookupError) else str(cause)
        raise DatalistError(told if path in told else f"{path}: {told}") from error
