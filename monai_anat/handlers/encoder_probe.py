"""What the encoder knows already, asked every few epochs while it trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ignite.engine import Events
from matplotlib.figure import Figure
from torch import nn

from monai_anat.engines.trainer import SSLTrainer
from monai_anat.visualize.figures import rasterize

__all__ = ["EncoderProbe"]

Probe = Callable[[nn.Module], tuple[Mapping[str, float], Figure | None]]


class EncoderProbe:
    """Puts the scores of a probe into ``state.metrics`` and its picture into ``state.pictures``, every few epochs.

    :class:`TrainingLog`, attached after this handler, writes both. The probe sees the encoder in evaluation mode and
    must leave its weights alone; it changes nothing in the run. Only the first process asks it. An epoch whose probe
    would take more than ``max_share`` of the time so far is left out; not so the first probe, whose cost nobody knows
    yet, and the last epoch, which is always asked. So probes stay under 5 % of the time after the first and before the
    last; in a short run these two weigh more (6.7 % of a tiny POPAR's eight epochs).

    Args:
        probe: encoder -> scores by name, and a picture or None; ``monai_anat.evaluation.TrainingProbe`` is one.
        every: epochs between two probes; the last epoch is always asked.
        max_share: of the time so far that all probes together may take, but for the first and the last.
        prefix: stands before the names of the scores.

    Raises:
        ValueError: for an interval below 1 or a share outside (0, 1].

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
        self._dearest = 0.0
        self._started = 0.0

    def attach(self, engine: SSLTrainer) -> None:
        """Register with the trainer; only the first process asks."""
        if engine.rank == 0:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.EPOCH_STARTED, self._forget)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._ask)

    def _start(self, engine: SSLTrainer) -> None:
        self._started, self.seconds = time.perf_counter(), 0.0

    def _forget(self, engine: SSLTrainer) -> None:
        """A score belongs to the epoch at whose end it was measured."""
        for name in [name for name in engine.state.metrics if name.startswith(self.prefix)]:
            del engine.state.metrics[name]
        engine.state.pictures = {}

    def _ask(self, engine: SSLTrainer) -> None:
        last = engine.state.epoch == engine.state.max_epochs
        started = time.perf_counter()
        affordable = self.seconds + self._dearest <= self.max_share * (started - self._started)
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
        self._dearest = max(self._dearest, cost)
