"""Report of a trained classifier: metrics with intervals, calibration and attributions."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_anat.data.items import DatalistError
from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.class_task import accuracy, score_classes
from monai_anat.evaluation.patients import image_fingerprint, patients_of
from monai_anat.evaluation.protocol import TEST
from monai_anat.evaluation.pseudonyms import Pseudonyms
from monai_anat.evaluation.results import Result
from monai_anat.files import write_bytes_atomically, write_text_atomically
from monai_anat.keys import IMAGE, LABEL
from monai_anat.metrics.calibration import Reliability, reliability
from monai_anat.transforms.ten_crop import ten_crops
from monai_anat.visualize.attributions import draw_attributions
from monai_anat.visualize.calibration import draw_calibration
from monai_anat.visualize.figures import encode_png

__all__ = ["report_classifier", "write_attributions"]

#: fewest images in a bin of the calibration curve
MIN_IN_BIN = 10
#: most classes in the figure of attributions
MAX_CLASSES = 14


def report_classifier(
    probabilities: Tensor,
    labels: Tensor,
    datalist: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    output_dir: str | os.PathLike[str],
    *,
    exclusive: bool = False,
    bins: int = 10,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Score predictions class by class, with intervals over patients, and write tables and figures.

    It writes ``classification.json`` (the result), ``predictions.csv`` (one line per image) and ``calibration.png``.
    The files contain no file names: images appear by their position in the datalist ("test 17"), and the look-up file
    ``OUTPUT_DIR.files.json`` beside the folder maps positions to paths. A class with only positive or only negative
    images has no area under a curve: its value is None, with the reason.

    Args:
        probabilities: (N, C) in [0, 1].
        labels: (N, C) of 0, 1 and NaN for unknown.
        datalist: the N items, with ``image`` and, for intervals over patients, ``patient``.
        class_names: C names.
        output_dir: output folder; created if it does not exist.
        exclusive: whether exactly one class holds for an image; adds the accuracy.
        bins: bins of the calibration curve; fewer if a bin would hold less than 10 images.
        resamples: number of bootstrap resamples over patients.
        confidence: coverage of the intervals.
        seed: random seed of the resampling.
        settings: further settings to record, JSON values.

    Returns:
        The result, with metrics ``auroc``, ``auprc``, ``auroc/<class>``, ..., notes, and
        ``extra["calibration_error"]`` by class.

    Raises:
        DatalistError: if predictions, labels and items differ in number.

    >>> import tempfile
    >>> items = [{"image": name, "patient": name} for name in "abcd"]
    >>> scores, labels = torch.tensor([[0.9], [0.8], [0.3], [0.1]]), torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report_classifier(scores, labels, items, ["Mass"], folder, resamples=50).metrics["auroc"].value
    1.0
    """
    scores, truth = (np.asarray(part.detach().cpu(), dtype=np.float64) for part in (probabilities, labels))
    if scores.shape != truth.shape or scores.shape != (len(datalist), len(class_names)):
        raise DatalistError(
            f"probabilities and labels must be ({len(datalist)}, {len(class_names)}), a row per item and a column per "
            f"class, got {scores.shape} and {truth.shape}"
        )
    names = [str(name) for name in class_names]
    truth = np.where(np.isin(truth, (0, 1)), truth, np.nan)
    bootstrap = PatientBootstrap(patients_of(datalist), resamples=resamples, confidence=confidence, seed=seed)
    metrics, notes = score_classes(scores, truth, names, bootstrap)
    if exclusive:
        metrics["accuracy"] = accuracy(scores, truth, bootstrap)
    curves = {
        name: reliability(truth[:, index], scores[:, index], max(1, min(bins, known // MIN_IN_BIN)))
        for index, name in enumerate(names)
        if (known := int(np.isfinite(truth[:, index]).sum()))
    }
    result = Result(
        "classification",
        settings={"exclusive": exclusive, "resamples": resamples, "confidence": confidence, **(settings or {})},
        n_images=len(datalist),
        n_patients=len(bootstrap.names),
        patients=bootstrap.fingerprint,
        images=image_fingerprint(datalist),
        metrics=metrics,
        notes=notes,
        extra={
            "class_names": names,
            "calibration_error": {name: round(curve.error, 6) for name, curve in curves.items()},
        },
    )
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(result.to_json(replicates=False), indent=1)
    write_text_atomically(folder / "classification.json", content + "\n")
    Pseudonyms({TEST: datalist}).write_lookup(folder)
    _write_predictions(folder / "predictions.csv", names, scores, truth)
    if curves:
        _draw_curves(folder / "calibration.png", curves)
    return result


def write_attributions(
    visualizer: Callable[..., Any],
    dataset: Sequence[Mapping[str, Any]],
    probabilities: Tensor,
    class_names: Sequence[str],
    path: str | os.PathLike[str],
    *,
    size: int,
    per_class: int = 1,
) -> Path:
    """Draw class activation maps of the test images with the highest probabilities, class by class.

    An image that is drawn for one class is not repeated for another, while there are others.

    Args:
        visualizer: a visualizer of MONAI, such as ``monai.visualize.GradCAM(network, "backbone", postprocessing=...)``;
            called as ``visualizer(x, class_idx=tensor)``. MONAI's default postprocessing inverts the maps: pass an
            identity.
        dataset: preprocessed items with ``image`` (channels, H, W) and ``label`` (C,), for the caption; in the order of
            ``probabilities``.
        probabilities: (N, C).
        class_names: C names; the first 14 are drawn.
        path: the PNG file.
        size: side in pixels of the center crop for the network.
        per_class: images per class.

    Returns:
        The path.
    """
    images, maps, captions = [], [], []
    names = list(class_names)[:MAX_CLASSES]
    for number, chosen in enumerate(_surest_images(probabilities[:, : len(names)], per_class)):
        for index in chosen:
            item = dataset[index]
            image = torch.as_tensor(item[IMAGE])[None]
            image = ten_crops(image, size, corners=False, mirror=False)[0].to(probabilities.device)
            # a frozen backbone has no other way to a gradient; MONAI's CAM takes no plain number
            heat = visualizer(image.detach().clone().requires_grad_(True), class_idx=torch.tensor([number]))
            images.append(image[0].cpu())
            maps.append(torch.as_tensor(heat).detach().cpu()[0, 0])
            label = _label_in_words(float(item[LABEL][number]))
            captions.append(f"{names[number]}: {probabilities[index, number]:.0%}\nlabel: {label}")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(target, encode_png(draw_attributions(images, maps, captions, columns=min(4, len(images)))))
    return target


def _surest_images(probabilities: Tensor, per_class: int) -> list[list[int]]:
    """For each class, choose the images with the highest probability, preferring those of no earlier class.

    >>> _surest_images(torch.tensor([[0.9, 0.8, 0.7], [0.5, 0.6, 0.2]]), per_class=1)
    [[0], [1], [0]]
    """
    chosen: list[list[int]] = []
    for column in probabilities.T:
        used = {index for indices in chosen for index in indices}
        ranked = column.argsort(descending=True, stable=True).tolist()
        chosen.append(sorted(ranked, key=used.__contains__)[:per_class])  # stable: unused ones first
    return chosen


def _label_in_words(label: float) -> str:
    return {0.0: "no", 1.0: "yes"}.get(label, "unknown")


def _draw_curves(path: Path, curves: Mapping[str, Reliability]) -> None:
    captions = {name: f"calibration error {curve.error:.2f}" for name, curve in curves.items()}
    parts = {name: (curve.predicted, curve.observed, curve.counts) for name, curve in curves.items()}
    write_bytes_atomically(path, encode_png(draw_calibration(parts, captions)))


def _write_predictions(path: Path, names: list[str], scores: Any, truth: Any) -> None:
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(["image", *names, *(f"label of {name}" for name in names)])
    for number, (score, label) in enumerate(zip(scores, truth, strict=True)):
        known = ["" if np.isnan(value) else int(value) for value in label]
        writer.writerow([f"{TEST} {number}", *(f"{value:.5f}" for value in score), *known])
    write_text_atomically(path, rows.getvalue())
