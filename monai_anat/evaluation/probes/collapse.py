"""Collapse probe: effective rank and spread of embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.features import cosines, unit
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.frozen_protocol import FrozenProtocol
from monai_anat.evaluation.metric import Better, Metric, Metrics
from monai_anat.evaluation.patients import Items
from monai_anat.evaluation.protocol import Measured

__all__ = ["CollapseProbe"]

Floats = NDArray[np.float64]


@dataclass(kw_only=True)
class CollapseProbe(FrozenProtocol):
    """Effective rank (RankMe, Garrido et al., arXiv:2210.02885) and spread of embeddings and dense features.

    The effective rank is the exponential of the entropy of the singular values. The rank of N images is at most N - 1,
    so ranks compare only between encoders on the same images; ``share_of_rank`` divides by that limit, or by the number
    of channels if it is smaller. ``raw_cosine`` is the cosine between two patients without centering: close to 1 if a
    component that all images share outweighs the rest. Repeated rows add no rank, so the bootstrap replicates are
    shifted to have the estimate as their mean.

    Args:
        min_rank: effective rank below which the encoder counts as collapsed, if there are enough images.
        cells: total number of dense features, drawn evenly from the images.

    >>> CollapseProbe(min_rank=3.0).name
    'collapse'
    """

    name: ClassVar[str] = "collapse"
    kinds: ClassVar[dict[str, tuple[Better, str]]] = {
        "effective_rank": ("higher", "directions"),
        "share_of_rank": ("higher", "share"),
        "effective_rank_cells": ("higher", "directions"),
        "feature_spread": ("higher", ""),
        "raw_cosine": (None, "cosine"),
    }

    min_rank: float = 2.0
    cells: int = 256

    def measure(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Compute ranks and spreads, and decide whether they mean collapse."""
        embeddings = encoder.embeddings(items).astype(np.float64)
        metrics: Metrics = {}
        metrics["effective_rank"] = self._rank(bootstrap, embeddings, np.arange(len(items)), "effective_rank")
        limit = min(len(items) - 1, embeddings.shape[1])
        better, unit_name = self.kinds["share_of_rank"]
        metrics["share_of_rank"] = metrics["effective_rank"].scaled(1 / limit, better=better, unit=unit_name)
        cells, rows = self._cells(encoder, items)
        metrics["effective_rank_cells"] = self._rank(bootstrap, cells, rows, "effective_rank_cells")
        metrics["feature_spread"] = self._spread(bootstrap, embeddings)
        first, second = np.triu_indices(len(items), 1)
        other = bootstrap.patient_of[first] != bootstrap.patient_of[second]
        first, second = first[other], second[other]
        cosine = cosines(embeddings[first], embeddings[second])
        metrics["raw_cosine"] = bootstrap.pair_mean(cosine, first, second, **self.kind("raw_cosine"))
        rank = metrics["effective_rank"].value or 0.0
        # few images have a low rank with any encoder; equal features are a collapse with any number of images
        few = len(items) - 1 <= self.min_rank
        collapsed = rank < (0.5 if few else self.min_rank)
        notes = []
        if few and not collapsed:
            notes.append(f"{len(items)} images have a rank of {len(items) - 1} at most, too few to detect a collapse.")
        if collapsed:
            notes.append(f"Collapsed: {len(items)} embeddings have effective rank {rank:.2f}, below {self.min_rank:g}.")
        return Measured(metrics, notes=notes, collapsed=bool(collapsed))

    def _rank(self, bootstrap: PatientBootstrap, features: Floats, rows: NDArray[np.int64], name: str) -> Metric:
        """Effective rank of weighted rows (M, D), from their inner products."""
        products = features @ features.T
        patients = bootstrap.patient_of[rows]
        floor = np.abs(features).max() * max(features.shape) * np.finfo(np.float32).eps

        def statistic(weights: Floats) -> Floats:
            return np.array([_effective_rank(products, weight[patients], floor) for weight in weights])

        return bootstrap.estimate(statistic, unbias=True, **self.kind(name))

    def _spread(self, bootstrap: PatientBootstrap, embeddings: Floats) -> Metric:
        """Standard deviation of unit embeddings, averaged over channels; 1 for random directions."""
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
        """Draw cells of every image, (M, D), and return the image of each, (M,)."""
        each = max(1, self.cells // len(items))
        generator = np.random.default_rng(self.seed)
        found = []
        for item in items:
            tokens = encoder.feature_maps([item])[0].reshape(-1, encoder.grid[0] * encoder.grid[1]).T
            found.append(tokens[generator.permutation(len(tokens))[:each]])
        rows = np.repeat(np.arange(len(items)), [len(part) for part in found])
        return np.concatenate(found).astype(np.float64), rows


def _effective_rank(products: Floats, weight: Floats, floor: float) -> float:
    """Effective rank from the inner products of rows, after weighting and centering.

    Singular values up to ``floor`` count as zero.
    """
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
