"""The page and the table that the demo ends with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_anat.evaluation.frozen import FrozenEncoder
from monai_anat.evaluation.probes.landmarks import LandmarkProbe
from monai_anat.evaluation.reports.pictures import case_pictures
from monai_anat.evaluation.reports.report import Report, ReportTable
from monai_anat.evaluation.reports.sections import (
    add_crops,
    add_dice,
    add_masks,
    add_training,
    difference_sentence,
    few_shot_sentence,
    format_metric,
)
from monai_anat.networks.pretrained.records import read_encoder_record

__all__ = ["demo_report", "few_shot_table"]

Datalist = Sequence[Mapping[str, Any]]


def few_shot_table(result: Mapping[str, Any]) -> str:
    """The outcome of :class:`FewShotSegmentation` as plain text: Dice per draw, mean and spread, and the difference.

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
    """Assemble the demo's page from what its runs left.

    Args:
        path: the HTML file to write.
        few_shot_dir: ``output_dir`` of :class:`FewShotSegmentation`.
        encoder_dir: the pre-trained encoder, as ``save_encoder`` wrote it.
        training_dir: with ``metrics.jsonl`` and, where there is one, ``restorations.npz``
            (:func:`save_restorations`).
        pretraining: radiographs for the picture of the crops.
        test: labeled radiographs for the correspondence between patients.
        grid_size: cells per side of a view.
        cell_size: pixels per side of a cell.
        margin: cells that the two views may be apart.

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


def _add_landmarks(report: Report, result: Mapping[str, Any]) -> None:
    """Append landmarks found in another patient, and the errors of encoder, position and random weights."""
    rows = [
        [name, *(format_metric(metrics[key]) for key in ("error", "pck/0.1", "left_right_confusion"))]
        for name, metrics in {"pre-trained": result["metrics"], **result["baselines"]}.items()
    ]
    report.add_section(
        "The same anatomy in another patient",
        "Each landmark of the lung outline is searched in another patient's image by its features alone, without any "
        "fine-tuning. Dots: found; rings: where the reader's outline has it.",
        ReportTable(
            ["features", "error, thorax widths", "found within 0.1", "left for right"],
            rows,
            f"{result['n_pairs']} pairs of images, {result['n_patients']} patients; 95% intervals in brackets",
        ),
        *case_pictures(result),
    )
