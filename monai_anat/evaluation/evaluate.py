"""Evaluation of an encoder by several protocols, with results as JSON and as a page."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.datalists import Outside, load_datalist
from monai_anat.evaluation.frozen_encoder import FrozenEncoder, SmallMapError
from monai_anat.evaluation.patients import Items
from monai_anat.evaluation.protocol import TEST, Protocol, check_arguments, protocol_classes
from monai_anat.evaluation.pseudonyms import Pseudonyms
from monai_anat.evaluation.reports.metric_tables import add_metrics
from monai_anat.evaluation.reports.report import Report
from monai_anat.evaluation.results import Result, save_results
from monai_anat.networks.backbones.backbone import Backbone

__all__ = ["PROTOCOLS", "EncoderLike", "Evaluation", "check_writable", "evaluate_encoder", "plan_evaluation"]

logger = logging.getLogger(__name__)

#: names of the protocols of this package; "all" stands for each that the data allow, except few-shot, which takes long
PROTOCOLS = tuple(protocol_classes())
#: a folder that ``save_encoder`` wrote, or the encoder itself
EncoderLike = str | os.PathLike[str] | Backbone | FrozenEncoder


def evaluate_encoder(
    encoder: EncoderLike,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    protocols: str | Sequence[str] = "all",
    *,
    section: str = TEST,
    device: str = "auto",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    outside: Outside = "absolute",
) -> dict[str, Result]:
    """Measure an encoder by several protocols and write ``evaluation.json`` and ``report.html``.

    Arguments, lists, labels, masks and the size of the encoder's map are checked for every protocol before anything is
    computed or written. The JSON is written after each protocol, the page at the end. Features are computed once and
    shared by the protocols.

    The outputs contain no file names and no patients: images appear by their position in the datalist ("test 17"). A
    look-up file, ``OUT.files.json`` beside the output folder, maps positions to paths. Do not share it
    with the folder.

    Args:
        encoder: folder that ``save_encoder`` wrote, with input size and normalization in its record; or a
            :class:`FrozenEncoder`; or a backbone, which gets the default settings of :class:`FrozenEncoder`.
        data: datalist (a folder or a file) with the sections that the protocols need: test for those on frozen
            features; training, validation and test for few-shot segmentation and the probes on class labels.
        out: output folder.
        protocols: names in ``PROTOCOLS``, as a list or separated by commas. "all" stands for every protocol that the
            data allow, except few-shot. A protocol of "all" that the data do not allow is skipped, and its result holds
            the reason.
        section: section that is reported, instead of test.
        device: where to compute; "auto" takes a GPU if there is one. A :class:`FrozenEncoder` has its own.
        options: protocol -> further arguments of its class; for few-shot also those of :class:`FewShotSegmentation`;
            "encoder" -> further arguments of :class:`FrozenEncoder`.
        cache_dir: folder that keeps the features for later evaluations. A :class:`FrozenEncoder` has its own.
        outside: paths outside the folder of the datalist that it may name, as for ``load_datalist``: "never",
            "absolute" or "always" (``../`` as well).

    Returns:
        Protocol -> result.

    Raises:
        TypeError: if the encoder is none of these.
        ValueError: if a protocol or an argument is unknown, the folder is not writable, or a protocol cannot measure
            the encoder.
        DatalistError: if the datalist lacks what a named protocol needs, or allows no protocol at all.
    """
    plan = plan_evaluation(
        encoder, data, out, protocols, options, section=section, device=device, cache_dir=cache_dir, outside=outside
    )
    return plan.run()


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that passed all checks.

    Attributes:
        encoder: the encoder.
        lead: first sentence of the page.
        folder: output folder.
        protocols: name -> protocol and its lists, or the reason why the data do not allow it.
        named: protocols that were requested by name, which are never skipped.
        pseudonyms: what replaces file names and patients in the outputs.
    """

    encoder: FrozenEncoder
    lead: str
    folder: Path
    protocols: Mapping[str, tuple[Protocol, list[Items]] | str]
    named: Set[str]
    pseudonyms: Pseudonyms

    def run(self, lookup: str | os.PathLike[str] | None = None) -> dict[str, Result]:
        """Run the protocols and write the outputs; see :func:`evaluate_encoder`.

        Args:
            lookup: folder beside which the look-up file is written; by default the output folder.
        """
        report = Report("What an encoder knows", self.lead)
        results: dict[str, Result] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pseudonyms.write_lookup(lookup or self.folder)
        for name, planned in self.protocols.items():
            try:
                if isinstance(planned, str):
                    raise DatalistError(planned)
                protocol, lists = planned
                results[name] = protocol.run(self.encoder, *lists)
                add_metrics(report, results[name])
            except (DatalistError, SmallMapError) as error:
                if name in self.named:
                    raise
                results[name] = Result(name, skipped=str(error))
            # after each protocol, so that a killed run keeps its results
            save_results(results, self.folder, pseudonyms=self.pseudonyms)
        reasons = _reasons({name: result.skipped for name, result in results.items() if result.skipped})
        if reasons:
            report.add_section("Left out", *reasons)
            logger.info(f"left out: {' '.join(reasons)}")
        report.write(self.folder / "report.html", self.pseudonyms.hide_text)
        if all(result.skipped for result in results.values()):
            raise DatalistError(f"data must allow at least one protocol, got none: {' '.join(reasons)}")
        return results


def plan_evaluation(
    encoder: EncoderLike,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    protocols: str | Sequence[str] = "all",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    section: str = TEST,
    device: str = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
    outside: Outside = "absolute",
) -> Evaluation:
    """Check everything that an evaluation needs, without computing or writing anything.

    Arguments and errors are those of :func:`evaluate_encoder`.
    """
    words = protocols.split(",") if isinstance(protocols, str) else protocols
    words = [word.strip() for word in words if word.strip()]
    chosen, given = _chosen(words, options or {})
    made = {name: kind.create(given.get(name, {}), data, Path(out)) for name, kind in chosen.items()}
    check_writable(out)
    frozen, lead = _frozen(encoder, given.get("encoder", {}), device, cache_dir)
    read: dict[str, Items] = {}
    planned: dict[str, tuple[Protocol, list[Items]] | str] = {}
    for name, protocol in made.items():
        try:
            lists = []
            for needed in protocol.sections:
                place = section if needed == TEST else needed
                if place not in read:
                    read[place] = load_datalist(data, place, outside=outside)
                lists.append(read[place])
            protocol.check(frozen, *lists)
            planned[name] = protocol, lists
        except (DatalistError, SmallMapError) as error:
            if "all" not in words or name in words:
                raise
            planned[name] = str(error)
    named = {*words} if "all" in words else {*planned}
    return Evaluation(frozen, lead, Path(out), planned, named, Pseudonyms(read, data))


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Check that a folder can be created and written, without creating it.

    Raises:
        ValueError: if it cannot.
    """
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"out must be a folder that can be written, got {folder}: {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"out must be a folder that can be written, got {folder}: permission denied in {place}")


def _frozen(
    encoder: EncoderLike, settings: Mapping[str, Any], device: str, cache_dir: str | os.PathLike[str] | None
) -> tuple[FrozenEncoder, str]:
    """Create the frozen encoder, and the first sentence of the page."""
    check_arguments("encoder", inspect.signature(FrozenEncoder).parameters, settings)
    where = ""
    if isinstance(encoder, FrozenEncoder):
        if settings or cache_dir is not None or device != "auto":
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
            frozen, where = FrozenEncoder.load(encoder, **further), f", from {Path(encoder).absolute().name}"
        else:
            raise TypeError(
                f"encoder must be a folder, a backbone or a FrozenEncoder, got {type(encoder).__name__}; as_backbone "
                "makes a backbone of another network"
            )
    name = type(frozen.backbone).__name__
    return frozen, f"{name}, {frozen.image_size} pixels{where}."


def _reasons(skipped: Mapping[str, str]) -> list[str]:
    """Write each reason once, after the protocols that it concerns."""
    names: dict[str, list[str]] = {}
    for name, why in skipped.items():
        names.setdefault(why, []).append(name)
    return [f"{', '.join(found)}: {why}." for why, found in names.items()]


def _chosen(
    protocols: Sequence[str], options: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, type[Protocol]], dict[str, dict[str, Any]]]:
    """Return the protocols to run, and the arguments for each of them and for the encoder."""
    known = protocol_classes()
    every = [name for name, protocol in known.items() if protocol.in_all]
    chosen = list(dict.fromkeys(name for word in protocols for name in (every if word == "all" else [word])))
    unknown = sorted(set(chosen) - {*known})
    if unknown or not chosen:
        raise ValueError(f"protocols must be among {[*known, 'all']}, got {unknown or list(protocols)}")
    unknown = sorted(set(options) - {*known, "encoder"})
    if unknown:
        raise ValueError(f"arguments can be set for encoder and for {list(known)}, got some for {unknown}")
    return {name: known[name] for name in chosen}, {name: dict(value) for name, value in options.items()}
