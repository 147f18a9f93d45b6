"""Landmarks that lung masks define, and how well dense features find them again in another patient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "LUNG_LANDMARKS",
    "correspondence_error",
    "find_features",
    "lung_landmarks",
    "match_landmarks",
    "read_features",
    "thorax_width",
]

#: rows of :func:`lung_landmarks`; right and left are the patient's, so the right lung stands on the image's left
LUNG_LANDMARKS = (
    "right apex",
    "left apex",
    "right lateral extreme",
    "left lateral extreme",
    "right costophrenic corner",
    "left costophrenic corner",
)


def lung_landmarks(mask: Tensor, right: int = 1, left: int = 2) -> Tensor:
    """Six points of the lung outline that a mask defines well: apices, lateral extremes, costophrenic corners.

    A frontal radiograph the right way up, the patient's right on the image's left. An apex is the middle of the lung's
    top row, a lateral extreme the middle of its outermost column, a costophrenic corner the pixel that lies furthest
    down and outwards at 45 degrees. A landmark that the image border cuts off, and every landmark of a lung that is
    absent, is NaN.

    Args:
        mask: (H, W) class numbers.
        right: class of the right lung.
        left: class of the left lung.

    Returns:
        (6, 2) row and column in pixels, in the order of ``LUNG_LANDMARKS``; pixel centres have whole numbers.

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
    """Find one patient's landmarks in another patient's image by the nearest neighbour of dense features.

    The feature at each landmark is read bilinearly and compared with every cell of the other map by cosine similarity;
    the best cell is refined by a soft arg-max over its 3 x 3 neighbourhood. Cell centres lie at (i + .5) cell sizes.

    Args:
        feature_map: (D, h, w) features of the image in which the landmarks are known.
        landmarks: (K, 2) row and column in pixels of that image; NaN rows stay NaN.
        other_feature_map: (D, h, w) features of the image to search.
        image_size: height and width in pixels that both maps cover.
        temperature: of the soft arg-max; 0 takes the centre of the best cell.

    Returns:
        (K, 2) row and column in pixels.

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
    pixels = find_features(query, other_feature_map, image_size, temperature)
    pixels[torch.isnan(landmarks).any(dim=1)] = float("nan")
    return pixels


def read_features(feature_map: Tensor, points: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Dense features at points, bilinear between the centres of cells.

    Args:
        feature_map: (D, h, w).
        points: (K, 2) row and column in pixels; undefined points read the centre of the image.
        image_size: height and width in pixels that the map covers.

    Returns:
        (K, D)

    >>> read_features(torch.arange(4.0).reshape(1, 2, 2), torch.tensor([[1.5, 3.5]]), (8, 8))
    tensor([[0.5000]])
    """
    size = torch.tensor(image_size, dtype=torch.float32)
    where = torch.nan_to_num((points + 0.5) / size * 2 - 1)  # -1 and 1 are the outer edges of the corner pixels
    grid = where.flip(1).reshape(1, 1, -1, 2)
    sampled = F.grid_sample(feature_map.float()[None], grid, padding_mode="border", align_corners=False)
    return sampled[0, :, 0].T  # (K, D)


def find_features(query: Tensor, feature_map: Tensor, image_size: tuple[int, int], temperature: float = 0.05) -> Tensor:
    """Where in an image the most similar feature stands, by cosine, for each of several queries.

    The second half of :func:`match_landmarks`, for queries from many images at once.

    Args:
        query: (K, D).
        feature_map: (D, h, w) of the image to search.
        image_size: height and width in pixels that the map covers.
        temperature: of the soft arg-max over the 3 x 3 neighbourhood of the best cell; 0 takes its centre.

    Returns:
        (K, 2) row and column in pixels.

    >>> find_features(torch.eye(16)[[6]], torch.eye(16).reshape(16, 4, 4), (16, 16), temperature=0.0)
    tensor([[5.5000, 9.5000]])
    """
    height, width = feature_map.shape[1:]
    cell = torch.tensor([image_size[0] / height, image_size[1] / width])
    similarity = torch.einsum("kd,dhw->khw", F.normalize(query, dim=1), F.normalize(feature_map.float(), dim=0))
    best = similarity.flatten(1).argmax(dim=1)
    found = torch.stack([best // width, best % width], dim=1).float()
    if temperature > 0:
        found = _refine(similarity, found, temperature)
    return (found + 0.5) * cell - 0.5


def correspondence_error(found: Tensor, truth: Tensor, scale: float = 1.0) -> Tensor:
    """Distance between found and true landmarks as a fraction of ``scale``; NaN where either is undefined.

    With one patient's own coordinates as ``found`` this is the same-position baseline, which is strong on aligned
    radiographs.

    Args:
        found: (..., K, 2) row and column in pixels.
        truth: (..., K, 2) row and column in pixels.
        scale: what 1.0 means, in pixels: the image side, or the thorax width.

    Raises:
        ValueError: if the scale is not positive.

    >>> correspondence_error(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2), scale=10.0)
    tensor([0.5000])
    """
    if not scale > 0:
        raise ValueError(f"scale must be a positive length in pixels, got {scale}; the image side always serves")
    distance: Tensor = torch.linalg.vector_norm(found - truth, dim=-1)
    return distance / scale


def thorax_width(landmarks: Tensor) -> float:
    """Pixels from the right to the left lateral extreme of :func:`lung_landmarks`; NaN where one is missing.

    >>> thorax_width(torch.tensor([[0.0, 0], [0, 0], [40, 10], [45, 90], [0, 0], [0, 0]]))
    80.0
    """
    return float((landmarks[3, 1] - landmarks[2, 1]).abs())


def _refine(similarity: Tensor, found: Tensor, temperature: float) -> Tensor:
    """Soft arg-max in the 3 x 3 neighbourhood of each best cell: (K, h, w), (K, 2) -> (K, 2) in cells."""
    offsets = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))  # (9, 2)
    around = found.long()[:, None] + offsets  # (K, 9, 2)
    limit = torch.tensor(similarity.shape[1:])
    inside = ((around >= 0) & (around < limit)).all(dim=2)
    clamped = around.clamp(min=0).minimum(limit - 1)
    rows = torch.arange(len(found))[:, None]
    scores = similarity[rows, clamped[..., 0], clamped[..., 1]].masked_fill(~inside, -torch.inf)
    weights = torch.softmax(scores / temperature, dim=1)
    return (weights[..., None] * around).sum(dim=1)
