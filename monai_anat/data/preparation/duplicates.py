"""Near duplicates: the same picture recompressed, resized, brightened, or exported again under another name.

Two radiographs of one patient look alike; two copies of one radiograph agree in every small detail. Thumbnails are
therefore compared by their gradients, minus the mean gradient of the data set, which all chests share.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from monai_anat.data.items import DatalistError, Item
from monai_anat.data.lists.datalists import load_datalist, load_splits
from monai_anat.data.lists.samples import pretraining_datalist
from monai_anat.data.lists.splits import check_splits
from monai_anat.data.preparation.thumbnails import thumbnail_of
from monai_anat.data.reading.radiograph import read_radiograph
from monai_anat.data.reading.shards import INDEX_FILE
from monai_anat.keys import IMAGE

__all__ = [
    "COPY_THRESHOLD",
    "check_near_duplicates",
    "check_source",
    "join_groups",
    "load_checked_datalist",
    "near_duplicates",
    "signatures",
]

logger = logging.getLogger(__name__)

#: correlation of gradients from which on two thumbnails count as copies (docs/results_data.md)
COPY_THRESHOLD = 0.9
_BLOCK, _ROWS = 2048, 512  # columns and rows of a block, whose cosines fit into the cache
_SHOWN = 5
_AXES = 48
_ROUNDING = 1e-3  # of the squared length of a vector in half precision
_OWN_MEAN = 50  # number of pictures from which on their own mean is used


def signatures(thumbnails: NDArray[np.uint8], mean: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Compute unit vectors of thumbnails whose inner product is the similarity of two pictures.

    Args:
        thumbnails: uint8 (N, 16, 16).
        mean: mean gradient (480,) to subtract; by default that of these thumbnails or, for fewer than 50, that of the
            shipped sample.

    Returns:
        float32 (N, 480).
    """
    gradients = _gradients(thumbnails) - (_mean_of(thumbnails) if mean is None else mean)
    gradients /= np.maximum(np.linalg.norm(gradients, axis=1, keepdims=True), 1e-6)
    return np.asarray(gradients, dtype=np.float32)


def _mean_of(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean gradient of an even choice of the pictures; for few pictures, that of the sample."""
    if len(thumbnails) < _OWN_MEAN:
        return _sample_mean()
    chosen = thumbnails[:: max(1, len(thumbnails) // _BLOCK)]
    return np.asarray(_gradients(chosen).mean(axis=0))


@lru_cache(maxsize=1)
def _sample_mean() -> NDArray[np.float32]:
    """Return the mean gradient of the shipped radiographs."""
    thumbnails = np.stack([thumbnail_of(read_radiograph(item[IMAGE]).pixels) for item in pretraining_datalist()])
    return np.asarray(_gradients(thumbnails).mean(axis=0))


def _gradients(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute unit vectors (N, 480) of the differences between neighboring pixels."""
    levels = thumbnails.astype(np.float32)
    across, down = np.diff(levels, axis=2), np.diff(levels, axis=1)
    # (N, 480)
    gradients = np.concatenate([across.reshape(len(levels), -1), down.reshape(len(levels), -1)], axis=1)
    # the square root limits the weight of a burned-in mark, which is all edge
    gradients = np.sign(gradients) * np.sqrt(np.abs(gradients))
    gradients /= np.maximum(np.linalg.norm(gradients, axis=1, keepdims=True), 1e-6)
    return np.asarray(gradients, dtype=np.float32)


def near_duplicates(
    thumbnails: NDArray[np.uint8], threshold: float = COPY_THRESHOLD
) -> Iterator[tuple[int, int, float]]:
    """Find pairs of pictures that are copies of each other, one block of the similarity matrix at a time.

    The search is exact, and two bounds make it cheap. By the Cauchy-Schwarz inequality, two unit vectors a and b have a
    cosine of at most ``<Pa, Pb> + |a - Pa| |b - Pb|`` for any projection P. The first 48 principal axes and the length
    of the rest therefore exclude nearly all pairs, and the full vectors are compared for the others only. Along any
    axis, two vectors of cosine c lie at most ``sqrt(2 - 2c)`` apart. Sorted along the first axis, distant blocks are
    therefore not compared.

    Args:
        thumbnails: uint8 (N, 16, 16).
        threshold: correlation from which on two pictures count as copies.

    Yields:
        Two positions, the smaller first, and their correlation. The order of the pairs is undefined.

    >>> picture = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    >>> [pair[:2] for pair in near_duplicates(np.concatenate([picture, picture.transpose(0, 2, 1), picture]))]
    [(0, 2)]
    """
    if len(thumbnails) == 0:
        return
    # half precision: a kilobyte per picture, so that a million fit; a cosine is then right to a thousandth
    mean = _mean_of(thumbnails)
    parts = [signatures(thumbnails[s : s + _BLOCK], mean) for s in range(0, len(thumbnails), _BLOCK)]
    vectors = torch.from_numpy(np.concatenate([part.astype(np.float16) for part in parts]))
    bounds = _upper_bounds(vectors)
    order = torch.argsort(bounds[:, 0])
    bounds = bounds[order]
    places = bounds[:, 0].contiguous()
    reach = math.sqrt(2 - 2 * threshold + 4 * _ROUNDING)
    for start in range(0, len(bounds), _ROWS):
        rows = bounds[start : start + _ROWS]
        end = int(torch.searchsorted(places, float(rows[-1, 0]) + reach, right=True))
        for other in range(start, end, _BLOCK):
            bound = rows @ bounds[other : min(other + _BLOCK, end)].T  # (rows, block)
            hits = (bound.amax(1) >= threshold).nonzero()[:, 0]
            first, second = (bound[hits] >= threshold).nonzero(as_tuple=True)
            pairs = torch.stack([hits[first] + start, second + other])  # (2, pairs)
            pairs = order[pairs[:, pairs[0] < pairs[1]]].sort(dim=0).values
            for few in pairs.split(_BLOCK, dim=1):
                alike = (vectors[few[0]].float() * vectors[few[1]].float()).sum(1)
                for number in torch.nonzero(alike >= threshold).flatten().tolist():
                    yield int(few[0, number]), int(few[1, number]), float(alike[number])


def _upper_bounds(vectors: torch.Tensor) -> torch.Tensor:
    """Short vectors (N, 49), the first axis first, whose inner products are never less than those of (N, D)."""
    sample = vectors[:: max(1, len(vectors) // _BLOCK)].float()
    _, axes = torch.linalg.eigh(sample.T @ sample)
    axes = axes[:, -_AXES:].flip(1)
    short = torch.cat([part.float() @ axes for part in vectors.split(_BLOCK)])  # (N, 48)
    lengths = torch.cat([part.float().square().sum(1) for part in vectors.split(_BLOCK)])
    rest = (lengths - short.square().sum(1)).clamp(min=0).sqrt()
    # rounding must not lose a pair
    return torch.cat([short, rest[:, None] + 1e-4], 1)


def join_groups(groups: Sequence[str], pairs: Sequence[tuple[int, int, float]]) -> list[str]:
    """Merge the patient groups that share a copy of a picture.

    Args:
        groups: group of each image.
        pairs: pairs of copies, from ``near_duplicates``.

    Returns:
        Merged group of each image.

    >>> join_groups(["a", "b", "c", "b"], [(0, 1, 1.0)])
    ['a', 'a', 'c', 'a']
    """
    parent: dict[str, str] = {}

    def root(group: str) -> str:
        while parent.get(group, group) != group:
            parent[group] = parent.get(parent[group], parent[group])
            group = parent[group]
        return group

    for i, j, _ in pairs:
        first, second = sorted((root(groups[i]), root(groups[j])))
        parent[second] = first
    return [root(group) for group in groups]


def check_near_duplicates(splits: Mapping[str, Sequence[Mapping[str, Any]]], threshold: float = COPY_THRESHOLD) -> None:
    """Refuse lists in which a picture of one split is a copy of a picture in another.

    Every image is read once. A prepared folder needs no such check: its copies share a patient group.

    Args:
        splits: split -> items with ``image`` paths.
        threshold: correlation from which on two pictures count as copies.

    Raises:
        DatalistError: if there are copies across splits. The message names the pairs.
    """
    entries = [(split, str(item[IMAGE])) for split, items in splits.items() for item in items]
    if len(entries) < 2:
        return
    thumbnails = np.stack([thumbnail_of(read_radiograph(path).pixels) for _, path in entries])
    found = [
        f"{entries[i][1]} ({entries[i][0]}) and {entries[j][1]} ({entries[j][0]}), alike by {alike:.3f}"
        for i, j, alike in near_duplicates(thumbnails, threshold)
        if entries[i][0] != entries[j][0]
    ]
    if found:
        shown = "; ".join(found[:_SHOWN]) + ("; ..." if len(found) > _SHOWN else "")
        raise DatalistError(
            f"no picture may be in two splits, got {len(found)} pairs of copies: {shown}; keep one of each pair"
        )


def load_checked_datalist(source: str | os.PathLike[str], section: str = "training") -> list[Item]:
    """Read one split for pre-training after :func:`check_source`.

    Only what pre-training reads is kept, so that items whose labels differ in form can be batched.

    Args:
        source: folder or file, as for ``load_datalist``.
        section: the split.

    Returns:
        Items ``{"image": path}``, with ``patient`` where every item has one.

    Raises:
        DatalistError: as ``load_datalist`` and ``check_source`` do.
    """
    splits = check_source(source)
    items = splits[section] if section in splits else load_datalist(source, section)
    keys = [IMAGE, "patient"] if all(item.get("patient") is not None for item in items) else [IMAGE]
    return [{key: item[key] for key in keys} for item in items]


def check_source(source: str | os.PathLike[str], most: int = 5000) -> dict[str, list[Item]]:
    """Refuse a source of images in which splits share a patient, a file or a copy of a picture.

    Bundles call it before they train on one split, so that the others stay unseen. Every image of a list with several
    splits is read once. Prepared folders, whose copies share a patient group, and splits that sub-folders name are not
    searched for copies.

    Args:
        source: folder or file, as for ``load_datalist``.
        most: number of images up to which a list is searched for copies; a longer list gets a warning.

    Returns:
        Split -> items.

    Raises:
        DatalistError: if splits overlap. The message names the patients, the files or the pairs.
    """
    splits = load_splits(source)
    check_splits(splits)
    path = Path(source).expanduser()
    listed = path.is_file() or (path / "datalist.json").is_file()
    images = sum(map(len, splits.values()))
    if len(splits) == 1 or (path / INDEX_FILE).is_file() or not listed:
        return splits
    if images > most:
        logger.warning(
            f"{source} lists {images} images, too many to search for copies across {sorted(splits)} at every start; "
            "python -m monai_anat prepare does it once"
        )
        return splits
    check_near_duplicates(splits)
    return splits
