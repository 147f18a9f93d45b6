"""Localizability probe: separability of landmarks by window embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_samples
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monai_anat.data.items import DatalistError
from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.features import centered
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.frozen_protocol import FrozenProtocol
from monai_anat.evaluation.landmark_lists import LandmarkSet, has_landmarks, load_landmarks
from monai_anat.evaluation.metric import Better, Metrics
from monai_anat.evaluation.patients import Items
from monai_anat.evaluation.pictures import ReportFigure
from monai_anat.evaluation.protocol import Measured
from monai_anat.evaluation.results import Result
from monai_anat.evaluation.windows import window_at
from monai_anat.visualize.embedding_map import draw_embedding_map

__all__ = ["LocalizabilityProbe"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(kw_only=True)
class LocalizabilityProbe(FrozenProtocol):
    """Separability of landmarks by the embeddings of windows around them (PEAC; Adam, arXiv:2309.15358).

    Windows are cropped from the stored image, shifted inside if they would cross its border, and resized to the
    network's input. Scores use the cosine of centered embeddings. Neighbors are searched among the windows of other
    patients only, so that recognizing a patient does not help. The baseline is the position in the image, by Euclidean
    distance.

    Args:
        window: side of the windows as a fraction of the shorter side of the image (PEAC: 448 of 1024 pixels).
        neighbors: k of the nearest-neighbor classifier.
        folds: cross-validation folds, by patient, of the linear classifier.
        picture_points: windows in the t-SNE plot; 0 omits it.

    >>> LocalizabilityProbe(neighbors=3).name
    'localizability'
    """

    name: ClassVar[str] = "localizability"
    kinds: ClassVar[dict[str, tuple[Better, str]]] = {
        "silhouette": ("higher", ""),
        "knn_accuracy": ("higher", "share"),
        "recall_at_1": ("higher", "share"),
        "mean_average_precision": ("higher", ""),
        "linear_accuracy": ("higher", "share"),
        "left_right_confusion": ("lower", "share of errors"),
    }

    needs: ClassVar[str] = "landmarks or lung mask"

    window: float = 448 / 1024
    neighbors: int = 5
    folds: int = 5
    picture_points: int = 500

    def usable(self, item: Mapping[str, Any]) -> bool:
        """Require landmarks, or a mask to derive them from."""
        return has_landmarks(item)

    def measure(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Score the embeddings of the windows, and plot them by t-SNE."""
        landmarks = load_landmarks(items)
        images, labels = np.nonzero(np.isfinite(landmarks.points).all(axis=2))
        patients = len(np.unique(bootstrap.patient_of[images]))
        if patients < 2 or not 1 < len(np.unique(labels)) < len(labels):
            raise DatalistError(
                f"datalist must show two different landmarks, one of them twice, in two patients for {self.name}, got "
                f"{len(labels)} places of {len(np.unique(labels))} landmarks in {patients} patients"
            )
        embeddings = encoder.window_embeddings(items, self._boxes(landmarks))[images, labels]
        rows = centered(embeddings)
        metrics = self._score(bootstrap, landmarks, 1 - rows @ rows.T, rows, images, labels)
        extra: dict[str, Any] = {"landmark_names": list(landmarks.names), "n_windows": len(images)}
        if self.picture_points:
            extra["picture"] = self._picture(rows, labels)
        return Measured(metrics, extra=extra, notes=list(landmarks.notes))

    def baselines(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> dict[str, Metrics]:
        """Use the relative position of the landmark instead of an embedding."""
        landmarks = load_landmarks(items)
        images, labels = np.nonzero(np.isfinite(landmarks.points).all(axis=2))
        places = (landmarks.points / landmarks.shapes[:, None])[images, labels]
        distance = np.linalg.norm(places[:, None] - places[None], axis=2)
        return {"position": self._score(bootstrap, landmarks, distance, places, images, labels)}

    @classmethod
    def draw_figures(cls, result: Result) -> list[ReportFigure]:
        """Draw the t-SNE plot."""
        picture = result.extra.get("picture")
        if picture is None:
            return []
        figure = draw_embedding_map(picture["points"], picture["landmark"], result.extra["landmark_names"])
        return [ReportFigure(figure, "Windows around landmarks, by t-SNE of their embeddings")]

    def _boxes(self, landmarks: LandmarkSet) -> Indices:
        """Place a window around each landmark, (N, K, 4), or around the image center if it is absent."""
        boxes = []
        for points, shape in zip(landmarks.points, landmarks.shapes, strict=True):
            size = (int(shape[0]), int(shape[1]))
            side = max(1, round(self.window * min(size)))
            places = np.where(np.isnan(points), (np.array(size) - 1) / 2, points)
            boxes.append([window_at(place, side, size) for place in places])
        return np.array(boxes)

    def _score(
        self,
        bootstrap: PatientBootstrap,
        landmarks: LandmarkSet,
        distance: Floats,
        features: Floats,
        images: Indices,
        labels: Indices,
    ) -> Metrics:
        patients = bootstrap.patient_of[images]
        others = patients[:, None] != patients[None]
        same = labels[:, None] == labels[None]
        apart = np.where(others, np.maximum(distance, 0), np.inf)
        order = np.argsort(apart, axis=1, kind="stable")
        nearest = order[:, : self.neighbors]  # with few patients, some of them are not of others
        known = np.take_along_axis(others, nearest, axis=1)
        voted = _vote(np.where(known, labels[nearest], -1), len(landmarks.names))
        wrong = voted != labels
        paired = landmarks.mirror[labels] != labels
        matrix = np.maximum(distance, 0)
        np.fill_diagonal(matrix, 0)
        values = {
            "silhouette": silhouette_samples(matrix, labels, metric="precomputed"),
            "knn_accuracy": ~wrong,
            "recall_at_1": labels[order[:, 0]] == labels,
            "mean_average_precision": _average_precision(same & others, others, order),
            "linear_accuracy": self._linear(features, labels, patients),
            "left_right_confusion": np.where(wrong & paired, landmarks.mirror[labels] == voted, np.nan),
        }
        metrics = self.means(bootstrap, values, images)
        if metrics["left_right_confusion"].value is None:
            why = "no window was taken for another landmark, so there is no error"
            metrics["left_right_confusion"] = replace(metrics["left_right_confusion"], why=why)
        return metrics

    def _linear(self, features: Floats, labels: Indices, patients: Indices) -> Floats:
        folds = min(self.folds, len(np.unique(patients)))
        right = np.full(len(labels), np.nan)
        for train, test in GroupKFold(folds).split(features, labels, patients):
            if len(np.unique(labels[train])) > 1:
                model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500, tol=1e-3))
                right[test] = model.fit(features[train], labels[train]).predict(features[test]) == labels[test]
        return right

    def _picture(self, rows: Floats, labels: Indices) -> dict[str, Any]:
        """Project to two dimensions by t-SNE, with PEAC's perplexity of 50 if there are enough windows."""
        chosen = np.sort(np.random.default_rng(self.seed).permutation(len(rows))[: self.picture_points])
        perplexity = min(50.0, max(2.0, (len(chosen) - 1) / 4))
        plane = TSNE(perplexity=perplexity, init="pca", random_state=self.seed).fit_transform(rows[chosen])
        return {"points": np.round(plane.astype(float), 3).tolist(), "landmark": labels[chosen].tolist()}


def _vote(labels: Indices, classes: int) -> Indices:
    """Majority vote of the neighbors; the nearest one decides ties."""
    counts = (labels[:, :, None] == np.arange(classes)).sum(axis=1) * labels.shape[1]
    earlier = (labels[:, :, None] == np.arange(classes)).argmax(axis=1)
    result: Indices = np.where(counts > 0, counts - earlier, -1).argmax(axis=1)
    return result


def _average_precision(relevant: NDArray[np.bool_], allowed: NDArray[np.bool_], order: Indices) -> Floats:
    """Average precision of each query over the allowed windows; NaN if none of them is relevant."""
    hits = np.take_along_axis(relevant, order, axis=1)
    inside = np.take_along_axis(allowed, order, axis=1)  # allowed ones come first
    precision = np.cumsum(hits, axis=1) / np.maximum(np.cumsum(inside, axis=1), 1)
    count = hits.sum(axis=1)
    return np.where(count > 0, (precision * hits).sum(axis=1) / np.maximum(count, 1), np.nan)
