"""Landmark correspondence between patients, by dense features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from monai_anat.data.items import DatalistError
from monai_anat.evaluation.bootstrap import Kind, PatientBootstrap, nan_mean
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.frozen_protocol import FrozenProtocol
from monai_anat.evaluation.landmark_lists import (
    THORAX_WIDTH,
    LandmarkSet,
    from_image,
    has_landmarks,
    load_landmarks,
    to_image,
)
from monai_anat.evaluation.metric import Better, Metrics
from monai_anat.evaluation.patients import Items
from monai_anat.evaluation.pictures import ReportFigure, case_captions, files_exist, point_array, small_radiograph
from monai_anat.evaluation.protocol import Measured, three_cases
from monai_anat.evaluation.results import Case, Result
from monai_anat.keys import IMAGE
from monai_anat.metrics.landmarks import mutual_landmarks, read_features, search_landmarks
from monai_anat.visualize.correspondences import draw_correspondence

__all__ = ["LandmarkProbe"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

SAME_POSITION = "same position"


@dataclass(kw_only=True)
class LandmarkProbe(FrozenProtocol):
    """Nearest-neighbor correspondence of landmarks between patients, with frozen dense features.

    The feature at each landmark of a source image is compared by cosine with every cell of the images of all other
    patients (Adam, arXiv:2309.15358; Amir et al., arXiv:2112.05814). Distances are measured in the stored image, in
    widths of its pixels, and divided by the thorax width of the target patient (``error``) or by the image diagonal.
    Baselines are the same relative position in the image, which needs no features and is strong for aligned
    radiographs, and the same network with random weights. ``mutual`` is the fraction of landmarks that the reverse
    search finds again (best buddies), and ``error_mutual`` the error on those. Both depend on each other and on chance
    (:func:`~monai_anat.metrics.mutual_landmarks`), so neither has a better direction.

    Args:
        max_sources: largest number of source images, a random subset if there are more. Their maps are in memory.
        radii: radii of PCK, the fraction of landmarks found within that many thorax widths.
        center: subtract the mean feature of all images first. A component that all images share would make all cosines
            similar.
        temperature: temperature of the refinement between cells; 0 takes cell centers.

    >>> LandmarkProbe(radii=(0.1,)).name
    'landmarks'
    """

    least_grid: ClassVar[int] = 4
    name: ClassVar[str] = "landmarks"
    kinds: ClassVar[dict[str, tuple[Better, str]]] = {
        "error": ("lower", "thorax widths"),
        "error_median": ("lower", "thorax widths"),
        "error_diagonal": ("lower", "image diagonals"),
        "error_mm": ("lower", "mm"),
        "mutual": (None, "share"),
        "error_mutual": (None, "thorax widths"),
        "pck": ("higher", "share"),
        "left_right_confusion": ("lower", "share"),
        "retrieval": ("higher", "share"),
    }

    needs: ClassVar[str] = "landmarks or lung mask"

    max_sources: int = 50
    radii: tuple[float, ...] = (0.05, 0.1, 0.2)
    center: bool = True
    temperature: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_sources < 1:
            raise ValueError(f"max_sources must be at least 1, got {self.max_sources}")

    def usable(self, item: Mapping[str, Any]) -> bool:
        """Require landmarks, or a mask to derive them from."""
        return has_landmarks(item)

    def measure(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Search the landmarks of the sources in every image of another patient."""
        landmarks = load_landmarks(items)
        sources = self._sources(landmarks)
        found, best, mutual = self._search(encoder, items, landmarks, sources)
        metrics, errors = self._score(bootstrap, landmarks, sources, found, best, mutual)
        first, second = self._pairs(bootstrap, landmarks, sources)
        pair_errors = nan_mean(errors, axis=2)[first, second]

        def describe(index: int) -> dict[str, Any]:
            source, target = sources[first[index]], second[index]
            return {
                "source": {"image": str(items[source][IMAGE]), "landmarks": _json(landmarks.points[source])},
                "target": {
                    "image": str(items[target][IMAGE]),
                    "found": _json(found[first[index], target]),
                    "landmarks": _json(landmarks.points[target]),
                },
            }

        extra = {"landmark_names": list(landmarks.names), "n_pairs": len(first)}
        notes = list(landmarks.notes)
        visible = int(_seen(landmarks).any(axis=1).sum())
        if visible > len(sources):
            notes.append(
                f"The landmarks of {len(sources)} of {visible} images are searched in all others, a random subset "
                f"(seed {self.seed}); set max_sources to use more."
            )
        unknown = int(np.isnan(landmarks.widths).sum())
        if unknown:
            notes.append(
                f"The thorax width of {unknown} of {len(items)} images is unknown: they have no {THORAX_WIDTH!r} and "
                "show no two lateral extremes. Their errors are in image diagonals only."
            )
        if bool(np.isnan(landmarks.spacings).all()):
            notes.append("No image has a known spacing, so there are no errors in mm.")
        return Measured(metrics, three_cases(pair_errors, "lower", describe), extra, notes)

    def baselines(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> dict[str, Metrics]:
        """Take the same relative position in the other image. The nearest of its landmarks counts as retrieved."""
        landmarks = load_landmarks(items)
        sources = self._sources(landmarks)
        relative = (landmarks.points + 0.5) / landmarks.shapes[:, None]
        found = relative[sources][:, None] * landmarks.shapes[None, :, None] - 0.5  # (S, N, K, 2)
        gaps = _lengths(landmarks, found[:, :, :, None] - landmarks.points[None, :, None])  # (S, N, K, K)
        best = np.where(np.isnan(gaps), np.inf, gaps).argmin(axis=3)
        return {SAME_POSITION: self._score(bootstrap, landmarks, sources, found, best)[0]}

    @classmethod
    def draw_cases(cls, result: Result, lead: str) -> list[ReportFigure]:
        """Draw source and target image with the landmarks, found and true."""
        names, captions = result.extra.get("landmark_names"), case_captions(result)
        return [
            ReportFigure(_draw(case, names), f"{lead}{captions[place]}; dots: found; rings: ground truth", 80)
            for place, case in result.cases.items()
            if "source" in case and files_exist(case["source"], "image") and files_exist(case["target"], "image")
        ]

    def _sources(self, landmarks: LandmarkSet) -> Indices:
        usable = np.flatnonzero(_seen(landmarks).any(axis=1))
        chosen = np.random.default_rng(self.seed + 1).permutation(usable)[: self.max_sources]
        return np.sort(chosen)

    def _search(
        self, encoder: FrozenEncoder, items: Items, landmarks: LandmarkSet, sources: Indices
    ) -> tuple[Floats, Indices, NDArray[np.bool_]]:
        """Search the landmarks of S sources in N images.

        Returns:
            Positions found (S, N, K, 2), the most similar of the K landmarks of the target (S, N, K), and whether the
            reverse search leads back (S, N, K).
        """
        size, extent = encoder.image_size, encoder.extent
        mean = torch.as_tensor(encoder.mean_feature(items), dtype=torch.float32)[:, None, None] * self.center
        places = torch.as_tensor(to_image(landmarks.points, landmarks.shapes[:, None], size), dtype=torch.float32)

        def maps(chosen: Iterable[int]) -> Iterator[Tensor]:
            return (torch.as_tensor(encoder.feature_maps([items[index]])[0]) - mean for index in chosen)

        everyone = range(len(items))
        features = torch.stack([read_features(one, places[i], extent) for i, one in enumerate(maps(everyone))])
        pixels = search_landmarks(features[sources], maps(everyone), extent, self.temperature)
        found = from_image(pixels.double().numpy(), landmarks.shapes[:, None], size)
        mutual = mutual_landmarks(torch.stack([*maps(sources)]), places[sources], maps(everyone), extent)
        similarity = torch.einsum(
            "skd,nld->snkl", *(F.normalize(part, dim=2) for part in (features[sources], features))
        )
        best = similarity.nan_to_num(-torch.inf).argmax(dim=3)
        return found, best.numpy(), mutual.numpy()

    def _score(
        self,
        bootstrap: PatientBootstrap,
        landmarks: LandmarkSet,
        sources: Indices,
        found: Floats,
        best: Indices,
        mutual: NDArray[np.bool_] | None = None,
    ) -> tuple[Metrics, Floats]:
        """Compute the metrics, and errors in thorax widths (S, N, K)."""
        truth = landmarks.points
        offset = found - truth[None]
        distance = _lengths(landmarks, offset)
        errors = distance / landmarks.widths[None, :, None]
        diagonals = np.hypot(landmarks.shapes[:, 0] * landmarks.aspects, landmarks.shapes[:, 1])
        defined = np.isfinite(distance)
        others = _lengths(landmarks, found - truth[:, landmarks.mirror][None])
        confused = np.where(defined & np.isfinite(others), others < distance, np.nan)
        confused[:, :, landmarks.mirror == np.arange(len(landmarks.names))] = np.nan
        values: dict[str, Floats] = {
            "error": errors,
            "error_diagonal": distance / diagonals[None, :, None],
            "error_mm": np.linalg.norm(offset * landmarks.spacings[None, :, None], axis=-1),
            "left_right_confusion": confused,
            "retrieval": np.where(defined, best == np.arange(len(landmarks.names)), np.nan),
        }
        if mutual is not None:
            values["mutual"] = np.where(defined, mutual, np.nan)
            values["error_mutual"] = np.where(mutual, errors, np.nan)
        values |= {f"pck/{radius:g}": np.where(np.isfinite(errors), errors <= radius, np.nan) for radius in self.radii}
        pairs = self._pairs(bootstrap, landmarks, sources)
        place = (sources[pairs[0]], pairs[1])
        metrics = {
            name: bootstrap.pair_mean(nan_mean(value, axis=2)[pairs], *place, **self._kind(name))
            for name, value in values.items()
        }
        metrics["error_median"] = bootstrap.pair_median(
            nan_mean(errors, axis=2)[pairs], *place, **self.kind("error_median")
        )
        for index, name in enumerate(landmarks.names):
            metrics[f"error/{name}"] = bootstrap.pair_mean(errors[:, :, index][pairs], *place, **self._kind("error"))
        return metrics, errors

    def _kind(self, name: str) -> Kind:
        width = "no pair of patients has this landmark in both images and a known thorax width"
        why = {
            "error": width,
            "pck": width,
            "error_mm": "no image has a known spacing",
            "error_mutual": f"no landmark is found mutually, or {width}",
            "left_right_confusion": "no landmark has one of the other side beside it",
        }
        reason = why.get(name.split("/")[0], "no pair of patients shares a landmark")
        return Kind(**self.kind(name), why=reason)

    def _pairs(self, bootstrap: PatientBootstrap, landmarks: LandmarkSet, sources: Indices) -> tuple[Indices, Indices]:
        """Return source and target of every pair of images of different patients with a common landmark."""
        seen = _seen(landmarks)
        common = (seen[sources][:, None] & seen[None]).any(axis=2)
        other = bootstrap.patient_of[sources][:, None] != bootstrap.patient_of[None]
        first, second = np.nonzero(common & other)
        if not len(first):
            raise DatalistError(
                "datalist must hold two patients with a common landmark, got none; look at the masks or landmark names"
            )
        return first, second


def _draw(case: Case, names: Sequence[str] | None) -> Figure:
    source, target = case["source"], case["target"]
    (image, scale), (other, other_scale) = small_radiograph(source["image"]), small_radiograph(target["image"])
    return draw_correspondence(
        image,
        point_array(source["landmarks"]) * scale,
        other,
        point_array(target["found"]) * other_scale,
        point_array(target["landmarks"]) * other_scale,
        names,
    )


def _lengths(landmarks: LandmarkSet, offsets: Floats) -> Floats:
    """Lengths of offsets (S, N, ..., 2) in the N images, in pixel widths."""
    aspects = landmarks.aspects.reshape(1, -1, *[1] * (offsets.ndim - 3))
    lengths: Floats = np.hypot(offsets[..., 0] * aspects, offsets[..., 1])
    return lengths


def _seen(landmarks: LandmarkSet) -> NDArray[np.bool_]:
    """Whether each image shows each landmark, (N, K)."""
    return np.asarray(np.isfinite(landmarks.points).all(axis=2))


def _json(points: Floats) -> list[list[float] | None]:
    return [[round(float(value), 2) for value in point] if np.isfinite(point).all() else None for point in points]
