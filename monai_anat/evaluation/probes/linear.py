"""Linear probe of class labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from monai_anat.evaluation.class_protocol import ClassProtocol, Split

__all__ = ["LinearProbe"]

Floats = NDArray[np.float64]

_LEAST = 1e-12  # probability of a class that no training image has


@dataclass(kw_only=True)
class LinearProbe(ClassProtocol):
    r"""Logistic regression on standardized embeddings (scikit-learn's ``LogisticRegression``).

    For C classes with weights :math:`w_c` it minimizes the mean cross-entropy over known labels plus
    :math:`\frac{p}{2 C} \sum_c |w_c|^2`. The penalty p is the one with the lowest loss on the validation images. That
    loss, unlike their AUROC, is defined for findings that no validation image has.

    Args:
        penalties: weights p of the squared coefficients.

    >>> LinearProbe(penalties=(0.1,)).name
    'linear'
    """

    name: ClassVar[str] = "linear"

    penalties: tuple[float, ...] = (1.0, 0.1, 0.01, 0.001)

    def predict(
        self, training: Split, validation: Split, test: Floats, one_of_many: bool
    ) -> tuple[Floats, dict[str, Any]]:
        """Fit with every penalty and keep the one with the lowest validation loss."""
        mean, std = training.features.mean(axis=0), training.features.std(axis=0)
        rows = [(part - mean) / np.where(std > 1e-8, std, 1) for part in (training.features, validation.features, test)]
        fit = _fit_exclusive if one_of_many else _fit_findings
        losses: dict[float, float] = {}
        best = np.empty(0)
        for penalty in sorted(self.penalties, reverse=True):
            checked, scores = fit(rows[0], training.labels, rows[1:], penalty)
            losses[penalty] = _mean_loss(checked, validation.labels, one_of_many)
            if losses[penalty] == min(losses.values()):
                best = scores
        chosen = min(losses, key=lambda value: losses[value])
        return best, {
            "penalty": chosen,
            "validation_loss": {f"{penalty:g}": round(loss, 6) for penalty, loss in losses.items()},
        }


def _fit_exclusive(rows: Floats, labels: Floats, queries: list[Floats], penalty: float) -> list[Floats]:
    """Fit one softmax over all classes; returns probabilities (N, C) of each query."""
    known = np.isfinite(labels).all(axis=1)
    truth = labels[known].argmax(axis=1)
    present = np.unique(truth)
    found = [np.full((len(part), labels.shape[1]), _LEAST) for part in queries]
    if len(present) == 1:
        for scores in found:
            scores[:, present] = 1.0
        return found
    # for two classes scikit-learn has one weight vector, the difference of ours: half the penalty
    strength = labels.shape[1] / (penalty * known.sum()) * (2 if len(present) == 2 else 1)
    model = LogisticRegression(C=strength, max_iter=1000, tol=1e-6).fit(rows[known], truth)
    for scores, part in zip(found, queries, strict=True):
        scores[:, present] = model.predict_proba(part)
    return found


def _fit_findings(rows: Floats, labels: Floats, queries: list[Floats], penalty: float) -> list[Floats]:
    """Fit each finding by itself on its known labels; returns probabilities (N, C) of each query."""
    total, count = np.isfinite(labels).sum(), labels.shape[1]
    found = [np.empty((len(part), count)) for part in queries]
    for index in range(count):
        known = np.isfinite(labels[:, index])
        truth = labels[known, index]
        if len(np.unique(truth)) < 2:  # a constant; such a finding is not scored
            for scores in found:
                scores[:, index] = np.clip(truth.mean() if len(truth) else 0.5, _LEAST, 1 - _LEAST)
            continue
        strength = count / (penalty * total)
        model = LogisticRegression(C=strength, max_iter=1000, tol=1e-6).fit(rows[known], truth)
        for scores, part in zip(found, queries, strict=True):
            scores[:, index] = model.predict_proba(part)[:, 1]
    return found


def _mean_loss(scores: Floats, labels: Floats, one_of_many: bool) -> float:
    """Mean cross-entropy over known labels."""
    chances = np.clip(scores, _LEAST, 1 - _LEAST)
    if one_of_many:
        known = np.isfinite(labels).all(axis=1)
        losses = -np.log(chances[known]) * labels[known]
        return float(losses.sum() / max(known.sum(), 1))
    known = np.isfinite(labels)
    losses = -np.log(np.where(labels == 1, chances, 1 - chances))
    return float(losses[known].sum() / max(known.sum(), 1))
