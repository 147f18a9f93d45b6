"""The same picture twice: recompressed, resized, brightened, or re-exported under another name.

Two radiographs of one patient look alike; two copies of one radiograph are alike in every small detail. Thumbnails are
therefore compared by their gradients, from which the dataset's mean is taken: what all chests share says nothing.
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
from PIL import Image

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.datalists import load_datalist, load_splits
from monai_anat.data.lists.samples import pretraining_datalist
from monai_anat.data.lists.splits import check_splits
from monai_anat.data.preparation.prepare_one import THUMBNAIL
from monai_anat.data.reading.radiograph import read_radiograph
from monai_anat.keys import IMAGE

__all__ = [
    "COPY_THRESHOLD",
    "check_near_duplicates",
    "check_source",
    "join_groups",
    "load_checked_datalist",
    "near_duplicates",
    "signatures",
    "thumbnail_of",
]

logger = logging.getLogger(__name__)

#: correlation of gradients from which on two thumbnails are copies: see docs/results_data.md
COPY_THRESHOLD = 0.9
_BLOCK, _ROWS = 2048, 512  # columns and rows of a block: its cosines stay in the cache
_SHOWN = 5
_AXES = 48
_ROUNDING = 1e-3  # of the squared length of a vector in half precision
_OWN_MEAN = 50  # from so many pictures on a set's own mean says what its chests share


def thumbnail_of(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Shrink a radiograph to the thumbnail that is compared.

    Args:
        pixels: float (H, W) in [0, 1], or uint8.

    Returns:
        uint8 (16, 16).
    """
    values = pixels if pixels.dtype == np.uint8 else np.ascontiguousarray(pixels, dtype=np.float32) * 255
    small = Image.fromarray(values).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small).round().clip(0, 255).astype(np.uint8)


def signatures(thumbnails: NDArray[np.uint8], mean: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Turn thumbnails into unit vectors whose inner product says how alike two pictures are.

    Args:
        thumbnails: uint8 (N, 16, 16).
        mean: mean gradient (480,) that is taken off; by default that of these thumbnails, or, for fewer than 50,
            that of the shipped sample.

    Returns:
        float32 (N, 480).
    """
    gradients = _gradients(thumbnails) - (_mean_of(thumbnails) if mean is None else mean)
    gradients /= np.maximum(np.linalg.norm(gradients, axis=1, keepdims=True), 1e-6)
    return np.asarray(gradients, dtype=np.float32)


def _mean_of(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the pictures share: their own mean gradient, from an even choice of them, or that of the sample."""
    if len(thumbnails) < _OWN_MEAN:
        return _sample_mean()
    chosen = thumbnails[:: max(1, len(thumbnails) // _BLOCK)]
    return np.asarray(_gradients(chosen).mean(axis=0))


@lru_cache(maxsize=1)
def _sample_mean() -> NDArray[np.float32]:
    """What all chests share, from the shipped radiographs."""
    thumbnails = np.stack([thumbnail_of(read_radiograph(item[IMAGE]).pixels) for item in pretraining_datalist()])
    return np.asarray(_gradients(thumbnails).mean(axis=0))


def _gradients(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Unit vectors (N, 480) of differences between neighboring pixels."""
    levels = thumbnails.astype(np.float32)
    across, down = np.diff(levels, axis=2), np.diff(levels, axis=1)
    # (N, 480)
    gradients = np.concatenate([across.reshape(len(levels), -1), down.reshape(len(levels), -1)], axis=1)
    # the square root keeps a burned-in mark, all edge, from outshouting the anatomy
    gradients = np.sign(gradients) * np.sqrt(np.abs(gradients))
    gradients /= np.maximum(np.linalg.norm(gradients, axis=1, keepdims=True), 1e-6)
    return np.asarray(gradients, dtype=np.float32)


def near_duplicates(
    thumbnails: NDArray[np.uint8], threshold: float = COPY_THRESHOLD
) -> Iterator[tuple[int, int, float]]:
    """Find pairs of pictures that are copies of each other, a block of the similarity matrix at a time.

    Exact, and cheap in two ways. By the Cauchy-Schwarz inequality two unit vectors a and b have a cosine of at most
    ``<Pa, Pb> + |a - Pa| |b - Pb|`` for any projection P, so the first 48 principal axes and the length of the rest
    sort out nearly all pairs, and the full vectors are compared for the others only. Along any one axis two vectors of
    cosine c lie at most ``sqrt(2 - 2c)`` apart, so that, sorted along the first axis, far blocks are not compared.

    Args:
        thumbnails: uint8 (N, 16, 16).
        threshold: correlation from which on two count as copies.

    Yields:
        The two numbers, the smaller first, and their correlation; pairs in no order.

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
    """Make copies members of one patient group, and groups that share a copy one group.

    Args:
        groups: group of each image.
        pairs: from ``near_duplicates``.

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

    Reads every image once; a prepared folder has done this already and joined copies into one patient group.

    Args:
        splits: split -> items with ``image`` paths.
        threshold: correlation from which on two pictures count as copies.

    Raises:
        DatalistError: names the pair.
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


def load_checked_datalist(source: str | os.PathLike[str], section: str = "training") -> list[dict[str, Any]]:
    """Read one split, after :func:`check_source`: what the bundles of pre-training train on.

    Args:
        source: as of ``load_datalist``, on disk.
        section: the split.

    Returns:
        Its items.

    Raises:
        DatalistError: as ``load_datalist`` and ``check_source`` do.
    """
    check_source(source)
    return load_datalist(source, section)


def check_source(source: str | os.PathLike[str], most: int = 5000) -> None:
    """Refuse a source of images in which splits share a patient, a file or a copy of a picture.

    Bundles call it before training on one split, so that the others stay unseen. It reads every image of a list with
    several splits once; a prepared folder, whose copies share a patient group already, and a folder without splits
    cost nothing.

    Args:
        source: as of ``load_datalist``, on disk.
        most: a list of more images is not searched for copies, which is said in the log.

    Raises:
        DatalistError: names the patients, the files or the pair.
    """
    splits = load_splits(source)
    check_splits(splits)
    prepared = (Path(source) / "index.npy").is_file()
    images = sum(map(len, splits.values()))
    if len(splits) == 1 or prepared:
        return
    if images > most:
        logger.warning(
            f"{source} lists {images} images, too many to search for copies across {sorted(splits)} at every start; "
            "python -m monai_anat prepare does it once"
        )
        return
    check_near_duplicates(splits)
