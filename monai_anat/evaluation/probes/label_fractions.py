"""Linear probe with fractions of the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.lists.splits import take_fraction
from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.class_protocol import Split
from monai_anat.evaluation.class_task import ClassTask, one_sided, rarer_patients
from monai_anat.evaluation.metric import Metric, Metrics
from monai_anat.evaluation.patients import Items
from monai_anat.evaluation.probes.linear import LinearProbe
from monai_anat.evaluation.protocol import Measured
from monai_anat.keys import IMAGE
from monai_anat.metrics.classification import area_under_roc

__all__ = ["LabelFractionProbe"]

Floats = NDArray[np.float64]


@dataclass(kw_only=True)
class LabelFractionProbe(LinearProbe):
    """:class:`LinearProbe` on fractions of the training patients. Validation and test stay complete.

    A fraction takes whole patients, and the smaller fractions of a draw are contained in its larger ones. The macro
    AUROC at a fraction is the mean over draws; its interval covers draws and test patients.

    Args:
        fractions: fractions of the training images.
        draws: random seeds, one draw of patients each.

    >>> LabelFractionProbe(fractions=(0.1, 1.0)).name
    'label-fractions'
    """

    name: ClassVar[str] = "label-fractions"

    fractions: tuple[float, ...] = (0.01, 0.1, 0.25, 0.5, 1.0)
    draws: Sequence[int] = (0, 1, 2, 3, 4)

    def measure(
        self,
        training: Split,
        validation: Split,
        test: Split,
        splits: Mapping[str, Items],
        task: ClassTask,
        bootstrap: PatientBootstrap,
    ) -> Measured:
        """Compute the macro AUROC at every fraction."""
        reasons = [
            one_sided(test.labels[:, index], name) or one_sided(training.labels[:, index], name, "training")
            for index, name in enumerate(task.names)
        ]
        notes = [f"{reason[0].upper()}{reason[1:]}." for reason in reasons if reason]
        defined = [index for index, reason in enumerate(reasons) if not reason]
        metrics: Metrics = {}
        counts: dict[str, list[int]] = {}
        place = {str(item[IMAGE]): index for index, item in enumerate(splits["training"])}
        for fraction in self.fractions:
            drawn, poor = [], 0
            for seed in self.draws if fraction < 1 else self.draws[:1]:
                taken = take_fraction(splits["training"], fraction, seed)
                rows = [place[str(item[IMAGE])] for item in taken]
                part = Split(training.features[rows], training.labels[rows])
                drawn.append(self.predict(part, validation, test.features, task.one_of_many)[0])
                counts.setdefault(f"{100 * fraction:g}%", []).append(len(rows))
                poor += any(one_sided(part.labels[:, index], "") for index in defined)
            if poor:
                share = f"{100 * fraction:g}% of the labels"
                notes.append(f"{poor} of {len(drawn)} draws of {share} hold one kind of image only for some class.")
            metrics[f"auroc/{100 * fraction:g}%"] = _over_draws(np.stack(drawn), test.labels, defined, bootstrap)
        points = [[float(np.mean(numbers)), f"auroc/{share}"] for share, numbers in counts.items()]
        curve = {"x_label": "labeled training images", "y_label": "macro AUROC", "ways": {"": points}}
        return Measured(metrics, extra={"n_labels": counts, "curves": [curve]}, notes=notes)


def _over_draws(scores: Floats, labels: Floats, defined: list[int], bootstrap: PatientBootstrap) -> Metric:
    """Macro AUROC of scores (S, N, C), mean over draws."""

    def statistic(weights: Floats, draws: Floats) -> Floats:
        rows = weights[:, bootstrap.patient_of]
        areas = np.full((len(scores), len(defined), len(weights)), np.nan)
        for number, one in enumerate(scores):
            for column, index in enumerate(defined):
                known = _known(labels[:, index])
                areas[number, column] = area_under_roc(labels[known, index], one[known, index], rows[:, known])
        good = np.isfinite(areas)
        macro = np.where(good, areas, 0).sum(axis=1) / np.maximum(good.sum(axis=1), 1)  # (S, R)
        mean: Floats = np.einsum("rs,sr->r", draws, macro) / draws.sum(axis=1)
        return np.where(good.any(axis=(0, 1)), mean, np.nan) if defined else np.full(len(weights), np.nan)

    one = len(defined) == 1
    return bootstrap.estimate(
        statistic,
        limiting=rarer_patients(labels[:, defined[0]], bootstrap) if one else None,
        better="higher",
        unit="AUROC",
        draws=len(scores),
        width=8 * scores.shape[1],
        why="no class has both positive and negative images in test and training, so there is no area under a curve",
    )


def _known(labels: Floats) -> NDArray[np.bool_]:
    return np.isfinite(labels)
