"""The sections that the pages of the demo and of an evaluation share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from monai_anat.data.reading.preprocessing import radiograph_preprocessing
from monai_anat.evaluation.paired import nan_mean
from monai_anat.evaluation.reports.pictures import case_pictures
from monai_anat.evaluation.reports.report import Report, ReportFigure, ReportTable
from monai_anat.evaluation.reports.restorations import load_restorations
from monai_anat.keys import CORRESPONDENCE, IMAGE, VIEW_1, VIEW_2
from monai_anat.transforms.grid_crops import RandOverlappingGridCropsd
from monai_anat.visualize.crops import draw_overlapping_crops
from monai_anat.visualize.curves import draw_curves
from monai_anat.visualize.embedding_map import draw_embedding_map
from monai_anat.visualize.intervals import draw_intervals
from monai_anat.visualize.label_curves import draw_label_curves
from monai_anat.visualize.segmentations import draw_segmentations
from monai_anat.visualize.views import draw_restorations

__all__ = [
    "MARK",
    "add_crops",
    "add_dice",
    "add_masks",
    "add_metrics",
    "add_training",
    "baselines_of",
    "curve_figures",
    "difference_sentence",
    "few_shot_sentence",
    "format_metric",
    "metric_figures",
    "metric_groups",
    "metric_panels",
    "metric_title",
    "table_caption",
]

#: stands after a value that is better by the paired test
MARK = " ▲"
_PANELS = 6  # metrics of a protocol that are drawn
_CURVES = ("loss", "order", "restoration", "global_consistency", "local_consistency", "effective_rank")


def few_shot_sentence(result: Mapping[str, Any]) -> str:
    """Shots, draws, and the mean Dice of every arm, in a sentence or two."""
    protocol, arms = result["protocol"], result["arms"]
    scores = "; ".join(f"{name}: Dice {arm['mean']:.3f} ± {arm['std']:.3f}" for name, arm in arms.items())
    return (
        f"Right and left lung segmented from {protocol['shots']} labeled images, {len(protocol['seeds'])} draws, "
        f"{len(result['test_images'])} test images. {scores} (mean and standard deviation over draws)."
    )


def difference_sentence(name: str, value: Mapping[str, Any]) -> str:
    """One paired difference in words."""
    low, high = value["interval"]
    return (
        f"{name}: {value['mean']:+.3f} Dice ({value['confidence']:.0%} interval {low:+.3f} to {high:+.3f}, over draws "
        f"and test patients), ahead in {value['draws_better']:.0%} of the draws"
    )


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
        "Every arm sees the same images with the same augmentation for the same number of steps. Its learning rate is "
        f"the best of the same grid on validation patients ({rates}). A draw is one choice of training images.",
        ReportTable(["encoder", "draw", *structures, "mean Dice"], rows, "Dice on test images", strong=strong),
        *(difference_sentence(name, value) + "." for name, value in result["difference"].items()),
    )


def add_masks(report: Report, result: Mapping[str, Any], folder: Path) -> None:
    """Append test images with their masks, worst to best, from what FewShotSegmentation wrote to ``folder``."""
    with np.load(folder / "few_shot_masks.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    seed = result["protocol"]["seeds"][0]
    first = np.array(next(iter(result["arms"].values()))["draws"][0]["dice_by_image"], dtype=float)
    order = np.argsort(first)[: np.isfinite(first).sum()]  # images that show no structure have no Dice
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


def add_metrics(report: Report, result: Mapping[str, Any]) -> None:
    """Append the metrics of any protocol, drawn and as a table beside the values of its baselines, and its cases."""
    baselines = result["baselines"]
    columns = ["metric", "encoder", *baselines, "unit"]
    marks = f" {MARK.strip()}: better than every baseline by the paired test." if result["comparisons"] else ""
    if any("random" in name for name in baselines) and marks:
        marks += " Random weights are those of one seed: a small difference from them is no sign of learning."
    blocks: list[str | ReportTable | ReportFigure] = list(metric_figures({"encoder": result}))
    for title, names in metric_groups(result).items():
        rows = []
        for name in names:
            metric = result["metrics"][name]
            value = format_metric(metric) + MARK * _is_ahead(result, name)
            others = [format_metric(baseline.get(name), interval=False) for baseline in baselines.values()]
            rows.append([metric_title(name.removesuffix(f"/{title}"), metric), value, *others, metric["unit"]])
        blocks.append(ReportTable(columns, rows, table_caption(result, title) + marks))
        marks = ""  # told once
    if "picture" in result:
        picture = result["picture"]
        figure = draw_embedding_map(picture["points"], picture["landmark"], result["landmark_names"])
        blocks.append(ReportFigure(figure, "Windows around landmarks, by t-SNE of their embeddings"))
    report.add_section(str(result["protocol"]).capitalize(), *blocks, *case_pictures(result), *result["notes"])


def format_metric(metric: Mapping[str, Any] | None, *, interval: bool = True) -> str:
    """The value of a metric with its interval in brackets, as far as there are any.

    >>> format_metric({"value": 0.5, "low": 0.4, "high": 0.6})
    '0.500 (0.400 to 0.600)'
    """
    if metric is None or metric["value"] is None:
        return "–"
    known = interval and metric["low"] is not None
    return f"{metric['value']:.3f}" + (f" ({metric['low']:.3f} to {metric['high']:.3f})" if known else "")


def metric_title(name: str, metric: Mapping[str, Any]) -> str:
    """A metric's name as a reader sees it, with the direction that is better.

    >>> metric_title("left_right_confusion", {"better": "lower"})
    'left right confusion ↓'
    """
    arrow = {"higher": " ↑", "lower": " ↓"}.get(metric["better"], "")
    return name.replace("_", " ") + arrow


def metric_groups(result: Mapping[str, Any]) -> dict[str, list[str]]:
    """The metrics in tables: one for each number of labels and way of using them, where there are such, or one.

    >>> metric_groups({"metrics": {"dice/3 labels, frozen": {}, "hd95/3 labels, frozen": {}}, "n_draws": 3})
    {'3 labels, frozen': ['dice/3 labels, frozen', 'hd95/3 labels, frozen']}
    """
    groups: dict[str, list[str]] = {}
    for name in result["metrics"]:
        groups.setdefault(name.rpartition("/")[2] if "n_draws" in result else "", []).append(name)
    return groups


def table_caption(result: Mapping[str, Any], title: str = "") -> str:
    """What the table of a protocol rests on."""
    confidence = result["settings"].get("confidence", 0.95)
    known = any(metric["low"] is not None for metric in result["metrics"].values())
    rests = f"{result['n_patients']} patients" + (f", {result['n_draws']} draws" if "n_draws" in result else "")
    lead = f"{title[0].upper()}{title[1:]}: " if title else ""
    brackets = f", {confidence:.0%} intervals in brackets" if known else ""
    return f"{lead}{rests}{brackets}; ↑ higher is better, ↓ lower."


def _is_ahead(result: Mapping[str, Any], name: str) -> bool:
    """Whether a metric is better than that of every baseline which has it."""
    compared = [metrics[name]["ahead"] for metrics in result["comparisons"].values() if name in metrics]
    return bool(compared) and all(ahead == "first" for ahead in compared)


def baselines_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """The baselines of several encoders: one that is the same for all, or else one for each, called after it.

    Args:
        results: encoder -> what one protocol returned for it.

    >>> found = {name: {"baselines": {"random": {"Dice": {"value": v}}}} for name, v in (("a", 0.2), ("b", 0.3))}
    >>> list(baselines_of(found))
    ['random (a)', 'random (b)']
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for result in results.values() for name in result.get("baselines", {})):
        own = {encoder: result["baselines"][name] for encoder, result in results.items() if name in result["baselines"]}
        values = [{metric: entry["value"] for metric, entry in baseline.items()} for baseline in own.values()]
        if all(value == values[0] for value in values):
            found[name] = next(iter(own.values()))
        else:
            found |= {f"{name} ({encoder})": baseline for encoder, baseline in own.items()}
    return found


def metric_figures(results: Mapping[str, Any]) -> list[ReportFigure]:
    """Curves over numbers of labels, or the main metrics with their intervals where there are none.

    Args:
        results: encoder -> what one protocol returned for it.
    """
    first = next(iter(results.values()))
    if first.get("curves"):
        return curve_figures(results)
    if all(metric["value"] is None for metric in first["metrics"].values()):
        return []
    caption = f"{first['protocol']}: values and intervals; lines are baselines"
    return [ReportFigure(metric_panels(results), caption)]


def metric_panels(results: Mapping[str, Any]) -> Figure:
    """The metrics without parts, each encoder with its interval, and baselines as lines.

    Args:
        results: encoder -> what one protocol returned for it.
    """
    first = next(iter(results.values()))
    beside = list(dict.fromkeys(name for result in results.values() for name in result.get("baselines", {})))
    known = [name for name, metric in first["metrics"].items() if metric["value"] is not None]
    main = [name for name in known if "/" not in name] or known
    groups, references, titles = {}, {}, []
    for metric in main[:_PANELS]:
        entries = {name: result["metrics"].get(metric) for name, result in results.items()}
        groups[metric] = {
            name: (entry["value"], entry["low"], entry["high"])
            for name, entry in entries.items()
            if entry is not None and entry["value"] is not None
        }
        lines = {name: _values_of(results, name, metric) for name in beside}
        references[metric] = {name: values for name, values in lines.items() if values}
        titles.append(metric_title(metric, first["metrics"][metric]))
    return draw_intervals(groups, references, titles)


def curve_figures(results: Mapping[str, Any]) -> list[ReportFigure]:
    """What the results say under ``curves``: scores against the number of labels, of encoders and baselines.

    Args:
        results: encoder -> what one protocol returned for it.
    """
    lines = {name: result["metrics"] for name, result in results.items()} | baselines_of(results)
    figures = []
    for curve in next(iter(results.values())).get("curves", []):
        drawn: dict[str, Any] = {}
        for name, metrics in lines.items():
            for way, places in curve["ways"].items():
                known = [
                    (x, metrics[metric]) for x, metric in places if metrics.get(metric, {}).get("value") is not None
                ]
                if known:
                    points = [(x, metric["value"], metric["low"], metric["high"]) for x, metric in known]
                    drawn.setdefault(name, {})[way] = points
        if drawn:
            figure = draw_label_curves(drawn, curve["x_label"], curve["y_label"])
            every = [point for ways in drawn.values() for points in ways.values() for point in points]
            bars = "; bars are intervals" if any(low is not None for _, _, low, _ in every) else ""
            figures.append(ReportFigure(figure, f"{curve['y_label']}, by {curve['x_label']}{bars}"))
    return figures


def _values_of(results: Mapping[str, Any], baseline: str, metric: str) -> dict[str, float]:
    """A metric of each encoder's baseline, where it has a value."""
    values = {
        encoder: result.get("baselines", {}).get(baseline, {}).get(metric, {}).get("value")
        for encoder, result in results.items()
    }
    return {encoder: value for encoder, value in values.items() if value is not None}


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
        "What the network is shown",
        "Two crops on one grid, so that every cell in the overlap shows the same pixels in both. The network learns to "
        "give matching cells, and both crops as wholes, the same embedding.",
        ReportFigure(figure, "The same color, or number, is the same anatomy"),
    )


def add_training(report: Report, folder: Path) -> None:
    """Append restorations and curves, as far as a training run left them in its folder."""
    if (folder / "restorations.npz").is_file():
        saved = load_restorations(folder / "restorations.npz")
        figure = draw_restorations(saved["inputs"], saved["restored"], saved["targets"], saved["names"].tolist())
        report.add_section(
            "What it restores",
            "One crop is shuffled cell by cell or distorted; from it the network tells the order of the cells and "
            "restores the original.",
            ReportFigure(figure, "Input, what the network restores, and the original"),
        )
    if (folder / "metrics.jsonl").is_file():
        history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        names = [name for name in _CURVES if any(name in row for row in history)]
        last = history[-1]
        rates = [row["samples_per_second"] for row in history if "samples_per_second" in row]
        report.add_section(
            "How it learned",
            f"{last.get('step', len(history))} steps" + (f", {rates[-1]:.0f} images per second." if rates else "."),
            ReportFigure(draw_curves(history, names or None), "Loss terms and effective rank over the run"),
        )
