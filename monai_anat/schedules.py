"""Where training is, and the values that follow from it.

Every schedule is a pure function of :class:`Progress`, so a resumed run needs no schedule state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

__all__ = [
    "ConstantSchedule",
    "CosineSchedule",
    "LinearSchedule",
    "Progress",
    "Schedule",
    "StagePhase",
    "TurnPhase",
    "cosine",
    "linear",
    "stage_of",
]


@dataclass(frozen=True)
class Progress:
    """Where training is, in optimizer steps.

    All counts start at 0: during the first step of the first epoch ``epoch == step == 0``.

    Attributes:
        epoch: epochs that are complete.
        max_epochs: epochs of the whole run.
        step: optimizer steps that are complete.
        max_steps: optimizer steps of the whole run.
        stage: the current stage of a staged method.
        stage_step: optimizer steps that are complete in this stage.
        stage_steps: optimizer steps of this stage; 0 for a method without stages.

    >>> Progress(epoch=1, max_epochs=4, step=25, max_steps=100).fraction
    0.25
    """

    epoch: int
    max_epochs: int
    step: int
    max_steps: int
    stage: int = 0
    stage_step: int = 0
    stage_steps: int = 0

    @property
    def fraction(self) -> float:
        """Share of the run that is complete, 0 to 1."""
        return min(1.0, self.step / self.max_steps) if self.max_steps > 0 else 0.0

    @property
    def stage_fraction(self) -> float:
        """Share of the current stage that is complete, 0 to 1; of the run where there are no stages."""
        return min(1.0, self.stage_step / self.stage_steps) if self.stage_steps > 0 else self.fraction

    @property
    def of_stage(self) -> Progress:
        """The current stage seen as a run of its own; the run itself where there are no stages."""
        if self.stage_steps == 0:
            return self
        steps_per_epoch = self.max_steps // self.max_epochs
        return replace(
            self,
            epoch=self.stage_step // steps_per_epoch,
            max_epochs=self.stage_steps // steps_per_epoch,
            step=self.stage_step,
            max_steps=self.stage_steps,
        )


Schedule = Callable[[Progress], float]


def stage_of(epoch: int, stage_epochs: Sequence[int]) -> tuple[int, int]:
    """Find the stage of an epoch.

    Args:
        epoch: counted from 0 over the whole run.
        stage_epochs: epochs of each stage; none for a method without stages.

    Returns:
        The stage and its first epoch; past the end, the last stage; (0, 0) without stages.

    >>> [stage_of(epoch, (2, 1)) for epoch in (0, 1, 2)]
    [(0, 0), (0, 0), (1, 2)]
    """
    first = 0
    for stage, epochs in enumerate(stage_epochs):
        if epoch < first + epochs or stage == len(stage_epochs) - 1:
            return stage, first
        first += epochs
    return 0, 0


@dataclass(frozen=True)
class StagePhase:
    """The stage of an epoch as the ``phase`` of ``SeededDataset``, so that views are made for the current stage.

    >>> StagePhase((2, 1))(2)
    1
    """

    stage_epochs: Sequence[int]

    def __call__(self, epoch: int) -> int:
        return stage_of(epoch, self.stage_epochs)[0]


@dataclass(frozen=True)
class TurnPhase:
    """Objectives that take turns, as the ``phase`` of ``SeededDataset``: 0, 1, ..., turns - 1, 0, 1, ...

    What is counted, epochs or steps, is the dataset's ``phase_by``.

    >>> [TurnPhase(3)(epoch) for epoch in range(5)]
    [0, 1, 2, 0, 1]
    """

    turns: int

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise ValueError(f"turns must be at least 1, got {self.turns}; it is the number of objectives")

    def __call__(self, count: int) -> int:
        return count % self.turns


def linear(position: float, length: float, start: float, end: float) -> float:
    """Straight line from ``start`` at position 0 to ``end`` at ``length``, constant outside.

    >>> linear(1, 4, 0.0, 2.0)
    0.5
    """
    share = min(1.0, max(0.0, position / length)) if length > 0 else 1.0
    return start + (end - start) * share


def cosine(position: float, length: float, start: float, end: float) -> float:
    """Half a cosine from ``start`` at position 0 to ``end`` at ``length``, constant outside.

    >>> round(cosine(5, 10, 1.0, 0.0), 6)
    0.5
    """
    share = min(1.0, max(0.0, position / length)) if length > 0 else 1.0
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * share))


class ConstantSchedule:
    """The same value at every step.

    >>> ConstantSchedule(0.05)(Progress(0, 1, 0, 10))
    0.05
    """

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, progress: Progress) -> float:
        return self.value


class LinearSchedule:
    """A straight line over the run, one value per optimizer step.

    >>> LinearSchedule(1.0, 0.0)(Progress(0, 1, 5, 10))
    0.5
    """

    def __init__(self, base: float, final: float) -> None:
        self.base = base
        self.final = final

    def __call__(self, progress: Progress) -> float:
        return linear(progress.step, progress.max_steps, self.base, self.final)


class CosineSchedule:
    r"""Linear warm-up, then half a cosine from ``base`` to ``final``.

    By step (the default; Lamps, ACE, Adam-v2, and every momentum and weight-decay schedule) the warm-up of :math:`w`
    steps includes both of its ends, so the base value stands at steps :math:`w-1` and :math:`w`, and step :math:`t
    \ge w` has

    .. math:: v(t) = v_{final} + \tfrac12 (v_{base} - v_{final}) (1 + \cos(\pi (t - w) / (n - w))).

    By epoch (POPAR, PEAC) the value holds for a whole epoch :math:`e = 1..E`:

    .. math:: v(e) = \min(1, e/W)\, v_{cos}(\mathrm{clip}((e - W)/(E - W), 0, 1)).

    Values are clamped at the ends of the run: asking for a step past the end is no error.

    Args:
        base: value after the warm-up.
        final: value that the end of the run approaches.
        warmup_epochs: length of the warm-up in epochs; fractions are rounded to whole steps.
        warmup_start: value of the first warm-up step (by step only).
        by_epoch: hold each value for one epoch.
        first_epoch: number of the first epoch when ``by_epoch``: 1 for POPAR and PEAC, 0 for MoCo and Adam.
        per_stage: start again with every stage (Adam); otherwise one curve spans all stages (Adam-v2).

    Raises:
        ValueError: for a negative warm-up, or a warm-up start together with ``by_epoch``.

    >>> schedule = CosineSchedule(0.1, warmup_epochs=5, by_epoch=True)
    >>> [round(schedule(Progress(e - 1, 400, 0, 1)), 6) for e in (1, 5, 100, 200, 400)]
    [0.02, 0.1, 0.086394, 0.050994, 0.0]
    """

    def __init__(
        self,
        base: float,
        final: float = 0.0,
        *,
        warmup_epochs: float = 0.0,
        warmup_start: float = 0.0,
        by_epoch: bool = False,
        first_epoch: int = 1,
        per_stage: bool = False,
    ) -> None:
        if warmup_epochs < 0:
            raise ValueError(f"warmup_epochs must not be negative, got {warmup_epochs}; 0 means no warm-up")
        if by_epoch and warmup_start:
            raise ValueError(f"warmup_start works by step only, got warmup_start={warmup_start} with by_epoch=True")
        self.base = base
        self.final = final
        self.warmup_epochs = warmup_epochs
        self.warmup_start = warmup_start
        self.by_epoch = by_epoch
        self.first_epoch = first_epoch
        self.per_stage = per_stage

    def __call__(self, progress: Progress) -> float:
        progress = progress.of_stage if self.per_stage else progress
        return self._of_epoch(progress) if self.by_epoch else self._of_step(progress)

    def _of_step(self, progress: Progress) -> float:
        steps_per_epoch = progress.max_steps / max(1, progress.max_epochs)
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if progress.step < warmup:
            return linear(progress.step, warmup - 1, self.warmup_start, self.base)
        return cosine(progress.step - warmup, progress.max_steps - warmup, self.base, self.final)

    def _of_epoch(self, progress: Progress) -> float:
        epoch, warmup = progress.epoch + self.first_epoch, self.warmup_epochs
        if epoch <= warmup:  # also where the run is shorter than its warm-up and nothing is left for the cosine
            return linear(progress.epoch + 1, warmup, 0.0, self.base)  # the first epoch learns, whatever its number
        return cosine(epoch - warmup, progress.max_epochs - warmup, self.base, self.final)
