"""Do the embeddings of different images differ, and in how many directions?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.frozen import FrozenEncoder, cosines, unit
from monai_anat.evaluation.frozen_protocol import FrozenProtocol, Items, Measured, Metrics

__all__ = ["CollapseProbe"]

Floats = NDArray[np.float64]


@dataclass(kw_only=True)
class CollapseProbe(FrozenProtocol):
    """Effective rank (RankMe, arXiv:2210.02885) and spread of the embeddings of images, and of dense features.

    The rank of N images is N - 1 at most, so ranks compare only between encoders on the same images; ``share_of_rank``
    divides by that limit or by the number of channels. ``raw_cosine`` is that of two different patients: near 1 when
    one vector that all images share outweighs the rest. Repeated rows add no rank: the bootstrap's replicates are
    therefore shifted to have the value as their mean.

    Args:
        min_rank: effective rank below which the encoder counts as collapsed, where the images allow more.
        cells: dense features in all, drawn over the images.

    >>> CollapseProbe(min_rank=3.0).name
    'collapse'
    """

    name: ClassVar[str] = "collapse"
    kinds: ClassVar[dict[str, tuple[str | None, str]]] = {
        "effective_rank": ("higher", "directions"),
        "share_of_rank": ("higher", "share"),
        "effective_rank_cells": ("higher", "directions"),
        "feature_spread": ("higher", ""),
        "raw_cosine": (None, "cosine"),
    }

    min_rank: float = 2.0
    cells: int = 256

    def measure(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Ranks and spreads, and whether they mean collapse."""
        embeddings = encoder.embeddings(items).astype(np.float64)
        metrics: Metrics = {}
        metrics["effective_rank"] = self._rank(bootstrap, embeddings, np.arange(len(items)), "effective_rank")
        limit = min(len(items) - 1, embeddings.shape[1])
        metrics["share_of_rank"] = {**_scaled(metrics["effective_rank"], 1 / limit), **self.kind("share_of_rank")}
        cells, rows = self._cells(encoder, items)
        metrics["effective_rank_cells"] = self._rank(bootstrap, cells, rows, "effective_rank_cells")
        metrics["feature_spread"] = self._spread(bootstrap, embeddings)
        first, second = np.triu_indices(len(items), 1)
        other = bootstrap.patient_of[first] != bootstrap.patient_of[second]
        first, second = first[other], second[other]
        cosine = cosines(embeddings[first], embeddings[second])
        metrics["raw_cosine"] = bootstrap.pair_mean(cosine, first, second, **self.kind("raw_cosine"))
        rank = metrics["effective_rank"]["value"]
        # the rank of few images is low whatever the encoder; equal features are a collapse for any number of them
        few = len(items) - 1 <= self.min_rank
        collapsed = rank < (0.5 if few else self.min_rank)
        notes = []
        if few and not collapsed:
            notes.append(f"{len(items)} images have a rank of {len(items) - 1} at most, too few to tell a collapse.")
        if collapsed:
            notes.append(f"Collapsed: {len(items)} embeddings have effective rank {rank:.2f}, below {self.min_rank:g}.")
        return Measured(metrics, extra={"collapsed": bool(collapsed)}, notes=notes)

    def _rank(
        self, bootstrap: PatientBootstrap, features: Floats, rows: NDArray[np.int64], name: str
    ) -> dict[str, Any]:
        """Effective rank of weighted rows, from their inner products."""
        products = features @ features.T
        patients = bootstrap.patient_of[rows]
        floor = np.abs(features).max() * max(features.shape) * np.finfo(np.float32).eps

        def statistic(weights: Floats) -> Floats:
            return np.array([_effective_rank(products, weight[patients], floor) for weight in weights])

        return bootstrap.estimate(statistic, unbias=True, **self.kind(name))

    def _spread(self, bootstrap: PatientBootstrap, embeddings: Floats) -> dict[str, Any]:
        rows = unit(embeddings)
        squares = rows**2
        scale = rows.shape[1] ** 0.5

        def statistic(weights: Floats) -> Floats:
            weight = weights[:, bootstrap.patient_of]
            weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
            variance = np.maximum(weight @ squares - (weight @ rows) ** 2, 0)
            spread: Floats = np.sqrt(variance).mean(axis=1) * scale
            return spread

        return bootstrap.estimate(statistic, unbias=True, **self.kind("feature_spread"))

    def _cells(self, encoder: FrozenEncoder, items: Items) -> tuple[Floats, NDArray[np.int64]]:
        """Some cells of every image (M, D), and the image of each."""
        each = max(1, self.cells // len(items))
        generator = np.random.default_rng(self.seed)
        found = []
        for item in items:
            tokens = encoder.feature_maps([item])[0].reshape(-1, encoder.grid[0] * encoder.grid[1]).T
            found.append(tokens[generator.permutation(len(tokens))[:each]])
        rows = np.repeat(np.arange(len(items)), [len(part) for part in found])
        return np.concatenate(found).astype(np.float64), rows


def _effective_rank(products: Floats, weight: Floats, floor: float) -> float:
    """Exponential of the entropy of singular values, from the weighted and centered inner products of rows."""
    share = weight / weight.sum()
    mean = products @ share
    center = products - mean[:, None] - mean[None] + share @ mean
    used = weight > 0
    root = np.sqrt(weight[used])
    values = np.linalg.eigvalsh(center[np.ix_(used, used)] * root[:, None] * root[None])
    singular = np.sqrt(np.maximum(values, 0))
    singular = singular[singular > floor]
    if not len(singular):
        return 0.0
    part = singular / singular.sum()
    return float(np.exp(-(part * np.log(part)).sum()))


def _scaled(metric: dict[str, Any], factor: float) -> dict[str, Any]:
    """A metric in another unit."""
    scaled = dict(metric)
    for key in ("value", "low", "high"):
        value = metric[key]
        scaled[key] = None if value is None else float(value) * factor
    scaled["replicates"] = [None if value is None else value * factor for value in metric["replicates"]]
    return scaled
