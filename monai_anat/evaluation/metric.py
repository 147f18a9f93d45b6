"""Metrics with confidence intervals, and differences between two of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Ahead", "Better", "Difference", "Metric", "Metrics"]

#: direction in which a metric improves; None if neither direction is better
Better = Literal["higher", "lower"] | None
#: which of two encoders is ahead; None if the interval of their difference contains 0
Ahead = Literal["first", "second"] | None


@dataclass(frozen=True)
class Metric:
    """A value with its confidence interval over patients.

    Attributes:
        value: the estimate, or None if it is undefined.
        low: lower end of the interval, or None if there is no interval.
        high: upper end of the interval, or None if there is no interval.
        confidence: coverage of the interval, such as 0.95.
        n_patients: number of patients with a defined value.
        rests_on: number of patients that determines the width of the interval. It is smaller than ``n_patients`` for
            the area under a curve, which depends on the rarer of positive and negative patients.
        better: "higher", "lower" or None.
        unit: unit of the value.
        why: reason why the value or the interval is missing; empty if both exist.
        replicates: the value in each bootstrap resample, None where undefined. Two metrics with the same resamples have
            a paired difference.

    >>> metric = Metric(0.5, 0.4, 0.6, unit="Dice", better="higher")
    >>> Metric.from_json(metric.to_json()) == metric
    True
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    n_patients: int = 0
    rests_on: int | None = None
    better: Better = None
    unit: str = ""
    why: str = ""
    replicates: tuple[float | None, ...] = ()

    @classmethod
    def undefined(cls, why: str, *, better: Better = None, unit: str = "") -> Metric:
        """Create a metric without a value.

        Args:
            why: the reason, as a sentence without a full stop.
            better: direction in which the metric improves.
            unit: unit of the value.

        >>> Metric.undefined("all test images are negative").value is None
        True
        """
        return cls(None, better=better, unit=unit, why=why)

    def scaled(self, factor: float, *, better: Better, unit: str) -> Metric:
        """Multiply value, interval and replicates by a factor.

        Args:
            factor: a positive number.
            better: direction in which the new metric improves.
            unit: unit of the new value.

        >>> Metric(2.0, 1.0, 3.0).scaled(0.5, better=None, unit="").high
        1.5
        """

        def times(number: float | None) -> float | None:
            return None if number is None else float(number) * factor

        return dataclasses.replace(
            self,
            value=times(self.value),
            low=times(self.low),
            high=times(self.high),
            better=better,
            unit=unit,
            replicates=tuple(times(value) for value in self.replicates),
        )

    def without_interval(self, why: str) -> Metric:
        """Remove the interval and give the reason.

        >>> Metric(2.0, 1.0, 3.0).without_interval("a case series has no interval").low is None
        True
        """
        return dataclasses.replace(self, low=None, high=None, why=why)

    def to_json(self, *, replicates: bool = True) -> dict[str, Any]:
        """Convert to JSON values.

        Args:
            replicates: include the values of the resamples.
        """
        content: dict[str, Any] = {"value": self.value, "low": self.low, "high": self.high}
        if self.confidence is not None:
            content["confidence"] = self.confidence
        content["n_patients"] = self.n_patients
        if self.rests_on is not None:
            content["rests_on"] = self.rests_on
        content |= {"better": self.better, "unit": self.unit}
        if self.why:
            content["why"] = self.why
        if replicates and self.replicates:
            content["replicates"] = list(self.replicates)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Metric:
        """Read what :meth:`to_json` returned. Unknown keys are ignored and missing ones take their defaults."""
        known = {entry.name for entry in dataclasses.fields(cls)}
        values = {key: value for key, value in content.items() if key in known}
        return cls(**{**values, "value": content["value"], "replicates": tuple(content.get("replicates", ()))})


@dataclass(frozen=True)
class Difference:
    """The paired difference of a metric between two encoders, first minus second.

    Attributes:
        difference: difference of the values.
        low: lower end of its interval, or None if there is no interval.
        high: upper end of its interval, or None if there is no interval.
        n_patients: the smaller number of patients of both metrics.
        ahead: "first" or "second" if the interval excludes 0 and the metric has a better direction, else None.
    """

    difference: float
    low: float | None
    high: float | None
    n_patients: int
    ahead: Ahead

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Difference:
        """Read what :meth:`to_json` returned."""
        return cls(**{entry.name: content[entry.name] for entry in dataclasses.fields(cls)})


#: name -> metric. Names have parts: the kind, then details: "error", "error/right apex", "pck/0.1"
Metrics = dict[str, Metric]
