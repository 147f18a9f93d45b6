"""All protocols on one encoder, with their numbers as JSON and as a page."""

from __future__ import annotations

import inspect
import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.config import PathLike

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.datalists import load_datalist
from monai_anat.evaluation.frozen import FrozenEncoder, SmallMapError
from monai_anat.evaluation.frozen_protocol import FrozenProtocol
from monai_anat.evaluation.probes.classification import ClassificationProbe, LinearProbe, NearestNeighborProbe
from monai_anat.evaluation.probes.co_segmentation import CoSegmentationProbe
from monai_anat.evaluation.probes.collapse import CollapseProbe
from monai_anat.evaluation.probes.composition import ComposabilityProbe, DecomposabilityProbe
from monai_anat.evaluation.probes.few_shot import FewShotSegmentation
from monai_anat.evaluation.probes.few_shot_curve import FewShotCurve
from monai_anat.evaluation.probes.interpolation import InterpolationProbe
from monai_anat.evaluation.probes.label_fractions import LabelFractionProbe
from monai_anat.evaluation.probes.landmarks import LandmarkProbe
from monai_anat.evaluation.probes.localizability import LocalizabilityProbe
from monai_anat.evaluation.probes.robustness import RobustnessProbe
from monai_anat.evaluation.probes.scale import ScaleConsistencyProbe
from monai_anat.evaluation.probes.symmetry import SymmetryProbe
from monai_anat.evaluation.reports.report import Report
from monai_anat.evaluation.reports.sections import add_metrics
from monai_anat.evaluation.results import save_results
from monai_anat.networks.backbones.backbone import Backbone

__all__ = ["PROTOCOLS", "EncoderLike", "Evaluation", "evaluate_encoder", "plan_evaluation"]

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
    protocol.name: protocol for protocol in (LinearProbe, NearestNeighborProbe, LabelFractionProbe)
}
#: what evaluate_encoder can run; the word "all" stands for every one that the data allow but few-shot, which takes long
PROTOCOLS = (*FROZEN, *CLASSES, FewShotCurve.name)
#: a folder that ``save_encoder`` wrote, or the encoder itself
EncoderLike = str | os.PathLike[str] | Backbone | FrozenEncoder


def evaluate_encoder(
    encoder: EncoderLike,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    protocols: str | Sequence[str] = "all",
    *,
    device: str = "cpu",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Measure an encoder by the protocols named, and write ``evaluation.json`` and ``report.html``.

    What can be known before the first measurement is: arguments, sections, labels, masks and the size of the encoder's
    map are looked at for every protocol first. The JSON is written after each protocol, the page at the end. Features
    are computed once and shared by the protocols.

    Args:
        encoder: the folder that ``save_encoder`` wrote, whose record has input size and normalization; or a
            :class:`FrozenEncoder`, or a backbone (``as_backbone`` makes one of many networks) at its default settings.
        data: datalist with the sections that the protocols need (a folder or a file): test for those on frozen
            features, training, validation and test for few-shot segmentation (masks) and the probes on class labels.
        out: folder for the results.
        protocols: names out of ``PROTOCOLS``, with commas between them or as a list; "all" among them stands for every
            one that the data allow, but few-shot, which fine-tunes and takes long. What the data do not allow, and was
            not named, is then a sentence under ``skipped`` in the protocol's result, and not an error.
        device: where to compute; not for a :class:`FrozenEncoder`, which has its own.
        options: protocol -> further arguments of its class, for few-shot also those of :class:`FewShotSegmentation`;
            "encoder" -> further arguments of :class:`FrozenEncoder`.
        cache_dir: keeps the features for later evaluations; not for a :class:`FrozenEncoder`.

    Returns:
        protocol -> its result.

    Raises:
        TypeError: for an encoder that is none of these.
        ValueError: for an unknown protocol or argument, a folder that cannot be written, or an encoder that a protocol
            cannot measure.
        DatalistError: if the datalist lacks what a protocol that was named needs, or what each of "all" does.
    """
    return plan_evaluation(encoder, data, out, protocols, options, device=device, cache_dir=cache_dir).run()


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that was found to be possible.

    Attributes:
        encoder: what is measured.
        lead: what the page says of it.
        folder: for the results.
        protocols: name -> protocol and the lists that it runs on, or the sentence that says what does not allow it.
        named: those that were asked for by name, and are not left out.
    """

    encoder: FrozenEncoder
    lead: str
    folder: Path
    protocols: Mapping[str, tuple[Any, list[list[dict[str, Any]]]] | str]
    named: Set[str]

    def run(self) -> dict[str, Any]:
        """Measure, and write JSON and page: :func:`evaluate_encoder`."""
        report = Report("What an encoder knows", self.lead)
        results: dict[str, Any] = {}
        skipped: dict[str, str] = {}
        for name, planned in self.protocols.items():
            try:
                if isinstance(planned, str):
                    raise DatalistError(planned)
                results[name] = planned[0].run(self.encoder, *planned[1])
                add_metrics(report, results[name])
            except (DatalistError, SmallMapError) as error:
                if name in self.named:
                    raise
                skipped[name] = str(error)
                results[name] = {"protocol": name, "skipped": str(error)}
            save_results(results, self.folder)  # each time: a run that is stopped keeps what it had
        reasons = _reasons(skipped)
        if reasons:
            report.add_section("Left out", *reasons)
            logger.info(f"left out: {' '.join(reasons)}")
        report.write(self.folder / "report.html")
        if len(skipped) == len(results):
            raise DatalistError(f"data must allow at least one protocol, got none: {' '.join(reasons)}")
        return results


def plan_evaluation(
    encoder: EncoderLike,
    data: PathLike,
    out: PathLike,
    protocols: str | Sequence[str] = "all",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    **place: Any,
) -> Evaluation:
    """Look at all that an evaluation needs, and measure nothing; arguments and errors of :func:`evaluate_encoder`."""
    words = protocols.split(",") if isinstance(protocols, str) else protocols
    words = [word.strip() for word in words if word.strip()]
    chosen, given = _chosen(words, options or {})
    made = {name: _make(name, given.get(name, {}), data, Path(out)) for name in chosen}
    folder = _writable(out)
    frozen, lead = _frozen(encoder, given.get("encoder", {}), **place)
    planned: dict[str, Any] = {}
    for name, protocol in made.items():
        sections = ("test",) if name in FROZEN else ("training", "validation", "test")
        try:
            lists = [load_datalist(data, section) for section in sections]
            protocol.check(frozen, *lists)
            planned[name] = protocol, lists
        except (DatalistError, SmallMapError) as error:
            if "all" not in words or name in words:
                raise
            planned[name] = str(error)
    return Evaluation(frozen, lead, folder, planned, {*words} if "all" in words else {*planned})


def _frozen(
    encoder: EncoderLike,
    settings: Mapping[str, Any],
    device: str = "cpu",
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[FrozenEncoder, str]:
    """The encoder under its settings, and what the page says of it."""
    _check_options("encoder", inspect.signature(FrozenEncoder).parameters, settings)
    where = ""
    if isinstance(encoder, FrozenEncoder):
        if settings or cache_dir is not None or device != "cpu":
            raise ValueError(
                "a FrozenEncoder has its own settings, device and cache_dir, got some besides; give them to it, or "
                "give its backbone"
            )
        frozen = encoder
    else:
        further = {"device": device, "cache_dir": cache_dir, **settings}
        if isinstance(encoder, Backbone):
            frozen = FrozenEncoder(encoder, **further)
        elif isinstance(encoder, (str, os.PathLike)):
            frozen, where = FrozenEncoder.load(encoder, **further), f", from {encoder}"
        else:
            raise TypeError(
                f"encoder must be a folder, a backbone or a FrozenEncoder, got {type(encoder).__name__}; as_backbone "
                "makes a backbone of another network"
            )
    name = type(frozen.backbone).__name__
    return frozen, f"{name}, {frozen.image_size} pixels{where}."


def _reasons(skipped: Mapping[str, str]) -> list[str]:
    """Each reason once, after the protocols that it keeps out."""
    names: dict[str, list[str]] = {}
    for name, why in skipped.items():
        names.setdefault(why, []).append(name)
    return [f"{', '.join(found)}: {why}." for why, found in names.items()]


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


def _make(name: str, options: Mapping[str, Any], data: Any, folder: Path) -> Any:
    """The protocol with its arguments; what it does not have, or cannot take, is an error."""
    if name == FewShotCurve.name:
        return _few_shot({"output_dir": folder / "few_shot", **options})
    protocol = {**FROZEN, **CLASSES}[name]
    given = {"class_names": _label_names(data), **options} if name in CLASSES else options
    _check_options(name, inspect.signature(protocol).parameters, given)
    return protocol(**given)


def _few_shot(options: Mapping[str, Any]) -> FewShotCurve:
    """Its own arguments, and those of the segmentation that it repeats, from one mapping."""
    curve, segmentation = (inspect.signature(protocol).parameters for protocol in (FewShotCurve, FewShotSegmentation))
    _check_options(FewShotCurve.name, {**segmentation, **curve}, options)
    own = {key: value for key, value in options.items() if key in curve}
    further = {key: value for key, value in options.items() if key not in curve}
    return FewShotCurve(**{**own, "few_shot": {**own.get("few_shot", {}), **further}})


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
