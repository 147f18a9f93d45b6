"""Training progress, and schedules of learning rate, weight decay and momentum.

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

#: a by-epoch schedule takes at least so many values in a run
_MIN_PIECES = 100


@dataclass(frozen=True)
class Progress:
    """Position in a training run, in epochs and optimizer steps.

    All counts start at 0: during the first step of the first epoch ``epoch == step == 0``.

    Attributes:
        epoch: completed epochs.
        max_epochs: epochs of the whole run.
        step: completed optimizer steps.
        max_steps: optimizer steps of the whole run.
        stage: current stage of a staged method.
        stage_step: completed optimizer steps of this stage.
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
        """Completed share of the run, 0 to 1."""
        return min(1.0, self.step / self.max_steps) if self.max_steps > 0 else 0.0

    @property
    def stage_fraction(self) -> float:
        """Completed share of the current stage, 0 to 1; of the run if there are no stages."""
        return min(1.0, self.stage_step / self.stage_steps) if self.stage_steps > 0 else self.fraction

    @property
    def of_stage(self) -> Progress:
        """Progress of the current stage as a run of its own; of the whole run if there are no stages."""
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
        epoch: epoch of the whole run, counted from 0.
        stage_epochs: number of epochs of each stage; empty for a method without stages.

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
    """Stage of an epoch, as the ``phase`` of ``SeededDataset``: views are made for the current stage.

    Args:
        stage_epochs: number of epochs of each stage.

    >>> StagePhase((2, 1))(2)
    1
    """

    stage_epochs: Sequence[int]

    def __call__(self, epoch: int) -> int:
        return stage_of(epoch, self.stage_epochs)[0]


@dataclass(frozen=True)
class TurnPhase:
    """Objectives that take turns, as the ``phase`` of ``SeededDataset``: 0, 1, ..., turns - 1, 0, 1, ...

    The argument ``phase_by`` of the dataset selects turns by epoch or by step.

    Args:
        turns: number of objectives.

    Raises:
        ValueError: if ``turns`` is below 1.

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
    """Interpolate on a straight line, constant outside of it.

    Args:
        position: 0 gives ``start``, ``length`` gives ``end``.
        length: length of the line; 0 gives ``end``.
        start: first value.
        end: last value.

    >>> linear(1, 4, 0.0, 2.0)
    0.5
    """
    share = min(1.0, max(0.0, position / length)) if length > 0 else 1.0
    return start + (end - start) * share


def cosine(position: float, length: float, start: float, end: float) -> float:
    """Interpolate on half a cosine, constant outside of it.

    Args:
        position: 0 gives ``start``, ``length`` gives ``end``.
        length: length of the curve; 0 gives ``end``.
        start: first value.
        end: last value.

    >>> round(cosine(5, 10, 1.0, 0.0), 6)
    0.5
    """
    share = min(1.0, max(0.0, position / length)) if length > 0 else 1.0
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * share))


class ConstantSchedule:
    """The same value at every step.

    Args:
        value: the value.

    >>> ConstantSchedule(0.05)(Progress(0, 1, 0, 10))
    0.05
    """

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, progress: Progress) -> float:
        return self.value


class LinearSchedule:
    """A straight line over the run, one value per optimizer step.

    Args:
        base: value of the first step.
        final: value that the end of the run approaches.

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

    By step (the default; Lamps, ACE, Adam-v2, and every momentum and weight-decay schedule), the warm-up of :math:`w`
    steps includes both of its ends. The base value thus stands at steps :math:`w-1` and :math:`w`, and step :math:`t
    \ge w` of :math:`n` has

    .. math:: v(t) = v_{final} + \tfrac12 (v_{base} - v_{final}) (1 + \cos(\pi (t - w) / (n - w))).

    By epoch (POPAR, PEAC, MoCo, Adam) the value is constant within an epoch :math:`e = 1..E`:

    .. math:: v(e) = \min(1, e/W)\, v_{cos}(\mathrm{clip}((e - W)/(E - W), 0, 1)).

    A step past the end of the run has the last value.

    Differs from the released code: The last epoch of POPAR and PEAC has rate 0 there; here it has the value of its
    middle. In a run of fewer than 100 epochs a by-epoch value holds for 1/100 of the run and is that of its middle, so
    that a few epochs follow the same curve. A warm-up that is longer than ``max_warmup`` of the run (of the stage, if
    ``per_stage``) is shortened to that share, so that a short run trains at its rate.

    Args:
        base: value after the warm-up.
        final: value that the end of the run approaches.
        warmup_epochs: length of the warm-up in epochs; fractions are rounded to whole steps.
        warmup_start: value of the first warm-up step (by step only).
        by_epoch: hold each value for one epoch.
        first_epoch: number of the first epoch if ``by_epoch``: 1 for POPAR and PEAC, 0 for MoCo and Adam.
        per_stage: restart with every stage (Adam); otherwise one curve spans all stages (Adam-v2).
        max_warmup: largest share of the run for the warm-up, in (0, 1].

    Raises:
        ValueError: if the warm-up is negative, if ``max_warmup`` is out of range, or if ``warmup_start`` is combined
            with ``by_epoch``.

    >>> schedule = CosineSchedule(0.1, warmup_epochs=5, by_epoch=True)
    >>> [round(schedule(Progress(e - 1, 400, 0, 1)), 6) for e in (1, 5, 100, 200, 399)]
    [0.02, 0.1, 0.086394, 0.050994, 2e-06]
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
        max_warmup: float = 0.1,
    ) -> None:
        if warmup_epochs < 0:
            raise ValueError(f"warmup_epochs must not be negative, got {warmup_epochs}; 0 means no warm-up")
        if by_epoch and warmup_start:
            raise ValueError(f"warmup_start works by step only, got warmup_start={warmup_start} with by_epoch=True")
        if not 0 < max_warmup <= 1:
            raise ValueError(f"max_warmup must be in (0, 1], got {max_warmup}; 1 never shortens the warm-up")
        self.base = base
        self.final = final
        self.warmup_epochs = warmup_epochs
        self.warmup_start = warmup_start
        self.by_epoch = by_epoch
        self.first_epoch = first_epoch
        self.per_stage = per_stage
        self.max_warmup = max_warmup

    def __call__(self, progress: Progress) -> float:
        progress = progress.of_stage if self.per_stage else progress
        return self._of_epoch(progress) if self.by_epoch else self._of_step(progress)

    def warmup(self, progress: Progress) -> float:
        """Compute the length of the warm-up in epochs, shortened if the run or the stage is short.

        Args:
            progress: any position in the run.

        >>> CosineSchedule(0.1, warmup_epochs=5).warmup(Progress(0, 10, 0, 100))
        1.0
        """
        progress = progress.of_stage if self.per_stage else progress
        return min(self.warmup_epochs, self.max_warmup * progress.max_epochs)

    def _of_step(self, progress: Progress) -> float:
        steps_per_epoch = progress.max_steps / max(1, progress.max_epochs)
        warmup = round(self.warmup(progress) * steps_per_epoch)
        if progress.step < warmup:
            return linear(progress.step, warmup - 1, self.warmup_start, self.base)
        return cosine(progress.step - warmup, progress.max_steps - warmup, self.base, self.final)

    def _of_epoch(self, progress: Progress) -> float:
        """Value of a piece, which is an epoch or, in a short run, 1/100 of the run (a step if there are fewer)."""
        epochs, warmup = progress.max_epochs, self.warmup(progress)
        pieces = max(epochs, min(_MIN_PIECES, progress.max_steps))
        if pieces == epochs:
            end = float(progress.epoch + 1)
            epoch = min(progress.epoch + self.first_epoch, epochs - 0.5)
        else:
            piece = progress.step * pieces // progress.max_steps
            end, epoch = (piece + 1) * epochs / pieces, (piece + 0.5) * epochs / pieces
        if epoch <= warmup:
            return linear(end, warmup, 0.0, self.base)  # the first epoch learns, whatever its number
        return cosine(epoch - warmup, epochs - warmup, self.base, self.final)
