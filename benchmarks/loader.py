"""Throughput of the view transforms of PEAC and POPAR on one core, in total and per stage.

    python benchmarks/loader.py [--out loader.json] [--images 200]

Images are read as uint8 from a memory-mapped file, as in training: 608 and 152 px for PEAC (19 cells), 448 and 112 px
for POPAR (14 cells). The time is the CPU time of one thread, which a busy machine does not distort; the wall time is
printed as well. The stages are timed separately on the same draws. The rest of the total is Python between the
stages.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_anat.keys import IMAGE
from monai_anat.methods import RandPEACViewsd, RandPOPARViewsd
from monai_anat.transforms import match_cells
from monai_anat.transforms.distortions import distort
from monai_anat.transforms.grid_crops import draw_grid_crops
from monai_anat.transforms.patch_shuffle import shuffle_patches

GOAL = 200.0  # images per second and core of the PEAC chain at 448 px


def radiograph_like(count: int, side: int, seed: int = 0) -> np.ndarray:
    """Draw smooth gray images with texture, uint8 (count, 1, side, side)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 12, 12, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    noisy = smooth + 0.03 * torch.randn(smooth.shape, generator=generator)
    return noisy.clamp(0, 1).mul(255).to(torch.uint8).numpy()


def timed(call: Callable[[int], Any], count: int) -> tuple[float, float]:
    """Measure milliseconds of CPU and wall time per call: the best of three rounds after a warm-up."""
    for index in range(min(count, 20)):
        call(index)
    best = (float("inf"), float("inf"))
    for _ in range(3):
        cpu, wall = time.process_time(), time.perf_counter()
        for index in range(count):
            call(index)
        spent = (time.process_time() - cpu, time.perf_counter() - wall)
        best = min(best, spent)
    return best[0] / count * 1e3, best[1] / count * 1e3


def stages(
    views: RandPEACViewsd | RandPOPARViewsd, images: np.ndarray, cell: int
) -> Iterator[tuple[str, Callable[[int], Any]]]:
    """Yield the stages of one chain with their names. Stages for half of the images are timed on all of them."""
    whole, n = tuple(images.shape[2:]), len(images)
    view = (14 * cell, 14 * cell)
    crops = [torch.from_numpy(image[:, : view[0], : view[1]].copy()) for image in images]
    state, chain = np.random.RandomState(0), views.distorter
    distortions = [chain.draw(state, view) for _ in images]
    orders = [torch.from_numpy(state.permutation(196)) for _ in images]
    yield "seed the transform", lambda i: views.set_random_state(i)
    yield "draw", lambda i: views.randomize(whole)
    if isinstance(views, RandPEACViewsd):
        place = draw_grid_crops(state, whole, cell_size=cell)
        yield "match cells", lambda i: match_cells(place.offset_1, place.offset_2, 14)
    yield "distort (every 2nd image)", lambda i: distort(crops[i % n], distortions[i % n])
    yield "shuffle (every 2nd image)", lambda i: shuffle_patches(crops[i % n], orders[i % n], cell)
    yield "normalize one view", lambda i: views.normalize(crops[i % n])


def measure(folder: Path, count: int) -> list[dict[str, Any]]:
    """Return one record per chain and size."""
    records = []
    for name, kind, cells in (("PEAC", RandPEACViewsd, 19), ("POPAR", RandPOPARViewsd, 14)):
        for cell in (32, 8):
            path = folder / f"{cells * cell}.npy"
            np.save(path, radiograph_like(min(count, 50), cells * cell))
            images = np.load(path, mmap_mode="r")
            views = kind(IMAGE, grid_size=14, cell_size=cell)

            def chain(i: int, views: Any = views, images: np.ndarray = images) -> Any:
                return views.set_random_state(i)({IMAGE: images[i % len(images)]})

            cpu, wall = timed(chain, count)
            parts = {stage: round(timed(call, count)[0], 4) for stage, call in stages(views, images, cell)}
            records.append(
                {
                    "chain": name,
                    "view_px": 14 * cell,
                    "image_px": cells * cell,
                    "images_per_cpu_second": round(1e3 / cpu, 1),
                    "images_per_second": round(1e3 / wall, 1),
                    "ms_per_image": round(cpu, 4),
                    "stages_ms": parts,
                }
            )
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    parser.add_argument("--images", type=int, default=200, help="images per measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        records = measure(Path(folder), arguments.images)
    for record in records:
        print(
            f"{record['chain']:6s}{record['view_px']:4d} px from {record['image_px']:3d} px uint8: "
            f"{record['images_per_cpu_second']:7.1f} images/s per core ({record['images_per_second']:.1f} by wall "
            f"clock), {record['ms_per_image']:.2f} ms each"
        )
        for stage, spent in record["stages_ms"].items():
            print(f"    {stage:28s}{spent:7.3f} ms")
    reached = records[0]["images_per_cpu_second"]
    print(f"goal: {GOAL:.0f} images/s per core for PEAC at 448 px: {'reached' if reached >= GOAL else 'MISSED'}")
    if arguments.out:
        machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        content = {"torch": torch.__version__, "threads": 1, **machine, "goal": GOAL, "records": records}
        arguments.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
