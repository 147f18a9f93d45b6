"""Co-segmentation probe: clusters of dense features over several patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch.nn import functional as F

from monai_anat.data.items import DatalistError
from monai_anat.evaluation.bootstrap import PatientBootstrap, nan_mean
from monai_anat.evaluation.cases import SegmentationCases, load_cases
from monai_anat.evaluation.features import unit
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.frozen_protocol import FrozenProtocol
from monai_anat.evaluation.landmark_lists import has_mask
from monai_anat.evaluation.metric import Better, Metrics
from monai_anat.evaluation.patients import Items
from monai_anat.evaluation.pictures import ReportFigure, case_captions, files_exist, small_radiograph
from monai_anat.evaluation.protocol import Measured, three_cases
from monai_anat.evaluation.results import Case, Result
from monai_anat.keys import IMAGE
from monai_anat.metrics.clustering import MOST_ASSIGNMENTS, assign_clusters, spherical_kmeans
from monai_anat.visualize.segmentations import draw_segmentations

__all__ = ["CoSegmentationProbe"]

Floats = NDArray[np.float64]


@dataclass(kw_only=True)
class CoSegmentationProbe(FrozenProtocol):
    """Spherical k-means over the dense features of all images together, without labels (after Amir et al.,
    arXiv:2112.05814, and PEAC).

    Features are centered and scaled to unit length. Similarities to the cluster centers are resized to the image
    bilinearly, and each pixel gets the most similar cluster. Masks are used for scoring only: each cluster is assigned
    to a structure or to the background so that the mean IoU over the set is highest; several clusters may share a
    structure. The assignment is chosen on the scored images, for the encoder and its baselines alike. Scores are means
    over all numbers of clusters. Baselines are k-means on row, column and intensity, and random weights.

    Args:
        clusters: numbers of clusters.
        restarts: restarts of each clustering.
        structures: name -> class numbers in the mask.

    >>> CoSegmentationProbe(clusters=(4,)).name
    'co-segmentation'
    """

    least_grid: ClassVar[int] = 4
    name: ClassVar[str] = "co-segmentation"
    kinds: ClassVar[dict[str, tuple[Better, str]]] = {
        "iou": ("higher", "IoU"),
        "adjusted_rand": ("higher", ""),
        "consistency": ("higher", "share of images"),
    }

    needs: ClassVar[str] = "mask"

    max_images: int = 32
    clusters: tuple[int, ...] = (4, 5, 6, 7, 8)
    restarts: int = 10
    structures: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {"right lung": (1,), "left lung": (2,)})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.clusters or (len(self.structures) + 1) ** max(self.clusters) > MOST_ASSIGNMENTS:
            most = int(math.log(MOST_ASSIGNMENTS, len(self.structures) + 1))
            raise ValueError(
                f"clusters must be numbers up to {most} for {len(self.structures)} structures, since every "
                f"assignment of clusters to structures is tried, got {list(self.clusters)}"
            )

    def usable(self, item: Mapping[str, Any]) -> bool:
        """Require a mask."""
        return has_mask(item)

    def measure(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Score the clusters of the encoder's features."""
        truth, notes = self._truth(encoder, items)
        tokens = encoder.feature_maps(items).astype(np.float64)  # (N, D, h, w)
        tokens = unit((tokens - encoder.mean_feature(items)[:, None, None]).transpose(0, 2, 3, 1))

        def similarities(clusters: int) -> Floats:
            flat = tokens.reshape(-1, tokens.shape[-1])
            centers = spherical_kmeans(flat, clusters, restarts=self.restarts, seed=self.seed)
            return np.asarray(tokens @ centers.T)

        values, masks = self._score(encoder, truth, similarities)
        rows = [masks[index].tolist() for index in range(len(items))]
        cases = three_cases(
            values["iou"], "higher", lambda index: {"image": str(items[index][IMAGE]), "cells": rows[index]}
        )
        extra = {"structure_names": ["background", *self.structures]}
        return Measured(self.means(bootstrap, values), cases, extra, notes)

    def baselines(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> dict[str, Metrics]:
        """Cluster row, column and intensity of the cells."""
        truth, _ = self._truth(encoder, items)
        images = load_cases(items, encoder.image_size).images
        gray = F.adaptive_avg_pool2d(images, encoder.grid)[:, 0].double().numpy()  # (N, h, w)
        rows, columns = np.meshgrid(*(np.linspace(-1, 1, count) for count in encoder.grid), indexing="ij")
        cells = np.stack([np.broadcast_to(rows, gray.shape), np.broadcast_to(columns, gray.shape), gray], axis=-1)
        cells = (cells - cells.mean(axis=(0, 1, 2))) / np.maximum(cells.std(axis=(0, 1, 2)), 1e-6)

        def similarities(clusters: int) -> Floats:
            model = KMeans(clusters, n_init=self.restarts, random_state=self.seed).fit(cells.reshape(-1, 3))
            return np.asarray(-((cells[..., None, :] - model.cluster_centers_) ** 2).sum(axis=-1))

        return {"position and intensity": self.means(bootstrap, self._score(encoder, truth, similarities)[0])}

    @classmethod
    def draw_cases(cls, result: Result, lead: str) -> list[ReportFigure]:
        """Draw the structures to which the clusters of each image were assigned."""
        drawn = {place: case for place, case in result.cases.items() if files_exist(case, "image") and "cells" in case}
        if not drawn:
            return []
        captions = [case_captions(result)[place] for place in drawn]
        figure = _draw(list(drawn.values()), captions, result.extra["structure_names"])
        return [ReportFigure(figure, f"{lead}best, median and worst case")]

    def _truth(self, encoder: FrozenEncoder, items: Items) -> tuple[NDArray[np.int64], list[str]]:
        """Read the number of the structure at each pixel, 0 for none, (N, S, S)."""
        cases: SegmentationCases = load_cases(items, encoder.image_size)
        labels = cases.labels.numpy()
        truth = np.zeros(labels.shape, dtype=np.int64)
        notes = []
        for number, (name, classes) in enumerate(self.structures.items(), start=1):
            truth[np.isin(labels, classes)] = number
            absent = [cases.names[index] for index in np.flatnonzero(~(truth == number).any(axis=(1, 2)))]
            if len(absent) == len(items):
                raise DatalistError(
                    f"at least one mask must show {name!r} (class {classes}), got none in {len(items)}; look at the "
                    "masks' class numbers and at structures"
                )
            if absent:
                notes.append(f"{name}: {len(absent)} masks do not show it and are left out ({', '.join(absent[:3])}).")
        return truth, notes

    def _score(
        self, encoder: FrozenEncoder, truth: NDArray[np.int64], similarities: Callable[[int], Floats]
    ) -> tuple[dict[str, Floats], NDArray[np.int64]]:
        """Score each image, averaged over the numbers of clusters.

        Returns:
            The scores, and the structure of each cell for the last number of clusters.
        """
        count = len(self.structures) + 1
        found: dict[str, list[Floats]] = {}
        for clusters in self.clusters:
            similarity = similarities(clusters)  # (N, h, w, k)
            label = _at_pixels(similarity, encoder)
            overlap = np.stack([_counts(label[i], truth[i], clusters, count) for i in range(len(truth))])  # (N, k, s)
            structure = assign_clusters(overlap.sum(axis=0))
            mask = structure[label]
            for number, name in enumerate(self.structures, start=1):
                found.setdefault(f"iou/{name}", []).append(_iou(mask == number, truth == number))
                best = _cluster_iou(overlap)[:, :, number].argmax(axis=1)
                usual = np.bincount(best, minlength=clusters).argmax()
                absent = ~(truth == number).any(axis=(1, 2))
                found.setdefault(f"consistency/{name}", []).append(np.where(absent, np.nan, best == usual))
            rand = [adjusted_rand_score(a.ravel(), b.ravel()) for a, b in zip(truth, label, strict=True)]
            found.setdefault("adjusted_rand", []).append(np.array(rand))
            cells = structure[similarity.argmax(axis=3)]
        values = {name: np.mean(parts, axis=0) for name, parts in found.items()}
        for kind in ("iou", "consistency"):
            parts = np.stack([value for name, value in values.items() if name.startswith(f"{kind}/")])
            values[kind] = nan_mean(parts, axis=0)
        return values, cells


def _draw(cases: Sequence[Case], captions: Sequence[str], names: Sequence[str]) -> Figure:
    images = [small_radiograph(case["image"])[0] for case in cases]
    masks = [
        np.asarray(
            Image.fromarray(np.asarray(case["cells"], dtype=np.uint8)).resize(
                image.shape[::-1], Image.Resampling.NEAREST
            )
        )
        for case, image in zip(cases, images, strict=True)
    ]
    return draw_segmentations(images, masks, class_names=names, captions=captions)


def _at_pixels(similarity: Floats, encoder: FrozenEncoder) -> NDArray[np.int64]:
    """Cluster of each pixel, (N, h, w, k) -> (N, S, S)."""
    size = encoder.image_size
    labels = []
    for one in similarity:
        maps = torch.as_tensor(one).movedim(-1, 0)[None]
        large = F.interpolate(maps, size=encoder.extent, mode="bilinear", align_corners=False)[0, :, :size, :size]
        labels.append(large.argmax(dim=0).numpy())
    return np.stack(labels)


def _counts(label: NDArray[np.int64], truth: NDArray[np.int64], clusters: int, structures: int) -> Floats:
    pairs = np.bincount((label * structures + truth).ravel(), minlength=clusters * structures)
    return pairs.reshape(clusters, structures).astype(float)


def _cluster_iou(overlap: Floats) -> Floats:
    """IoU of every cluster with every structure, (N, k, s)."""
    union = overlap.sum(axis=2, keepdims=True) + overlap.sum(axis=1, keepdims=True) - overlap
    ious: Floats = overlap / np.maximum(union, 1)
    return ious


def _iou(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Floats:
    """IoU of each image, NaN if the ground truth is empty."""
    common, union = (mask & truth).sum(axis=(1, 2)), (mask | truth).sum(axis=(1, 2))
    return np.where(truth.any(axis=(1, 2)), common / np.maximum(union, 1), np.nan)
