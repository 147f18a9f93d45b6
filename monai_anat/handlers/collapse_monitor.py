"""Monitor of representation collapse during training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from monai_anat.engines.trainer import SSLTrainer
from monai_anat.keys import VIEW_1, VIEW_2
from monai_anat.metrics.collapse import effective_rank, feature_spread

__all__ = ["CollapseMonitor"]

logger = logging.getLogger(__name__)


class CollapseMonitor:
    """Measure the feature spread and the effective rank of the encoder's embeddings at the end of every epoch.

    Every few steps the encoder embeds the current batch (evaluation mode, no gradients) and averages each view over
    space. The last ``images`` embeddings are measured. The results go to ``state.metrics`` as ``feature_spread`` and
    ``effective_rank``; a warning is logged if the rank falls below ``min_rank``. The embeddings are part of a
    checkpoint, so the measures of an interrupted epoch are those of an uninterrupted one.

    Args:
        images: number of embeddings to measure, an upper bound of the rank.
        every: optimizer steps between two batches that are embedded.
        min_rank: effective rank below which the embeddings count as collapsed.

    >>> CollapseMonitor(min_rank=3.0).min_rank
    3.0
    """

    def __init__(self, *, images: int = 256, every: int = 20, min_rank: float = 2.0) -> None:
        self.images = images
        self.every = every
        self.min_rank = min_rank
        self._embeddings: list[Tensor] = []

    def attach(self, engine: SSLTrainer) -> None:
        """Register with the trainer; only the first process measures."""
        if engine.rank == 0:
            engine.add_state("collapse_monitor", self)
            engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.every), self._embed)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._measure)

    def state_dict(self) -> dict[str, Any]:
        """Return the embeddings so far."""
        return {"embeddings": [part.cpu() for part in self._embeddings]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._embeddings = list(state["embeddings"])

    @torch.no_grad()
    def _embed(self, engine: SSLTrainer) -> None:
        batch = engine.state.batch
        views = batch.get(VIEW_2, batch.get(VIEW_1))
        if not isinstance(views, Tensor):
            return
        encoder = engine.method.export_networks()["encoder"]
        training = encoder.training
        encoder.eval()
        with torch.autocast(engine.device.type, engine.dtype, enabled=engine.dtype is not None):
            feature_map = encoder(views[: self.images].to(engine.device, non_blocking=True))
        encoder.train(training)
        self._embeddings.append(feature_map.flatten(2).mean(2).float())
        while sum(len(part) for part in self._embeddings[1:]) >= self.images:
            self._embeddings.pop(0)

    def _measure(self, engine: SSLTrainer) -> None:
        if not self._embeddings:
            return
        embeddings = torch.cat([part.to(engine.device) for part in self._embeddings])[-self.images :]
        if len(embeddings) < 2:
            return
        rank = effective_rank(embeddings)
        engine.state.metrics["effective_rank"] = rank
        engine.state.metrics["feature_spread"] = feature_spread(embeddings)
        if rank < self.min_rank:
            logger.warning(
                f"The embeddings of {len(embeddings)} images have effective rank {rank:.2f} (< {self.min_rank}): the "
                "encoder may be collapsing. A higher teacher momentum, a lower learning rate or other loss weights may "
                "help."
            )
