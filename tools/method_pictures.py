"""Pictures of the views of a method: python tools/method_pictures.py lamps [--phase N]

A picture has one row per shipped radiograph and one column per image of the batch item that the views transform of the
bundle (with its cpu_demo) makes. Hidden cells are orange. The tool writes docs/images/<method>.png.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from PIL import Image

from monai_anat import data, resources, visualize
from monai_anat.keys import MASK, PHASE, TARGET, VIEW_1, VISIBLE

FOLDER = Path(__file__).parents[1] / "docs" / "images"
#: color of hidden cells, red, green, blue and opacity
HIDDEN = np.array([0.9, 0.55, 0.1, 1.0])


def views_of(
    name: str, phase: int | None, options: dict[str, Any], tokenizer: Path | None
) -> list[dict[str, torch.Tensor]]:
    """Make the images of three samples by title; stacks of parts give one image each.

    Args:
        name: name of the method in the name of its bundle.
        phase: stage or phase of the samples; None for methods without.
        options: replaced entries of the configuration.
        tokenizer: file with the weights of BEiT's tokenizer, or None.

    Returns:
        One dictionary per sample.
    """
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
            images = {VIEW_1: images[VIEW_1], "visible cells": visible_cells(sample, views.cell_size), **images}
        if tokenizer is not None:
            network = parser.get_parsed_content("tokenizer")
            network.load_state_dict(torch.load(tokenizer, weights_only=True))
            words = network.tokens(sample[TARGET][None])
            with torch.no_grad():
                images["decoded words"] = network.decode_samples(words)[0]
        samples.append(images)
    return samples


def visible_cells(sample: dict[str, torch.Tensor], cell_size: int) -> torch.Tensor:
    """Replace the hidden cells of a view by NaN."""
    view = sample[VIEW_1]
    rows, columns = (side // cell_size for side in view.shape[1:])
    mask = sample.get(MASK)
    if mask is None:
        mask = torch.ones(rows * columns, dtype=torch.bool).scatter(0, sample[VISIBLE], False)
    pixels = mask.reshape(rows, columns).repeat_interleave(cell_size, 0).repeat_interleave(cell_size, 1)
    return torch.where(pixels, torch.nan, view)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method")
    parser.add_argument("--phase", type=int, help="stage or phase of a phased method")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=NUMBER", help="overrides of the bundle's config")
    parser.add_argument("--keys", nargs="*", help="titles of the images, in order; all by default")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.pt of BEiT's demonstration, to decode the words")
    parser.add_argument("--suffix", default="", help="added to the file's name")
    arguments = parser.parse_args()
    options = {key: int(value) for key, value in (text.split("=") for text in arguments.set)}
    samples = views_of(arguments.method, arguments.phase, options, arguments.tokenizer)
    keys = arguments.keys or list(samples[0])
    figure, axes = visualize.picture_panels(len(samples), len(keys), panel_size=min(2.1, 14 / len(keys)))
    for row, sample in enumerate(samples):
        for column, key in enumerate(keys):
            image = sample[key]
            visualize.show_gray(axes[row, column], image.nan_to_num(), key.replace("_", " ") if row == 0 else "")
            hidden = image[0].isnan().numpy()
            if hidden.any():
                axes[row, column].imshow(np.where(hidden[..., None], HIDDEN, 0.0), interpolation="nearest")
    path = FOLDER / f"{arguments.method}{arguments.suffix}.png"
    figure.savefig(path, dpi=80)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)
    sys.stdout.write(f"{path}: {path.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
