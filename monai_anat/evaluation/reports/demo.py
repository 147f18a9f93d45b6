"""Page and table of the demonstration."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_anat.data.reading.preprocessing import radiograph_preprocessing
from monai_anat.evaluation.bootstrap import nan_mean
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.pictures import ReportFigure
from monai_anat.evaluation.probes.landmarks import LandmarkProbe
from monai_anat.evaluation.protocol import case_pictures
from monai_anat.evaluation.reports.metric_tables import format_metric
from monai_anat.evaluation.reports.report import Report, ReportTable
from monai_anat.evaluation.reports.restorations import load_restorations
from monai_anat.evaluation.results import Result
from monai_anat.keys import CORRESPONDENCE, IMAGE, VIEW_1, VIEW_2
from monai_anat.networks.pretrained.records import read_encoder_record
from monai_anat.transforms.grid_crops import RandOverlappingGridCropsd
from monai_anat.visualize.crops import draw_overlapping_crops
from monai_anat.visualize.curves import draw_curves
from monai_anat.visualize.segmentations import draw_segmentations
from monai_anat.visualize.views import draw_restorations

__all__ = [
    "add_crops",
    "add_dice",
    "add_masks",
    "add_training",
    "demo_report",
    "difference_sentence",
    "few_shot_sentence",
    "few_shot_table",
]

#: why a difference is not that of the means beside it
_WEIGHTS = "The means give every image the same weight, a difference gives every patient the same weight."
_CURVES = ("loss", "order", "restoration", "global_consistency", "local_consistency", "effective_rank")

Datalist = Sequence[Mapping[str, Any]]


def few_shot_sentence(result: Mapping[str, Any]) -> str:
    """Summarize shots, draws, and the mean Dice of every arm."""
    protocol, arms = result["protocol"], result["arms"]
    scores = "; ".join(f"{name}: Dice {arm['mean']:.3f} ± {arm['std']:.3f}" for name, arm in arms.items())
    return (
        f"Right and left lung segmented from {protocol['shots']} labeled images, {len(protocol['seeds'])} draws, "
        f"{len(result['test_images'])} test images. {scores} (mean and standard deviation over draws)."
    )


def difference_sentence(name: str, value: Mapping[str, Any]) -> str:
    """Describe a paired difference between two arms."""
    brackets = ""
    if value["interval"] is not None:
        low, high = value["interval"]
        interval = f"{value['confidence']:.0%} interval {low:+.3f} to {high:+.3f}"
        brackets = f" ({interval}, over draws and test patients)"
    return f"{name}: {value['mean']:+.3f} Dice{brackets}, ahead in {value['draws_better']:.0%} of the draws"


def add_dice(report: Report, result: Mapping[str, Any]) -> None:
    """Append the table of Dice per draw and structure, and the paired differences."""
    structures = result["protocol"]["class_names"][1:]
    rows: list[list[Any]] = []
    strong = []
    for name, arm in result["arms"].items():
        for draw in arm["draws"]:
            rows.append([name, str(draw["seed"]), *(draw[structure] for structure in structures), draw["dice"]])
        scores = np.array([[draw[structure] for structure in structures] for draw in arm["draws"]], dtype=float)
        means = nan_mean(scores, axis=0).tolist()
        strong.append(len(rows))
        rows.append([name, "mean", *means, arm["mean"]])
        rows.append([name, "std", *("" for _ in structures), arm["std"]])
    rates = ", ".join(f"{name} {arm['learning_rate']:g}" for name, arm in result["arms"].items())
    report.add_section(
        "Segmentation from a few labels",
        "Every arm gets the same images with the same augmentation for the same number of steps. Its learning rate is "
        f"the best of the same grid on validation patients ({rates}). A draw is one choice of training images.",
        ReportTable(["encoder", "draw", *structures, "mean Dice"], rows, "Dice on test images", strong=strong),
        *(f"{difference_sentence(name, value)}. {_WEIGHTS}" for name, value in result["difference"].items()),
    )


def add_masks(report: Report, result: Mapping[str, Any], folder: Path) -> None:
    """Append test images with their masks, worst to best, from the output folder of FewShotSegmentation."""
    with np.load(folder / "few_shot_masks.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    seed = result["protocol"]["seeds"][0]
    first = np.array(next(iter(result["arms"].values()))["draws"][0]["dice_by_image"], dtype=float)
    order = np.argsort(first)[: np.isfinite(first).sum()]  # images without any structure have no Dice
    shown = [int(order[round(place)]) for place in np.linspace(0, len(order) - 1, min(6, len(order)))]
    blocks: list[str | ReportFigure] = [
        f"From the worst to the best test image of draw {seed}, by the first arm. Filled: predicted; dashed: the "
        "reader's outline."
    ]
    for name, arm in result["arms"].items():
        scores = arm["draws"][0]["dice_by_image"]
        figure = draw_segmentations(
            arrays["images"][shown],
            arrays[f"{name}/{seed}"][shown],
            arrays["labels"][shown],
            result["protocol"]["class_names"],
            captions=[f"Dice {scores[index]:.2f}" for index in shown],
        )
        blocks.append(ReportFigure(figure, f"Encoder: {name}"))
    report.add_section("Test images", *blocks)


def add_crops(report: Report, item: Mapping[str, Any], grid_size: int, cell_size: int, margin: int) -> None:
    """Append two overlapping crops of one radiograph with their matching cells."""
    chain = radiograph_preprocessing((grid_size + margin + 1) * cell_size)
    crops = RandOverlappingGridCropsd(IMAGE, grid_size, cell_size, margin)
    crops.set_random_state(seed=1)
    sample = crops(chain({IMAGE: item[IMAGE]}))
    place = crops.placement
    corners = np.asarray(place.origin) + np.asarray([place.offset_1, place.offset_2]) * cell_size
    figure = draw_overlapping_crops(
        sample[VIEW_1], sample[VIEW_2], sample[CORRESPONDENCE], grid_size, image=sample[IMAGE], corners=corners
    )
    report.add_section(
        "Views of the network",
        "Two crops on one grid, so that every cell in the overlap shows the same pixels in both. The network learns to "
        "give matching cells, and both crops as wholes, the same embedding.",
        ReportFigure(figure, "The same color, or number, is the same anatomy"),
    )


def add_training(report: Report, folder: Path) -> None:
    """Append restorations and training curves, if they are in the folder of a training run."""
    if (folder / "restorations.npz").is_file():
        saved = load_restorations(folder / "restorations.npz")
        figure = draw_restorations(saved["inputs"], saved["restored"], saved["targets"], saved["names"].tolist())
        report.add_section(
            "Restoration",
            "One crop is shuffled cell by cell or distorted. The network predicts the order of the cells and restores "
            "the original.",
            ReportFigure(figure, "Input, restoration, and original"),
        )
    if (folder / "metrics.jsonl").is_file():
        history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        names = [name for name in _CURVES if any(name in row for row in history)]
        last = history[-1]
        rates = [row["samples_per_second"] for row in history if "samples_per_second" in row]
        report.add_section(
            "Training",
            f"{last.get('step', len(history))} steps" + (f", {rates[-1]:.0f} images per second." if rates else "."),
            ReportFigure(draw_curves(history, names or None), "Loss terms and effective rank over the run"),
        )


def few_shot_table(result: Mapping[str, Any]) -> str:
    """Format a result of :class:`FewShotSegmentation` as plain text: Dice per draw, mean, spread and difference.

    >>> draws = [{"seed": 0, "dice": 0.9}, {"seed": 1, "dice": 0.8}]
    >>> arm = {"mean": 0.85, "std": 0.07, "learning_rate": 0.001, "draws": draws}
    >>> print(few_shot_table({"arms": {"scratch": arm}, "difference": {}}))
    arm            draw 0  draw 1    mean     std      lr
    scratch         0.900   0.800   0.850   0.070   0.001
    """
    arms = result["arms"]
    seeds = [draw["seed"] for draw in next(iter(arms.values()))["draws"]]
    lines = ["".join([f"{'arm':<13}", *(f"  draw {seed}" for seed in seeds), "    mean     std      lr"])]
    for name, arm in arms.items():
        cells = [f"{draw['dice']:8.3f}" for draw in arm["draws"]]
        lines.append("".join([f"{name:<13}", *cells, f"{arm['mean']:8.3f}{arm['std']:8.3f}{arm['learning_rate']:8g}"]))
    lines += [difference_sentence(name, value) for name, value in result["difference"].items()]
    lines += [_WEIGHTS] if result["difference"] else []
    return "\n".join(lines)


def demo_report(
    path: str | os.PathLike[str],
    *,
    few_shot_dir: str | os.PathLike[str],
    encoder_dir: str | os.PathLike[str],
    training_dir: str | os.PathLike[str] | None = None,
    pretraining: Datalist = (),
    test: Datalist = (),
    grid_size: int = 14,
    cell_size: int = 8,
    margin: int = 4,
) -> Path:
    """Write the page of the demonstration from the outputs of its runs.

    Args:
        path: the HTML file to write.
        few_shot_dir: ``output_dir`` of :class:`FewShotSegmentation`.
        encoder_dir: folder of the pre-trained encoder.
        training_dir: folder with ``metrics.jsonl`` and, optionally, ``restorations.npz`` (:func:`save_restorations`).
        pretraining: radiographs for the figure of the crops.
        test: labeled radiographs for the correspondence between patients.
        grid_size: cells per side of a view.
        cell_size: pixels per side of a cell.
        margin: largest offset of the two views, in cells.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: if the few-shot result or the encoder is missing.
    """
    folder = Path(few_shot_dir)
    result = json.loads((folder / "few_shot.json").read_text(encoding="utf-8"))
    record = read_encoder_record(encoder_dir)
    report = Report(
        "Learning anatomy from unlabeled radiographs",
        few_shot_sentence(result),
        footer=f"Made by monai_anat, for research only. Encoder: {record.backbone}, {record.image_size[0]} pixels.",
    )
    add_dice(report, result)
    add_masks(report, result, folder)
    if pretraining:
        add_crops(report, pretraining[0], grid_size, cell_size, margin)
    if training_dir is not None:
        add_training(report, Path(training_dir))
    if test:
        _add_landmarks(report, LandmarkProbe().run(FrozenEncoder.load(encoder_dir), test))
    return report.write(path)


def _add_landmarks(report: Report, result: Result) -> None:
    """Append landmarks found in another patient, and the errors of encoder, position and random weights."""
    rows = [
        [name, *(format_metric(metrics[key]) for key in ("error", "pck/0.1", "left_right_confusion"))]
        for name, metrics in {"pre-trained": result.metrics, **result.baselines}.items()
    ]
    report.add_section(
        "The same anatomy in another patient",
        "Each landmark of the lung outline is searched in another patient's image by its features alone, without any "
        "fine-tuning. Dots: found; rings: the reader's outline.",
        ReportTable(
            ["features", "error, thorax widths", "found within 0.1", "left for right"],
            rows,
            f"{result.extra['n_pairs']} pairs of images, {result.n_patients} patients; 95% intervals in brackets",
        ),
        *case_pictures(result),
    )
