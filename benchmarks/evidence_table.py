"""Table and page of evidence.py, from the JSON files of its cells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Cells = Mapping[tuple[str, int], Mapping[str, Any]]

#: labeled images of the segmentations
SHOTS = (1, 3)
#: protocol -> its metric in the table, and the column's name
HEADLINES = {
    "landmarks": ("error", "landmark error (thorax widths)"),
    "localizability": ("knn_accuracy", "localizability, k-NN"),
    "co-segmentation": ("iou", "co-segmentation, IoU"),
    "collapse": ("effective_rank", "effective rank"),
}
#: in the folder of a cell: what it is, and the seconds of its pre-training so far
NOTE_NAME = "cell.json"


def read_cells(out: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Read the files of all cells, by (arm, seed)."""
    cells = [json.loads(path.read_text()) for path in sorted(out.glob("*-*.json"))]
    return {(cell["arm"], cell["seed"]): cell for cell in cells}


def refuse_mixture(out: Path, preset: str | None = None, data: str | None = None) -> None:
    """Raise if a folder holds finished or unfinished cells of another preset or of other data.

    Args:
        out: the folder; what a file does not say (older ones name no data) is not asked.
        preset: that is wanted; by default the one of the first file.
        data: name of the folder that is wanted; likewise.

    Raises:
        ValueError: names the file.
    """
    wanted = {"preset": preset, "data": data}
    for path in (*sorted(out.glob("*-*.json")), *sorted(out.glob(f"*-*/{NOTE_NAME}"))):
        found = json.loads(path.read_text())
        for key, value in wanted.items():
            wanted[key] = value or found.get(key)
            if found.get(key, wanted[key]) != wanted[key]:
                raise ValueError(
                    f"{path} is of {key} {found[key]!r}, not {wanted[key]!r}, and one table takes one of each; give "
                    "each a folder of its own by --out"
                )


def table(cells: Cells, scratch_of: Mapping[str, str | None]) -> str:
    """Make one row per arm: each metric over the seeds, and whether it is ahead of scratch.

    Args:
        cells: what :func:`read_cells` read.
        scratch_of: arm, in the order of the rows -> the arm that it is compared with; None for untrained ones.
    """
    columns = ["arm", "seeds", *(title for _, title in HEADLINES.values())]
    for shots in SHOTS:
        columns += [f"Dice, {shots} label{'s' * (shots > 1)}", "minus scratch"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    gaps: dict[str, None] = {}
    for arm, scratch in scratch_of.items():
        seeds = [seed for name, seed in cells if name == arm]
        if not seeds:
            continue
        found = {seed: gap(cells, arm, scratch, seed) for seed in seeds} if scratch else {}
        gaps |= dict.fromkeys(text for text in found.values() if text)
        values = [
            f"{spread([_value(cells[arm, seed], protocol) for seed in seeds])} "
            f"{verdict(cells, arm, scratch, found, protocol)}".strip()
            for protocol in HEADLINES
        ]
        for shots in SHOTS:
            dice = [cells[arm, seed]["results"][f"few-shot-{shots}"]["arms"]["arm"]["mean"] for seed in seeds]
            # an untrained network is drawn anew in each draw of labeled images, whatever the seed: it has one Dice
            values += [spread(dice if scratch else dice[:1]), dice_gain(cells, arm, scratch, seeds, shots)]
        lines.append(f"| {' | '.join([arm, str(len(seeds)), *values])} |")
    if gaps:
        lines.append(f"\n? not compared, for want of {'; '.join(gaps)}. Run these cells again.")
    return "\n".join(lines)


def _value(cell: Mapping[str, Any], protocol: str) -> float | None:
    value: float | None = cell["results"][protocol]["metrics"].get(HEADLINES[protocol][0], {}).get("value")
    return value


def spread(values: Sequence[float | None]) -> str:
    """Format mean and range of the defined values.

    >>> spread([0.5, None, 0.6]), spread([0.5])
    ('0.550 (0.500 to 0.600)', '0.500')
    """
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{sum(known) / len(known):.3f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.3f} to {max(known):.3f})"


def lacking(cell: Mapping[str, Any]) -> str:
    """Name what a paired comparison needs and the cell lacks, as in files of older versions; "" if nothing."""
    from monai_anat import evaluation

    results = headlines(cell)
    try:
        evaluation.compare_evaluations(results, results)
    except KeyError as error:
        return str(error.args[0])
    return ""


def headlines(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results that the page shows."""
    return {protocol: cell["results"][protocol] for protocol in HEADLINES}


def gap(cells: Cells, arm: str, scratch: str, seed: int) -> str:
    """Name what is missing to compare an arm with scratch of the same seed; "" if nothing."""
    for name in (scratch, arm):
        if (name, seed) not in cells:
            return f"{name}-{seed}.json"
        lack = lacking(cells[name, seed])
        if lack:
            return f"{lack} in {name}-{seed}.json"
    return ""


def verdict(cells: Cells, arm: str, scratch: str | None, gaps: Mapping[int, str], protocol: str) -> str:
    """Count the seeds in which the paired interval puts the arm ahead or behind; "?" if one was not compared."""
    from monai_anat import evaluation

    metric, outcomes = HEADLINES[protocol][0], []
    for seed in [seed for seed, text in gaps.items() if not text]:
        pair = [cells[name, seed]["results"][protocol] for name in (arm, scratch or arm)]
        short = [{**one, "metrics": {k: v for k, v in one["metrics"].items() if k == metric}} for one in pair]
        outcomes.append(evaluation.compare_results(*short).get(metric, {}).get("ahead"))
    counts = [f"{sign}{outcomes.count(who)}/{len(outcomes)}" for sign, who in (("+", "first"), ("-", "second"))]
    return " ".join([*(count for count in counts if count[1] != "0"), *["?"] * any(gaps.values())])


def dice_gain(cells: Cells, arm: str, scratch: str | None, seeds: Sequence[int], shots: int) -> str:
    """Format Dice minus that of scratch, paired by draw and patient, with its 95 % interval; "?" without scratch.

    Every seed sees the same draws of labeled images, so each draw counts once, by its mean over the seeds.
    """
    import numpy as np

    from monai_anat.evaluation.paired import paired_difference

    if scratch is None:
        return ""
    pairs = [(cells[arm, seed], cells[scratch, seed]) for seed in seeds if (scratch, seed) in cells]
    if not pairs:
        return "?"
    runs = [[cell["results"][f"few-shot-{shots}"] for cell in side] for side in zip(*pairs, strict=True)]
    dice = [[[draw["dice_by_image"] for draw in run["arms"]["arm"]["draws"]] for run in side] for side in runs]
    result = paired_difference(*np.mean(dice, axis=1), runs[0][0]["test_patients"])
    gain = "{:+.3f} ({:+.3f} to {:+.3f})".format(result["mean"], *result["interval"])
    return gain + " ?" * (len(pairs) < len(seeds))


def write_page(cells: Cells, arms: Sequence[str], path: Path) -> str:
    """Write the page: the first seed of every arm, with paired intervals over the test patients.

    Pictures of cases are left out where their radiographs are gone.

    Returns:
        A line about what the page does not show, or "".
    """
    from monai_anat.evaluation.reports.comparison import write_comparison

    first = {arm: min(seed for name, seed in cells if name == arm) for arm in arms if any(arm == n for n, _ in cells)}
    lacks = {arm: lacking(cells[arm, seed]) for arm, seed in first.items()}
    shown = {arm: headlines(cells[arm, seed]) for arm, seed in first.items() if not lacks[arm]}
    missing = "; ".join(
        f"{lack} in {', '.join(f'{arm}-{first[arm]}.json' for arm in lacks if lacks[arm] == lack)}"
        for lack in dict.fromkeys(lacks.values())
        if lack
    )
    if len(shown) < 2:
        return f"{path.name} not written: it needs two arms, got {len(shown)}" + (
            missing and f", for want of {missing}"
        )
    write_comparison(shown, path, "The same images, steps and network; different objectives")
    return missing and f"{path.name} leaves out arms, for want of {missing}"
