"""Lung landmarks from masks, and landmark matching by dense features."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "LUNG_LANDMARKS",
    "correspondence_error",
    "lung_landmarks",
    "match_landmarks",
    "mutual_landmarks",
    "read_features",
    "search_landmarks",
    "thorax_width",
]

#: rows of :func:`lung_landmarks`; right and left are those of the patient, whose right lung is on the image's left
LUNG_LANDMARKS = (
    "right apex",
    "left apex",
    "right lateral extreme",
    "left lateral extreme",
    "right costophrenic corner",
    "left costophrenic corner",
)


def lung_landmarks(mask: Tensor, right: int = 1, left: int = 2) -> Tensor:
    """Compute six landmarks of the lung outline: apices, lateral extremes and costophrenic corners.

    The mask must be that of an upright frontal radiograph, with the patient's right on the image's left. An apex is the
    middle of the top row of a lung, a lateral extreme the middle of its outermost column, and a costophrenic corner the
    pixel furthest down and outward at 45 degrees. Landmarks at the image border and landmarks of an absent lung are
    NaN.

    Args:
        mask: (H, W), class numbers.
        right: class number of the right lung.
        left: class number of the left lung.

    Returns:
        (6, 2), row and column in pixels, in the order of ``LUNG_LANDMARKS``. Pixel centers have integer coordinates.

    Raises:
        ValueError: if the mask is not (H, W).

    >>> mask = torch.zeros(10, 12, dtype=torch.long)
    >>> mask[2:8, 1:5] = 1
    >>> lung_landmarks(mask)[[0, 2, 4]]
    tensor([[2.0000, 2.5000],
            [4.5000, 1.0000],
            [7.0000, 1.0000]])
    """
    if mask.ndim != 2:
        raise ValueError(
            f"mask must be (H, W) class numbers, got shape {tuple(mask.shape)}; drop the channel dimension"
        )
    points = torch.full((len(LUNG_LANDMARKS), 2), float("nan"))
    for side, number in enumerate((right, left)):
        rows, columns = torch.nonzero(mask == number, as_tuple=True)
        if rows.numel() == 0:
            continue
        outward = -columns if side == 0 else columns
        for kind, score in enumerate((-rows, outward, rows + outward)):
            best = score == score.max()
            points[2 * kind + side, 0] = rows[best].float().mean()
            points[2 * kind + side, 1] = columns[best].float().mean()
    last = torch.tensor([mask.shape[0] - 1, mask.shape[1] - 1])
    points[((points < 1) | (points > last - 1)).any(dim=1)] = float("nan")
    return points


def match_landmarks(
    feature_map: Tensor,
    landmarks: Tensor,
    other_feature_map: Tensor,
    image_size: tuple[int, int],
    temperature: float = 0.05,
) -> Tensor:
    """Find the landmarks of one image in another image by the nearest neighbor of dense features.

    The feature at each landmark is interpolated bilinearly and compared with every cell of the other map by cosine
    similarity. A soft arg-max over the 3 x 3 neighborhood refines the best cell. Cell centers lie at (i + 0.5) cell
    sizes.

    Args:
        feature_map: (D, h, w), features of the image with known landmarks.
        landmarks: (K, 2), row and column in pixels of that image; NaN rows stay NaN.
        other_feature_map: (D, h, w), features of the image to search.
        image_size: height and width in pixels that both maps cover.
        temperature: temperature of the soft arg-max; 0 returns the center of the best cell.

    Returns:
        (K, 2), row and column in pixels.

    Raises:
        ValueError: if the two maps differ in shape.

    >>> feature_map = torch.eye(16).reshape(16, 4, 4)
    >>> match_landmarks(feature_map, torch.tensor([[5.5, 9.5]]), feature_map, (16, 16), temperature=0.0)
    tensor([[5.5000, 9.5000]])
    """
    if feature_map.shape != other_feature_map.shape or feature_map.ndim != 3:
        raise ValueError(
            "feature_map and other_feature_map must both be (D, h, w) from the same encoder and image size, "
            f"got {tuple(feature_map.shape)} and {tuple(other_feature_map.shape)}"
        )
    query = read_features(feature_map, landmarks, image_size)
    return search_landmarks(query[None], [other_feature_map], image_size, temperature)[0, 0]


def read_features(feature_map: Tensor, points: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Interpolate dense features bilinearly at points.

    Args:
        feature_map: features (D, h, w).
        points: (K, 2), row and column in pixels.
        image_size: height and width in pixels that the map covers.

    Returns:
        (K, D), NaN for NaN points.

    >>> read_features(torch.arange(4.0).reshape(1, 2, 2), torch.tensor([[1.5, 3.5]]), (8, 8))
    tensor([[0.5000]])
    """
    size = torch.tensor(image_size, dtype=torch.float32)
    where = torch.nan_to_num((points + 0.5) / size * 2 - 1)  # -1 and 1 are the outer edges of the corner pixels
    grid = where.flip(1).reshape(1, 1, -1, 2)
    sampled = F.grid_sample(feature_map.float()[None], grid, padding_mode="border", align_corners=False)
    features = sampled[0, :, 0].T  # (K, D)
    return features.masked_fill(torch.isnan(points).any(dim=1, keepdim=True), float("nan"))


def search_landmarks(
    queries: Tensor, feature_maps: Iterable[Tensor], image_size: tuple[int, int], temperature: float = 0.05
) -> Tensor:
    """Find the landmarks of S images in each of N other images: :func:`match_landmarks` for all pairs.

    Args:
        queries: (S, K, D), features at the landmarks of S images (:func:`read_features`); NaN rows stay NaN.
        feature_maps: N maps (D, h, w) of the images to search; only one is in memory at a time.
        image_size: height and width in pixels that a map covers.
        temperature: temperature of the soft arg-max; 0 returns the center of the best cell.

    Returns:
        (S, N, K, 2), row and column in pixels.

    >>> feature_map = torch.eye(16).reshape(16, 4, 4)
    >>> search_landmarks(torch.eye(16)[6].reshape(1, 1, 16), [feature_map], (16, 16), temperature=0.0)
    tensor([[[[5.5000, 9.5000]]]])
    """
    found = []
    for feature_map in feature_maps:
        height, width = feature_map.shape[1:]
        cell = torch.tensor([image_size[0] / height, image_size[1] / width])
        similarity = _similarity(queries, feature_map)  # (S, K, h, w)
        cells = _best_cells(similarity)
        if temperature > 0:
            cells = _refine(similarity.flatten(0, 1), cells.flatten(0, 1), temperature).reshape(cells.shape)
        found.append((cells + 0.5) * cell - 0.5)
    undefined = torch.isnan(queries).any(dim=2)[:, None, :, None]
    return torch.stack(found, dim=1).masked_fill(undefined, float("nan"))


def mutual_landmarks(
    source_maps: Tensor, landmarks: Tensor, feature_maps: Iterable[Tensor], image_size: tuple[int, int]
) -> Tensor:
    """Find landmarks whose match is mutual ("best buddies", Amir et al., arXiv:2112.05814).

    The cell of the other image that is most similar to a landmark is searched for in the first image. The match is
    mutual if the cell found there is one of the four around the landmark. Uninformative features keep up to half of the
    landmarks by chance, because the largest entry of a row is that often the largest of its column.

    Args:
        source_maps: (S, D, h, w), features of the images with known landmarks.
        landmarks: (S, K, 2), row and column in pixels.
        feature_maps: N maps (D, h, w) of the other images; only one is in memory at a time.
        image_size: height and width in pixels that a map covers.

    Returns:
        (S, N, K) bool; False for undefined landmarks.

    >>> feature_map = torch.eye(16).reshape(16, 4, 4)
    >>> mutual_landmarks(feature_map[None], torch.tensor([[[5.5, 9.5]]]), [feature_map], (16, 16))
    tensor([[[True]]])
    """
    height, width = source_maps.shape[2:]
    cell = torch.tensor([image_size[0] / height, image_size[1] / width])
    place = (landmarks + 0.5) / cell - 0.5  # in cells, (S, K, 2)
    queries = torch.stack(
        [read_features(one, points, image_size) for one, points in zip(source_maps, landmarks, strict=True)]
    )
    sources = F.normalize(source_maps.float(), dim=1)
    kept = []
    for feature_map in feature_maps:
        row, column = _best_cells(_similarity(queries, feature_map)).long().unbind(dim=2)
        there = F.normalize(feature_map[:, row, column].float(), dim=0)  # (D, S, K)
        back = _best_cells(torch.einsum("dsk,sdhw->skhw", there, sources))
        kept.append(((back - place).abs() < 1).all(dim=2))
    return torch.stack(kept, dim=1)


def correspondence_error(found: Tensor, truth: Tensor, scale: float = 1.0) -> Tensor:
    """Compute the distance between found and true landmarks in units of ``scale``; NaN if either is NaN.

    If ``found`` holds the coordinates of the landmarks in the first image, this is the same-position baseline, which is
    strong on aligned radiographs.

    Args:
        found: (..., K, 2), row and column in pixels.
        truth: (..., K, 2), row and column in pixels.
        scale: unit of the result in pixels, such as the thorax width or the image side.

    Raises:
        ValueError: if the scale is not positive.

    >>> correspondence_error(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2), scale=10.0)
    tensor([0.5000])
    """
    if not scale > 0:
        raise ValueError(
            f"scale must be a positive length in pixels, got {scale}; use the thorax width or the image side"
        )
    distance: Tensor = torch.linalg.vector_norm(found - truth, dim=-1)
    return distance / scale


def thorax_width(landmarks: Tensor) -> float:
    """Compute the distance in pixels between the lateral extremes of :func:`lung_landmarks`; NaN if one is missing.

    >>> thorax_width(torch.tensor([[0.0, 0], [0, 0], [40, 10], [45, 90], [0, 0], [0, 0]]))
    80.0
    """
    return float((landmarks[3, 1] - landmarks[2, 1]).abs())


def _similarity(queries: Tensor, feature_map: Tensor) -> Tensor:
    """Cosine similarity (S, K, h, w) of features (S, K, D) with every cell of a map (D, h, w)."""
    return torch.einsum("skd,dhw->skhw", F.normalize(queries, dim=2), F.normalize(feature_map.float(), dim=0))


def _best_cells(similarity: Tensor) -> Tensor:
    """Row and column (S, K, 2) of the largest value of each map (h, w)."""
    best = similarity.flatten(2).argmax(dim=2)
    width = similarity.shape[3]
    return torch.stack([best // width, best % width], dim=2).float()


def _refine(similarity: Tensor, found: Tensor, temperature: float) -> Tensor:
    """Soft arg-max over the 3 x 3 neighborhood of each best cell: (K, h, w), (K, 2) -> (K, 2) in cells."""
    offsets = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))  # (9, 2)
    around = found.long()[:, None] + offsets  # (K, 9, 2)
    limit = torch.tensor(similarity.shape[1:])
    inside = ((around >= 0) & (around < limit)).all(dim=2)
    clamped = around.clamp(min=0).minimum(limit - 1)
    rows = torch.arange(len(found))[:, None]
    scores = similarity[rows, clamped[..., 0], clamped[..., 1]].masked_fill(~inside, -torch.inf)
    weights = torch.softmax(scores / temperature, dim=1)
    return (weights[..., None] * around).sum(dim=1)
