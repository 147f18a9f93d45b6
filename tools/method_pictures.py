"""Pictures of a method's views, on shipped radiographs: python tools/method_pictures.py lamps [--phase N]

One row per radiograph, one column per image that the views transform of the bundle (with its cpu_demo) puts into the
batch. Written to docs/images/<method>.png.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from PIL import Image

from monai_anat import data, resources, visualize
from monai_anat.keys import MASK, PHASE, TARGET, VIEW_1, VISIBLE

FOLDER = Path(__file__).parents[1] / "docs" / "images"


def views_of(
    name: str, phase: int | None, options: dict[str, Any], tokenizer: Path | None
) -> list[dict[str, torch.Tensor]]:
    """Make three samples and return their images by key. Stacks of parts are split."""
    configs = resources.bundle_path(f"cxr_{name}_pretraining") / "configs"
    parser = ConfigParser()
    parser.read_config([str(configs / "train.json"), str(configs / "cpu_demo.json")])
    parser.update(options)
    loading = parser.get_parsed_content("train#loading")
    views = parser.get_parsed_content("train#preprocessing")
    samples = []
    for seed, item in enumerate(data.pretraining_datalist()[:3]):
        loaded = loading(dict(item)) | ({} if phase is None else {PHASE: phase})
        sample = views.set_random_state(seed)(loaded)
        images: dict[str, torch.Tensor] = {}
        for key, value in sample.items():
            if isinstance(value, torch.Tensor) and value.ndim == 3 and min(value.shape[1:]) > 8:
                images[key] = value
            elif isinstance(value, torch.Tensor) and value.ndim == 4 and min(value.shape[2:]) > 8:
                images |= {f"{key} {number + 1}": part for number, part in enumerate(value)}
        if MASK in sample or VISIBLE in sample:
            images = {VIEW_1: images[VIEW_1], "visible cells": shown_cells(sample, views.cell_size), **images}
        if tokenizer is not None:
            network = parser.get_parsed_content("tokenizer")
            network.load_state_dict(torch.load(tokenizer, weights_only=True))
            tokens = network.tokens(sample[TARGET][None])
            with torch.no_grad():
                images["decoded tokens"] = network.decode_samples(tokens)[0]
        samples.append(images)
    return samples


def shown_cells(sample: dict[str, torch.Tensor], cell_size: int) -> torch.Tensor:
    """Return the view with the hidden cells black."""
    view = sample[VIEW_1]
    rows, columns = (side // cell_size for side in view.shape[1:])
    mask = sample.get(MASK)
    if mask is None:
        mask = torch.ones(rows * columns, dtype=torch.bool).scatter(0, sample[VISIBLE], False)
    pixels = mask.reshape(rows, columns).repeat_interleave(cell_size, 0).repeat_interleave(cell_size, 1)
    return torch.where(pixels, view.min(), view)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method")
    parser.add_argument("--phase", type=int, help="stage or phase, for methods with several")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=NUMBER", help="settings of the bundle to override")
    parser.add_argument("--keys", nargs="*", help="images to show, in this order; default: all")
    parser.add_argument(
        "--tokenizer", type=Path, help="tokenizer.pt of BEiT's demonstration, to show its decoded tokens"
    )
    parser.add_argument("--suffix", default="", help="suffix of the file name")
    arguments = parser.parse_args()
    options = {key: int(value) for key, value in (text.split("=") for text in arguments.set)}
    samples = views_of(arguments.method, arguments.phase, options, arguments.tokenizer)
    keys = arguments.keys or list(samples[0])
    figure, axes = visualize.picture_panels(len(samples), len(keys), panel_size=min(2.1, 14 / len(keys)))
    for row, sample in enumerate(samples):
        for column, key in enumerate(keys):
            visualize.show_gray(axes[row, column], sample[key], key.replace("_", " ") if row == 0 else "")
    path = FOLDER / f"{arguments.method}{arguments.suffix}.png"
    figure.savefig(path, dpi=80)
    Image.open(path).convert("L").quantize(64).save(path, optimize=True)
    sys.stdout.write(f"{path}: {path.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
