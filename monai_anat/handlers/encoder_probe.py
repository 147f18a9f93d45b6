"""Probe of the encoder while it trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ignite.engine import Events
from matplotlib.figure import Figure
from torch import nn

from monai_anat.engines.trainer import SSLTrainer
from monai_anat.visualize.figures import rasterize

__all__ = ["EncoderProbe"]

Probe = Callable[[nn.Module], tuple[Mapping[str, float], Figure | None]]


class EncoderProbe:
    """Run a probe on the encoder every few epochs: scores go to ``state.metrics``, a picture to ``state.pictures``.

    :class:`~monai_anat.handlers.training_log.TrainingLog`, attached after this handler, writes both. The probe gets the
    encoder in evaluation mode and must not change its weights, so the run is the same with and without it. Only the
    first process runs it.

    A probe is skipped if all probes together would take more than ``max_share`` of the run's time so far. The first
    probe, whose cost is unknown, and the one after the last epoch always run. The share is thus below 5 % after the
    first probe and before the last; in a short run these two weigh more (6.7 % of a POPAR run of eight epochs).

    Args:
        probe: function that maps an encoder to scores by name and a picture or None, such as
            ``monai_anat.evaluation.TrainingProbe``.
        every: epochs between two probes.
        max_share: share of the run's time for all probes but the first and the last, in (0, 1].
        prefix: prefix of the names of the scores.

    Raises:
        ValueError: if the interval is below 1 or the share is not in (0, 1].

    >>> EncoderProbe(lambda encoder: ({"error": 0.5}, None), every=10).every
    10
    """

    def __init__(self, probe: Probe, *, every: int = 1, max_share: float = 0.05, prefix: str = "probe_") -> None:
        if every < 1 or not 0 < max_share <= 1:
            raise ValueError(f"every must be at least 1 and max_share in (0, 1], got {every=} and {max_share=}")
        self.probe = probe
        self.every = every
        self.max_share = max_share
        self.prefix = prefix
        self.seconds = 0.0
        self._longest = 0.0
        self._started = 0.0
        self._earlier = 0.0

    def attach(self, engine: SSLTrainer) -> None:
        """Register with the trainer; only the first process runs the probe."""
        if engine.rank == 0:
            engine.add_state("encoder_probe", self)
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.EPOCH_STARTED, self._clear)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._measure)

    def state_dict(self) -> dict[str, Any]:
        """Return the time of the run and of its probes, in seconds."""
        return {"run_seconds": self._run_seconds(), "seconds": self.seconds, "longest": self._longest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._earlier, self.seconds, self._longest = state["run_seconds"], state["seconds"], state["longest"]

    def _run_seconds(self) -> float:
        return self._earlier + (time.perf_counter() - self._started if self._started else 0.0)

    def _start(self, engine: SSLTrainer) -> None:
        self._started = time.perf_counter()

    def _clear(self, engine: SSLTrainer) -> None:
        """Remove the scores of an earlier epoch."""
        for name in [name for name in engine.state.metrics if name.startswith(self.prefix)]:
            del engine.state.metrics[name]
        engine.state.pictures = {}

    def _measure(self, engine: SSLTrainer) -> None:
        last = engine.state.epoch == engine.progress.max_epochs
        started = time.perf_counter()
        affordable = self.seconds + self._longest <= self.max_share * self._run_seconds()
        if not last and (engine.state.epoch % self.every or not affordable):
            return
        encoder = engine.method.export_networks()["encoder"]
        training = encoder.training
        scores, picture = self.probe(encoder.eval())
        encoder.train(training)
        engine.state.metrics.update({f"{self.prefix}{name}": float(score) for name, score in scores.items()})
        if picture is not None:
            engine.state.pictures = {f"{self.prefix}cases": rasterize(picture, dpi=80)}
        cost = time.perf_counter() - started
        self.seconds += cost
        self._longest = max(self._longest, cost)
