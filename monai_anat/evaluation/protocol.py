"""Base class and registry of evaluation protocols."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from monai_anat.evaluation import probes
from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.compare import compare_metrics
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.metric import Metrics
from monai_anat.evaluation.patients import Items, image_fingerprint, patient_notes
from monai_anat.evaluation.pictures import ReportFigure
from monai_anat.evaluation.results import Case, Result

__all__ = [
    "RANDOM",
    "TEST",
    "Measured",
    "Protocol",
    "build_result",
    "case_pictures",
    "check_arguments",
    "further_figures",
    "json_settings",
    "protocol_classes",
    "three_cases",
]

#: name of the baseline with random weights
RANDOM = "random initialization"
#: section whose images are reported
TEST = "test"


@dataclass
class Measured:
    """What a protocol measured with one encoder.

    Attributes:
        metrics: name -> metric.
        cases: best, median and worst case.
        extra: further entries of the result, JSON values.
        notes: sentences on what was left out and why.
        collapsed: whether all features are equal; None if not tested.
    """

    metrics: Metrics
    cases: dict[str, Case] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    collapsed: bool | None = None


class Protocol(ABC):
    """A way to measure an encoder.

    A subclass with a ``name`` registers itself. ``evaluate_encoder`` then runs it, the command line accepts its name
    and its arguments, and pages show its result. To add a protocol, put a file into ``evaluation/probes``.

    A subclass is a dataclass whose fields are its settings. Most protocols derive from
    :class:`~monai_anat.evaluation.frozen_protocol.FrozenProtocol` or
    :class:`~monai_anat.evaluation.class_protocol.ClassProtocol`, which implement :meth:`check` and :meth:`run`.
    """

    #: name in results and on the command line; classes without one are not registered
    name: ClassVar[str]
    #: sections of the datalist that it needs, in the order of the arguments of :meth:`check` and :meth:`run`
    sections: ClassVar[tuple[str, ...]] = (TEST,)
    #: whether the word "all" includes it; False for protocols that take long
    in_all: ClassVar[bool] = True
    #: name -> class of every protocol
    registry: ClassVar[dict[str, type[Protocol]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        name = cls.__dict__.get("name")
        if name is None:
            return
        other = Protocol.registry.get(name)
        if other is not None and other.__qualname__ != cls.__qualname__:
            raise ValueError(f"name of a protocol must be unique, got {name!r} for {cls} and {other}")
        Protocol.registry[name] = cls

    @classmethod
    def parameters(cls) -> Mapping[str, inspect.Parameter]:
        """Return the arguments that :meth:`create` accepts."""
        return inspect.signature(cls).parameters

    @classmethod
    def create(cls, options: Mapping[str, Any], data: str | os.PathLike[str], folder: Path) -> Protocol:
        """Create the protocol for an evaluation.

        Args:
            options: arguments that the user gave.
            data: the datalist, for arguments with defaults there.
            folder: output folder of the evaluation.

        Raises:
            ValueError: if an argument is unknown or has a wrong value.
        """
        check_arguments(cls.name, cls.parameters(), options)
        return cls(**options)

    @abstractmethod
    def check(self, *arguments: Any, **named: Any) -> Any:
        """Check that an encoder and lists allow the measurement, before anything is computed.

        Called with a :class:`FrozenEncoder` and one list per section.

        Raises:
            DatalistError: if a list lacks what the protocol needs.
            SmallMapError: if the encoder's dense map has too few cells.
        """

    @abstractmethod
    def run(self, *arguments: Any, **named: Any) -> Result:
        """Measure an encoder. Called with the arguments of :meth:`check`."""

    @classmethod
    def draw_figures(cls, result: Result) -> list[ReportFigure]:
        """Draw further figures of a result, besides metrics and cases; by default nothing."""
        return []

    @classmethod
    def draw_cases(cls, result: Result, lead: str) -> list[ReportFigure]:
        """Draw the best, median and worst case of a result; by default nothing.

        Args:
            result: the result of this protocol.
            lead: start of the captions.
        """
        return []


def protocol_classes() -> dict[str, type[Protocol]]:
    """Import every file of ``evaluation/probes`` and return all protocols by name.

    Protocols on the test section come first, then those that need further sections, then those outside of "all".
    """
    for module in pkgutil.iter_modules(probes.__path__, f"{probes.__name__}."):
        importlib.import_module(module.name)

    def rank(entry: tuple[str, type[Protocol]]) -> tuple[bool, int, str]:
        return not entry[1].in_all, len(entry[1].sections), entry[0]

    return dict(sorted(Protocol.registry.items(), key=rank))


def case_pictures(result: Result, encoder: str = "") -> list[ReportFigure]:
    """Draw the cases of a result as its protocol defines.

    Args:
        result: the result of a protocol. Its image files must still exist.
        encoder: name of the encoder, for the captions.

    Returns:
        The figures, best case first; none for protocols without figures, or if files are gone.
    """
    protocol = protocol_classes().get(result.protocol)
    return protocol.draw_cases(result, f"{encoder}: " if encoder else "") if protocol is not None else []


def further_figures(result: Result) -> list[ReportFigure]:
    """Draw the further figures that the protocol of a result defines."""
    protocol = protocol_classes().get(result.protocol)
    return protocol.draw_figures(result) if protocol is not None else []


def check_arguments(name: str, parameters: Mapping[str, inspect.Parameter], options: Mapping[str, Any]) -> None:
    """Check the names and types of arguments.

    Args:
        name: whose arguments they are.
        parameters: the known arguments.
        options: the given arguments.

    Raises:
        ValueError: if an argument is unknown, or is a word where the default is a number or a list.
    """
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


def build_result(
    protocol: Protocol,
    encoder: FrozenEncoder,
    items: Items,
    bootstrap: PatientBootstrap,
    measured: Measured,
    baselines: Mapping[str, Metrics],
) -> Result:
    """Combine what a protocol measured with an encoder and with its baselines.

    Args:
        protocol: the protocol, a dataclass; its fields are the settings of the result.
        encoder: the encoder.
        items: the images that it was measured on.
        bootstrap: the resamples of their patients.
        measured: what was measured with the encoder.
        baselines: baseline -> metrics on the same resamples.
    """
    return Result(
        protocol.name,
        settings={**json_settings(protocol), "encoder": encoder.settings},
        n_images=len(items),
        n_patients=len(bootstrap.names),
        patients=bootstrap.fingerprint,
        images=image_fingerprint(items),
        metrics=measured.metrics,
        baselines=dict(baselines),
        comparisons={name: compare_metrics(measured.metrics, other) for name, other in baselines.items()},
        cases=measured.cases,
        notes=measured.notes + patient_notes(items),
        collapsed=measured.collapsed,
        extra=measured.extra,
    )


def json_settings(protocol: Any) -> dict[str, Any]:
    """Return the arguments of a protocol, a dataclass, as JSON values."""
    values = {entry.name: getattr(protocol, entry.name) for entry in dataclasses.fields(protocol) if entry.init}
    settings: dict[str, Any] = json.loads(json.dumps(values, default=_plain))
    return settings


def three_cases(
    scores: ArrayLike, better: Literal["higher", "lower"], describe: Callable[[int], Case]
) -> dict[str, Case]:
    """Choose the best, the median and the worst of N cases.

    Args:
        scores: (N,) score of each case, NaN where undefined.
        better: "higher" or "lower".
        describe: maps the index of a case to what is needed to draw it.

    >>> three_cases([3.0, 1.0, 2.0], "lower", lambda index: {"number": index})["best"]
    {'number': 1, 'score': 1.0}
    """
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(values if better == "lower" else -values, kind="stable")
    order = order[np.isfinite(values[order])]
    if not len(order):
        return {}
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    return {name: {**describe(int(index)), "score": float(values[index])} for name, index in chosen.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, Sequence) else str(value)
