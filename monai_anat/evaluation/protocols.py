"""All protocols on one encoder, with their numbers as JSON and as a page."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data import load_datalist
from ..networks import load_encoder, read_encoder_record
from .cases import load_cases
from .correspondence import CorrespondenceProbe
from .few_shot import FewShotSegmentation
from .report import Report
from .sections import add_correspondence, add_dice, add_masks

__all__ = ["PROTOCOLS", "evaluate_encoder"]

#: what evaluate_encoder can run
PROTOCOLS = ("correspondence", "few-shot")


def evaluate_encoder(
    encoder_dir: str | os.PathLike[str],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    protocols: Sequence[str] = PROTOCOLS,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    device: str = "cpu",
    **few_shot: Any,
) -> dict[str, Any]:
    """Measure an encoder by the protocols named, and write ``evaluation.json`` and ``report.html``.

    Input size and normalisation are those of the encoder's record.

    Args:
        encoder_dir: the folder that ``save_encoder`` wrote.
        data: datalist with masks and the sections training, validation, test (a folder or a file).
        out: folder for the results.
        protocols: "correspondence" (test images) and "few-shot" (all three sections).
        seeds: draws of the few-shot comparison.
        device: where to compute.
        few_shot: further arguments of :class:`FewShotSegmentation`.

    Returns:
        protocol -> its result.

    Raises:
        ValueError: for an unknown protocol.
        DatalistError: if the datalist lacks a section.
    """
    unknown = sorted(set(protocols) - set(PROTOCOLS))
    if unknown or not protocols:
        raise ValueError(f"protocols must be among {list(PROTOCOLS)}, got {list(protocols)}")
    folder, record, encoder = Path(out), read_encoder_record(encoder_dir), load_encoder(encoder_dir)
    settings: dict[str, Any] = {"image_size": record.image_size[0], "mean": record.mean, "std": record.std}
    splits = {name: load_datalist(data, name) for name in ("training", "validation", "test")}
    report = Report("What an encoder knows", f"{record.backbone}, {record.image_size[0]} pixels, from {encoder_dir}.")
    results: dict[str, Any] = {}
    if "correspondence" in protocols:
        probe = CorrespondenceProbe(device=device, **settings)
        cases = load_cases(splits["test"], probe.image_size)
        results["correspondence"] = add_correspondence(report, probe, encoder, cases)
    if "few-shot" in protocols:
        comparison = FewShotSegmentation(
            seeds=seeds, device=device, output_dir=folder / "few_shot", **{**settings, **few_shot}
        )
        results["few-shot"] = comparison.run(encoder, *splits.values())
        add_dice(report, results["few-shot"])
        add_masks(report, results["few-shot"], folder / "few_shot")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    report.write(folder / "report.html")
    return results
