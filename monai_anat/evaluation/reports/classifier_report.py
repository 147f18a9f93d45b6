"""What a trained classifier is worth on test images: numbers with intervals, calibration, and where it looked."""

from __future__ import annotations

import csv
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
from monai_anat.evaluation.frozen_protocol import patients_of
from monai_anat.keys import IMAGE, LABEL
from monai_anat.metrics.calibration import Reliability, reliability
from monai_anat.transforms.ten_crop import ten_crops
from monai_anat.visualize.attributions import draw_attributions
from monai_anat.visualize.calibration import draw_calibration
from monai_anat.visualize.figures import encode_png

__all__ = ["report_classifier", "write_attributions"]

#: images in a bin of the calibration curve: the share of fewer says nothing
LEAST_IN_BIN = 10
#: classes drawn at most
MOST_CLASSES = 14


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
) -> dict[str, Any]:
    """Score predictions class by class, with intervals over patients, and write everything that a reader may ask for.

    Written are ``classification.json`` (the result), ``predictions.csv`` (one line per image) and ``calibration.png``.
    A class with one kind of image only has no area under a curve: its value is None, and ``why`` says so.

    Args:
        probabilities: (N, C) in [0, 1].
        labels: (N, C) of 0, 1 and NaN for unknown.
        datalist: the N items, with ``image`` and, for intervals over patients, ``patient``.
        class_names: C names.
        output_dir: made where it is not there.
        exclusive: whether exactly one class holds for an image; adds the accuracy.
        bins: of the calibration curve; fewer where a bin would hold less than 10 images.
        resamples: of the bootstrap over patients.
        confidence: of the intervals.
        seed: of the resampling.
        settings: what else to note in the result, JSON values.

    Returns:
        The content of ``classification.json``: ``metrics`` from ``auroc``, ``auprc``, ``auroc/<class>``, ...,
        ``calibration_error`` by class, and ``notes``.

    Raises:
        DatalistError: predictions, labels and items of different number.

    >>> import tempfile
    >>> items = [{"image": name, "patient": name} for name in "abcd"]
    >>> scores, labels = torch.tensor([[0.9], [0.8], [0.3], [0.1]]), torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report_classifier(scores, labels, items, ["Mass"], folder, resamples=50)["metrics"]["auroc"]["value"]
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
        name: reliability(truth[:, index], scores[:, index], max(1, min(bins, known // LEAST_IN_BIN)))
        for index, name in enumerate(names)
        if (known := int(np.isfinite(truth[:, index]).sum()))
    }
    result = {
        "protocol": "classification",
        "settings": {"exclusive": exclusive, "resamples": resamples, "confidence": confidence, **(settings or {})},
        "n_images": len(datalist),
        "n_patients": len(bootstrap.names),
        "patients": bootstrap.fingerprint,
        "class_names": names,
        "metrics": {
            name: {key: value for key, value in metric.items() if key != "replicates"}
            for name, metric in metrics.items()
        },
        "calibration_error": {name: round(curve.error, 6) for name, curve in curves.items()},
        "notes": notes,
    }
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classification.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _write_predictions(folder / "predictions.csv", datalist, names, scores, truth)
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
    """Draw where the classifier looked on the test images that it is surest of, class by class.

    A class passes over images that another class shows already, while there are others.

    Args:
        visualizer: one of MONAI's, such as ``monai.visualize.GradCAM(network, "backbone", postprocessing=...)``; called
            as ``visualizer(x, class_idx=tensor)``. MONAI's own postprocessing turns maps upside down: give it an
            identity.
        dataset: preprocessed items with ``image`` (channels, H, W) and ``label`` (C,), which stands in the caption; in
            the order of ``probabilities``.
        probabilities: (N, C).
        class_names: C names; the first 14 are drawn.
        path: of the PNG.
        size: the center of so many pixels is shown to the network.
        per_class: images per class.

    Returns:
        The path.
    """
    images, maps, captions = [], [], []
    names = list(class_names)[:MOST_CLASSES]
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
    target.write_bytes(encode_png(draw_attributions(images, maps, captions, columns=min(4, len(images)))))
    return target


def _surest_images(probabilities: Tensor, per_class: int) -> list[list[int]]:
    """For each class the images of highest probability that no earlier class has, while there are such.

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
    path.write_bytes(encode_png(draw_calibration(parts, captions)))


def _write_predictions(
    path: Path, datalist: Sequence[Mapping[str, Any]], names: list[str], scores: Any, truth: Any
) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["image", *names, *(f"label of {name}" for name in names)])
        for item, score, label in zip(datalist, scores, truth, strict=True):
            known = ["" if np.isnan(value) else int(value) for value in label]
            writer.writerow([item[IMAGE], *(f"{value:.5f}" for value in score), *known])
