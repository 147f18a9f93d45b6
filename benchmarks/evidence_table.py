"""Table and page of evidence.py, made of the JSON files of its cells alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai_anat.evaluation import Result

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
    """Read the finished cells, by arm and seed. An unreadable file is skipped."""
    cells = [found for path in sorted(out.glob("*-*.json")) if "arm" in (found := _read(path))]
    return {(cell["arm"], cell["seed"]): cell for cell in cells}


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def refuse_mixture(out: Path, preset: str | None = None, data: str | None = None) -> None:
    """Refuse a folder with finished or begun cells of another preset or other data.

    Args:
        out: the folder. Entries that a file lacks (files of earlier versions) are not checked.
        preset: the wanted preset; by default that of the first file.
        data: name of the wanted data; by default that of the first file.

    Raises:
        ValueError: if a cell differs.
    """
    wanted = {"preset": preset, "data": data}
    for path in (*sorted(out.glob("*-*.json")), *sorted(out.glob(f"*-*/{NOTE_NAME}"))):
        found = _read(path)
        for key, value in wanted.items():
            wanted[key] = value or found.get(key)
            if found.get(key, wanted[key]) != wanted[key]:
                raise ValueError(
                    f"{path} is of {key} {found[key]!r}, not {wanted[key]!r}, and one table takes one of each; give "
                    "each a folder of its own by --out"
                )


def table(cells: Cells, scratch_of: Mapping[str, str | None]) -> str:
    """One row per arm: each metric over the seeds, and whether it is ahead of scratch.

    Args:
        cells: result of :func:`read_cells`.
        scratch_of: arm, in the order of the rows -> untrained arm for the comparison; None for untrained ones.
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
    """Name what a paired comparison needs and the cell of an earlier version lacks; "" if nothing."""
    metrics = [metric for result in headlines(cell).values() for metric in result.metrics.values()]
    return "replicates" if any(metric.low is not None and not metric.replicates for metric in metrics) else ""


def headlines(cell: Mapping[str, Any]) -> dict[str, Result]:
    """Return the results that the page shows."""
    from monai_anat.evaluation import Result

    return {protocol: Result.from_json(cell["results"][protocol]) for protocol in HEADLINES}


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
    """Count the seeds in which the paired interval puts the arm ahead of scratch, and behind.

    "?" means that a seed could not be compared.
    """
    from monai_anat import evaluation

    metric, outcomes = HEADLINES[protocol][0], []
    for seed in [seed for seed, text in gaps.items() if not text]:
        pair = [headlines(cells[name, seed])[protocol] for name in (arm, scratch or arm)]
        for one in pair:
            one.metrics = {name: value for name, value in one.metrics.items() if name == metric}
        found = evaluation.compare_results(pair[0], pair[1]).get(metric)
        outcomes.append(None if found is None else found.ahead)
    counts = [f"{sign}{outcomes.count(who)}/{len(outcomes)}" for sign, who in (("+", "first"), ("-", "second"))]
    return " ".join([*(count for count in counts if count[1] != "0"), *["?"] * any(gaps.values())])


def dice_gain(cells: Cells, arm: str, scratch: str | None, seeds: Sequence[int], shots: int) -> str:
    """Subtract the Dice of scratch, paired by draw and patient, with a 95 % interval; "?" if a seed has no scratch.

    All seeds have the same draws of labeled images, so each draw counts once, by its mean over the seeds.
    """
    import numpy as np

    from monai_anat.evaluation import PatientBootstrap

    if scratch is None:
        return ""
    pairs = [(cells[arm, seed], cells[scratch, seed]) for seed in seeds if (scratch, seed) in cells]
    if not pairs:
        return "?"
    runs = [[cell["results"][f"few-shot-{shots}"] for cell in side] for side in zip(*pairs, strict=True)]
    dice = [[[draw["dice_by_image"] for draw in run["arms"]["arm"]["draws"]] for run in side] for side in runs]
    first, second = np.mean(np.array(dice, dtype=float), axis=1)
    found = PatientBootstrap(runs[0][0]["test_patients"], resamples=4000).draw_mean(first - second)
    gain = f"{found.value:+.3f}" + ("" if found.low is None else f" ({found.low:+.3f} to {found.high:+.3f})")
    return gain + " ?" * (len(pairs) < len(seeds))


def write_page(cells: Cells, arms: Sequence[str], path: Path) -> str:
    """Write the page of the first seed of every arm, with paired intervals over the test patients.

    Returns:
        A line about what the page lacks, or "".
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
