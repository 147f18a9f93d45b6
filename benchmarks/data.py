"""Speed of preparation, of reading prepared images, and of the search for copies.

    python benchmarks/data.py [--images 100] [--files 20000] [--out data.json]

Rates are per second of CPU time of this process, which a busy machine does not distort; files are decoded in this
process (workers=0). The pictures are the sample radiographs, enlarged to 1024 px. A tree of many 40 px bitmaps shows
the memory per file (--files 100000 takes a few minutes; 0 skips it). The search for copies is measured on pictures
that are mixed from three sample radiographs each, in any number (--copies 20000 60000).
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

warnings.filterwarnings("ignore")

from copies import mixed  # noqa: E402

from monai_anat import data  # noqa: E402
from monai_anat.data.preparation.duplicates import near_duplicates  # noqa: E402
from monai_anat.data.preparation.prepare import PrepareProgress  # noqa: E402
from monai_anat.data.preparation.thumbnails import thumbnail_of  # noqa: E402
from monai_anat.data.reading.shards import INDEX_DTYPE, INDEX_FILE  # noqa: E402


def resident_megabytes() -> float:
    """Return the resident memory of this process in megabytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def prepare_rate(folder: Path, suffix: str, images: int) -> float:
    """Measure radiographs of 1024 px prepared to 608 px, per second of CPU time."""
    source = folder / f"source{suffix}"
    source.mkdir()
    for number, item in enumerate(data.pretraining_datalist()[:images]):
        with Image.open(item["image"]) as image:
            shape = tuple(round(side * 1024 / min(image.size)) for side in image.size)
            image.resize(shape, Image.Resampling.BICUBIC).save(source / f"{number}{suffix}")
    start = time.process_time()
    data.prepare_radiographs(source, folder / f"prepared{suffix}", size=608, key_file=folder / "key", workers=0)
    return images / (time.process_time() - start)


def read_milliseconds(folder: Path, copy: bool) -> float:
    """Measure the time to read one prepared radiograph of 608 px."""
    dataset = data.ShardDataset(folder, copy=copy)
    start = time.process_time()
    for _ in range(20):
        for number in range(len(dataset)):
            dataset[number]
    return (time.process_time() - start) / (20 * len(dataset)) * 1e3


def many_files(folder: Path, files: int) -> dict[str, Any]:
    """Measure the rate over a tree of small files, and the memory that grows with their number."""
    source = folder / "many"
    generator = np.random.default_rng(0)
    picture = data.synthetic_radiograph(40)[0]
    for number in range(files):
        parent = source / f"{number // 500:04d}"
        parent.mkdir(parents=True, exist_ok=True)
        noisy = (picture * 200 + generator.integers(0, 50, picture.shape)).astype(np.uint8)
        Image.fromarray(noisy).save(parent / f"p{number}.bmp")
    before, start = resident_megabytes(), time.process_time()
    growth = {}

    def note(progress: PrepareProgress) -> None:
        if progress.done in (1000, 10000, 30000, 60000, files):
            growth[progress.done] = round(resident_megabytes() - before, 1)

    data.prepare_radiographs(
        source,
        folder / "many_prepared",
        size=32,
        key_file=folder / "key",
        patient_pattern=r"p(\d+)",
        workers=0,
        on_progress=note,
    )
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6 - before
    return {
        "files_per_second": files / seconds,
        "megabytes_after": growth,
        "peak_with_search_for_copies": round(peak, 1),
    }


def open_milliseconds(folder: Path) -> float:
    """Measure the time to open the index of a million images."""
    folder.mkdir()
    np.save(folder / INDEX_FILE, np.zeros(10**6, dtype=INDEX_DTYPE))
    start = time.perf_counter()
    data.ShardDataset(folder)
    return (time.perf_counter() - start) * 1e3


def copies_seconds(images: int) -> float:
    """Measure the time to search pictures, mixed from three sample radiographs each, for copies."""
    thumbnails = [thumbnail_of(data.read_radiograph(item["image"]).pixels) for item in data.pretraining_datalist()]
    pictures = mixed(np.stack(thumbnails), images)
    begun = time.process_time()
    sum(1 for _ in near_duplicates(pictures))
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--files", type=int, default=20000)
    parser.add_argument("--copies", type=int, nargs="*", default=[20000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result: dict[str, Any] = {}
        if arguments.files:  # first, because the peak covers everything that this process did
            result["many_files"] = many_files(folder, arguments.files)
        result |= {
            "prepare_png_per_second": prepare_rate(folder, ".png", arguments.images),
            "prepare_jpeg_per_second": prepare_rate(folder, ".jpg", arguments.images),
            "read_copy_ms": read_milliseconds(folder / "prepared.png", copy=True),
            "read_view_ms": read_milliseconds(folder / "prepared.png", copy=False),
            "open_million_ms": open_milliseconds(folder / "million"),
        }
        for images in arguments.copies:
            result[f"search_{images}_for_copies_s"] = copies_seconds(images)
    for key, value in result.items():
        print(f"{key:28s} {value if isinstance(value, dict) else round(value, 3)}")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
