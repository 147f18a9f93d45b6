"""All protocols on one encoder, with their numbers as JSON and as a page."""

from __future__ import annotations

import inspect
import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data import DatalistError, load_datalist
from .classification import ClassificationProbe, LinearProbe, NearestNeighbourProbe
from .co_segmentation import CoSegmentationProbe
from .collapse import CollapseProbe
from .composition import ComposabilityProbe, DecomposabilityProbe
from .few_shot import FewShotSegmentation
from .few_shot_curve import FewShotCurve
from .frozen import FrozenEncoder, SmallMapError
from .frozen_protocol import FrozenProtocol
from .interpolation import InterpolationProbe
from .label_fractions import LabelFractionProbe
from .landmarks import LandmarkProbe
from .localizability import LocalizabilityProbe
from .report import Report
from .results import save_results
from .robustness import RobustnessProbe
from .scale import ScaleConsistencyProbe
from .sections import add_metrics
from .symmetry import SymmetryProbe

__all__ = ["PROTOCOLS", "evaluate_encoder"]

logger = logging.getLogger(__name__)

#: protocols on frozen features of the test images; those from ``landmarks`` to ``co-segmentation`` need masks or
#: landmarks
FROZEN: dict[str, type[FrozenProtocol]] = {
    protocol.name: protocol
    for protocol in (
        LandmarkProbe,
        LocalizabilityProbe,
        CoSegmentationProbe,
        SymmetryProbe,
        ComposabilityProbe,
        DecomposabilityProbe,
        InterpolationProbe,
        ScaleConsistencyProbe,
        RobustnessProbe,
        CollapseProbe,
    )
}
#: protocols on class labels, in training, validation and test images
CLASSES: dict[str, type[ClassificationProbe]] = {
    protocol.name: protocol for protocol in (LinearProbe, NearestNeighbourProbe, LabelFractionProbe)
}
#: what evaluate_encoder can run; the word "all" stands for every one that the data allow but few-shot, which takes long
PROTOCOLS = (*FROZEN, *CLASSES, FewShotCurve.name)


def evaluate_encoder(
    encoder_dir: str | os.PathLike[str],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    protocols: Sequence[str] = ("all",),
    *,
    device: str = "cpu",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Measure an encoder by the protocols named, and write ``evaluation.json`` and ``report.html``.

    The JSON is written after each protocol, the page at the end.

    Input size and normalisation are those of the encoder's record. Features are computed once and shared by the
    protocols.

    Args:
        encoder_dir: the folder that ``save_encoder`` wrote.
        data: datalist with the sections that the protocols need (a folder or a file): test for those on frozen
            features, training, validation and test for few-shot segmentation (masks) and the probes on class labels.
        out: folder for the results.
        protocols: names out of ``PROTOCOLS``; "all" among them stands for every one that the data allow, but few-shot,
            which fine-tunes and takes long. What the data do not allow, and was not named, is then a sentence under
            ``skipped`` in the protocol's result, and not an error.
        device: where to compute.
        options: protocol -> further arguments of its class, for few-shot also those of :class:`FewShotSegmentation`;
            "encoder" -> further arguments of :class:`FrozenEncoder`.
        cache_dir: keeps the features for later evaluations.

    Returns:
        protocol -> its result.

    Raises:
        ValueError: for an unknown protocol or argument, a folder that cannot be written, or an encoder that a protocol
            cannot measure.
        DatalistError: if the datalist lacks what a protocol that was named needs, or what each of "all" does.
    """
    chosen, given = _chosen(protocols, options or {})
    folder = _writable(out)
    settings = given.pop("encoder", {})
    _check_options("encoder", inspect.signature(FrozenEncoder).parameters, settings)
    encoder = FrozenEncoder.load(encoder_dir, **{"device": device, "cache_dir": cache_dir, **settings})
    lead = f"{type(encoder.backbone).__name__}, {encoder.image_size} pixels, from {encoder_dir}."
    report = Report("What an encoder knows", lead)
    results: dict[str, Any] = {}
    for name in chosen:
        try:
            results[name] = _run(name, encoder, data, folder, given.get(name, {}), report)
        except (DatalistError, SmallMapError) as error:
            if "all" not in protocols or name in protocols:
                raise
            results[name] = {"protocol": name, "skipped": str(error)}
            logger.info(f"{name} left out: {error}")
        save_results(results, folder)  # each time: a run that is stopped keeps what it had
    skipped = [f"{name}: {result['skipped']}." for name, result in results.items() if "skipped" in result]
    if skipped:
        report.add_section("Left out", *skipped)
    report.write(folder / "report.html")
    if len(skipped) == len(chosen):
        raise DatalistError(f"data must allow at least one protocol, got none for {data}: {' '.join(skipped)}")
    return results


def _chosen(
    protocols: Sequence[str], options: Mapping[str, Mapping[str, Any]]
) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """The protocols to run, and the arguments given for each and for the encoder."""
    known = [[*FROZEN, *CLASSES] if name == "all" else [name] for name in protocols]
    chosen = list(dict.fromkeys(name for names in known for name in names))
    unknown = sorted(set(chosen) - {*PROTOCOLS})
    if unknown or not chosen:
        raise ValueError(f"protocols must be among {[*PROTOCOLS, 'all']}, got {unknown or list(protocols)}")
    unknown = sorted(set(options) - {*PROTOCOLS, "encoder"})
    if unknown:
        raise ValueError(f"arguments can be set for encoder and for {list(PROTOCOLS)}, got some for {unknown}")
    return chosen, {name: dict(value) for name, value in options.items()}


def _writable(out: str | os.PathLike[str]) -> Path:
    """The folder, made and found to take files before any work is done."""
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"out must be a folder that can be written, got {folder}: {error.strerror}") from error
    return folder


def _run(
    name: str, encoder: FrozenEncoder, data: Any, folder: Path, options: Mapping[str, Any], report: Report
) -> dict[str, Any]:
    """One protocol: its result, and its section in the report."""
    if name in FROZEN:
        result: dict[str, Any] = _make(FROZEN[name], name, options).run(encoder, load_datalist(data, "test"))
    else:
        if name in CLASSES:
            protocol = _make(CLASSES[name], name, {"class_names": _label_names(data), **options})
        else:
            protocol = _few_shot({"output_dir": folder / "few_shot", **options})
        sections = [load_datalist(data, section) for section in ("training", "validation", "test")]
        result = protocol.run(encoder, *sections)
    add_metrics(report, result)
    return result


def _few_shot(options: Mapping[str, Any]) -> FewShotCurve:
    """Its own arguments, and those of the segmentation that it repeats, from one mapping."""
    curve, segmentation = (inspect.signature(protocol).parameters for protocol in (FewShotCurve, FewShotSegmentation))
    _check_options(FewShotCurve.name, {**segmentation, **curve}, options)
    own = {key: value for key, value in options.items() if key in curve}
    further = {key: value for key, value in options.items() if key not in curve}
    return FewShotCurve(**{**own, "few_shot": {**own.get("few_shot", {}), **further}})


def _make(protocol: type[Any], name: str, options: Mapping[str, Any]) -> Any:
    _check_options(name, inspect.signature(protocol).parameters, options)
    return protocol(**options)


def _check_options(name: str, parameters: Mapping[str, inspect.Parameter], options: Mapping[str, Any]) -> None:
    """Arguments that exist, and not a word where the default is a number or a list."""
    unknown = sorted(set(options) - set(parameters))
    if unknown:
        raise ValueError(f"arguments of {name} must be among {list(parameters)}, got {unknown}")
    for key, value in options.items():
        default = parameters[key].default
        if isinstance(default, (tuple, list)) and not isinstance(value, (tuple, list)):
            raise ValueError(f"{name}.{key} must be a list such as {list(default)}, got {value!r}")
        missing = value is None and default is not None and "None" not in str(parameters[key].annotation)
        if isinstance(default, (int, float)) and (isinstance(value, str) or missing):
            raise ValueError(f"{name}.{key} must be a value such as {default}, got {value!r}")


def _label_names(data: Any) -> list[str] | None:
    """``label_names`` of the datalist, where it has them as a list."""
    path = Path(data) / "datalist.json" if Path(data).is_dir() else Path(data)
    if path.suffix != ".json" or not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    names = content.get("label_names") if isinstance(content, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else None
