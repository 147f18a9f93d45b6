"""Nearest-neighbor probe of class labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from monai_anat.data.items import DatalistError
from monai_anat.evaluation.class_protocol import ClassProtocol, Split
from monai_anat.evaluation.class_task import read_class_task
from monai_anat.evaluation.features import centered
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.patients import Items, patients_of
from monai_anat.evaluation.protocol import Measured
from monai_anat.evaluation.results import Result
from monai_anat.networks.backbones.backbone import Backbone

__all__ = ["NearestNeighborProbe"]

Floats = NDArray[np.float64]


@dataclass(kw_only=True)
class NearestNeighborProbe(ClassProtocol):
    """Weighted k-nearest-neighbor classifier on embeddings (Wu et al., arXiv:1805.01978).

    A neighbor with cosine s to the query votes for its label with weight ``exp(s / temperature)``. :meth:`run` searches
    neighbors among the training images. :meth:`run_within` needs a single list and searches the images of all other
    patients.

    Args:
        neighbors: k; all training images if there are fewer.
        temperature: of the weights.
        center: subtract the mean embedding of the training images first. A component that all embeddings share would
            make all cosines similar.

    >>> NearestNeighborProbe(neighbors=5).name
    'k-nn'
    """

    name: ClassVar[str] = "k-nn"

    neighbors: int = 20
    temperature: float = 0.07
    center: bool = True

    def predict(
        self, training: Split, validation: Split, test: Floats, one_of_many: bool
    ) -> tuple[Floats, dict[str, Any]]:
        """Let the neighbors vote. There is nothing to choose, so validation images are not used."""
        share, scores = self._vote(training, test)
        return np.where(np.isnan(scores), share, scores), {"neighbors": min(self.neighbors, len(training.features))}

    def run_within(self, encoder: Backbone | FrozenEncoder, items: Items) -> Result:
        """Classify each image by its nearest images of all other patients in the same list.

        No image is held out, so this suits the development of a method, during which test patients must not be used.
        Nothing is fitted. In small lists, an uninformative encoder scores slightly below an AUROC of 0.5, because a
        patient's own class is rarer among the other patients.

        Args:
            encoder: as for :meth:`run`.
            items: items ``{"image", "label", "patient"}`` of at least two patients.

        Returns:
            The result for all images, as of :meth:`run`.

        Raises:
            DatalistError: if there are fewer than two patients, or labels cannot be read.
        """
        frozen = FrozenEncoder.of(encoder)
        if len(set(patients_of(items))) < 2:
            raise DatalistError(f"items must hold at least two patients, got {len(set(patients_of(items)))}")
        (task, labels), bootstrap = read_class_task(items, self.class_names), self._bootstrap(items)
        patients = torch.as_tensor(bootstrap.patient_of)

        def measure(one: FrozenEncoder) -> Measured:
            rows = one.embeddings(items).astype(np.float64)
            centered(rows)
            share, scores = self._vote(Split(rows, labels), rows, patients[:, None] != patients)
            known = np.where(np.isnan(scores), share, scores)
            chosen = {"neighbors": min(self.neighbors, len(rows))}
            return task.score(known, labels, items, bootstrap, chosen, labels)

        result = self._result(frozen, measure, bootstrap, task, items, len(items))
        result.settings["within"] = True
        return result

    def _vote(self, gallery: Split, queries: Floats, allowed: Tensor | None = None) -> tuple[Floats, Floats]:
        """Let the nearest images of a gallery vote.

        Args:
            gallery: M embeddings with labels.
            queries: (N, D) embeddings.
            allowed: (N, M) which images may vote for which query; all by default.

        Returns:
            Share of each class in the gallery, (C,), and the votes (N, C), NaN if no neighbor has a known label.
        """
        mean = gallery.features.mean(axis=0) * self.center
        rows = F.normalize(torch.as_tensor(gallery.features - mean), dim=1)
        known = torch.as_tensor(~np.isnan(gallery.labels), dtype=torch.float64)
        labels = torch.as_tensor(np.nan_to_num(gallery.labels))
        share = labels.sum(dim=0) / known.sum(dim=0).clamp(min=1)
        scores = []
        for start in range(0, len(queries), 256):
            part = slice(start, start + 256)
            cosine = F.normalize(torch.as_tensor(queries[part] - mean), dim=1) @ rows.T
            if allowed is not None:
                cosine = cosine.masked_fill(~allowed[part], -torch.inf)  # weight 0 below
            best, index = cosine.topk(min(self.neighbors, len(rows)), dim=1)
            weight = ((best - best[:, :1]) / self.temperature).exp()[:, :, None] * known[index]
            scores.append((weight * labels[index]).sum(dim=1) / weight.sum(dim=1))  # 0 / 0 is NaN
        return share.numpy(), torch.cat(scores).numpy()
