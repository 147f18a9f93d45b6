"""Savings of the exact bounds in the search for copies, compared with slabs and an index tree.

    python benchmarks/copies.py DATA [--images 20000 60000] [--out copies.json]

DATA is a folder of radiographs: every PNG and JPEG under it without "mask" or "label" in its path. From their
thumbnails, this measures the share of pairs that the first axes do not exclude at the threshold. From pictures that
are mixed from three of them, mirrored or not, with noise and 50 planted copies, it measures the CPU time of the
search with and without distant blocks, and the share of pairs of blocks that slabs along some axes and a tree do not
exclude. One thread.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_anat import data
from monai_anat.data.preparation import duplicates
from monai_anat.data.preparation.thumbnails import thumbnail_of

THRESHOLD = duplicates.COPY_THRESHOLD
REACH = (2 - 2 * THRESHOLD) ** 0.5
LEAF = 512


def real_thumbnails(folder: Path) -> np.ndarray:
    """Return the thumbnails of all radiographs of a folder, uint8 (N, 16, 16)."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".png", ".jpg", ".jpeg")]
    files = [path for path in files if not any(word in str(path).lower() for word in ("mask", "label"))]
    return np.stack([thumbnail_of(data.read_radiograph(path).pixels) for path in files])


def mixed(thumbnails: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` distinct pictures with 50 copies among them."""
    generator = np.random.default_rng(0)
    out = np.empty((count, *thumbnails.shape[1:]), np.uint8)
    for start in range(0, count, 20000):
        size = min(20000, count - start)
        share = generator.dirichlet([1, 1, 1], size)[:, :, None, None]
        pictures = (thumbnails[generator.integers(0, len(thumbnails), (size, 3))] * share).sum(1)
        mirrored = generator.random(size) < 0.5
        pictures[mirrored] = pictures[mirrored, :, ::-1]
        noisy = pictures + generator.normal(0, 2, pictures.shape)
        out[start : start + size] = noisy.round().clip(0, 255)
    out[-50:] = np.clip(out[:50].astype(int) + 3, 0, 255)
    return out


def projections(thumbnails: np.ndarray, axes: int = 48) -> np.ndarray:
    """Return the projections of their unit vectors on the principal axes, the largest first."""
    vectors = duplicates.signatures(thumbnails)
    sample = vectors[:: max(1, len(vectors) // 2048)]
    _, basis = np.linalg.eigh(sample.T @ sample)
    return np.asarray(vectors @ basis[:, ::-1][:, :axes])


def shares_left(places: np.ndarray) -> dict[int, float]:
    """Return number of axes -> share of pairs within reach of each other along them."""
    first, second = np.random.default_rng(0).integers(0, len(places), (2, 400_000))
    squares = np.cumsum((places[first] - places[second]) ** 2, axis=1)[first != second]
    return {axes: round(float((squares[:, axes - 1] <= REACH**2).mean()), 6) for axes in (1, 2, 4, 8, 16, 48)}


def blocks_left(places: np.ndarray, heaps: list[np.ndarray]) -> float:
    """Return the share of pairs of blocks whose boxes lie within reach of each other."""
    low = np.stack([places[heap].min(0) for heap in heaps])
    high = np.stack([places[heap].max(0) for heap in heaps])
    gaps = (np.maximum(0, np.maximum(low - high[i], low[i] - high)) for i in range(len(heaps)))
    return round(float(np.mean([((gap**2).sum(1) <= REACH**2).mean() for gap in gaps])), 3)


def slabs(places: np.ndarray, axes: int) -> list[np.ndarray]:
    """Cut blocks by quantiles of the first axes, one after the other."""
    parts = round((len(places) / LEAF) ** (1 / axes))
    heaps = [np.arange(len(places))]
    for axis in range(axes):
        heaps = [part for heap in heaps for part in np.array_split(heap[np.argsort(places[heap, axis])], parts)]
    return heaps


def tree(places: np.ndarray, axes: int = 12) -> list[np.ndarray]:
    """Cut blocks in halves along their widest axis."""
    heaps = [np.arange(len(places))]
    while len(heaps[0]) > LEAF:
        halves = []
        for heap in heaps:
            order = np.argsort(places[heap, int(places[heap, :axes].std(0).argmax())])
            halves += [heap[order[: len(heap) // 2]], heap[order[len(heap) // 2 :]]]
        heaps = halves
    return heaps


def search_seconds(thumbnails: np.ndarray, sort_out: bool) -> tuple[float, set[tuple[int, int]]]:
    """Measure the CPU time of the search, and return it with the pairs."""
    rounding, start = duplicates._ROUNDING, time.process_time()
    duplicates._ROUNDING = rounding if sort_out else 1e6  # nothing is out of reach then
    try:
        pairs = {(first, second) for first, second, _ in duplicates.near_duplicates(thumbnails)}
    finally:
        duplicates._ROUNDING = rounding
    return round(time.process_time() - start, 2), pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[20000, 60000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    thumbnails = real_thumbnails(arguments.data)
    result: dict[str, Any] = {"pictures": len(thumbnails), "pairs_left_by_axes": shares_left(projections(thumbnails))}
    for images in arguments.images:
        pictures = mixed(thumbnails, images)
        (slow, expected), (fast, found) = search_seconds(pictures, False), search_seconds(pictures, True)
        places = projections(pictures)
        left = {f"slabs_{axes}": blocks_left(places[:, :8], slabs(places, axes)) for axes in (1, 2, 3)}
        left["tree"] = blocks_left(places[:, :24], tree(places))
        result[f"{images}_mixed"] = {
            "all_blocks_s": slow,
            "near_blocks_s": fast,
            "same_pairs": expected == found,
            "pairs": len(found),
            "blocks_left": left,
        }
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
