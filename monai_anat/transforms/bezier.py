"""Bezier intensity maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from monai.config import NdarrayOrTensor
from torch import Tensor

from monai_anat.transforms.array_kinds import plain_tensor, same_kind

__all__ = ["BezierDraw", "apply_bezier", "bezier_curve", "bezier_table", "require_unit_range"]

#: floats this close to n/255 or n/65535 count as intensities of a stored image
_LEVEL_TOLERANCE = 1e-6
#: resizing may leave [0, 1] by a rounding error
_RANGE_TOLERANCE = 1e-4
#: a power of two, so that the bucket of a value is exact
_BUCKETS = 16384


@dataclass(frozen=True)
class BezierDraw:
    """One draw of an intensity map: the two inner control points (x, y), and whether contrast is inverted."""

    control_points: tuple[tuple[float, float], tuple[float, float]]
    inverted: bool = False


def require_unit_range(pixels: Tensor) -> None:
    """Check that floats lie in [0, 1], since the distortions would clip them silently.

    Args:
        pixels: floating point tensor.

    Raises:
        ValueError: if a value is outside [0, 1] or NaN.

    >>> require_unit_range(torch.tensor([0.0, 1.0]))
    """
    low, high = (float(bound) for bound in torch.aminmax(pixels)) if pixels.numel() else (0.0, 0.0)
    if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
        raise ValueError(
            f"img must lie in [0, 1], got values from {low:g} to {high:g}; "
            "distort before normalizing, and scale first, e.g. by ScaleIntensityd"
        )


def bezier_curve(
    control_points: Sequence[Sequence[float]], samples: int = 500
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Sample the cubic Bezier curve from (0, 0) to (1, 1) with two control points.

    x(s) = 3 (1-s)^2 s u1 + 3 (1-s) s^2 u3 + s^3 and y(s) likewise with u2, u4. In the unit square both are monotone:
    the derivatives are quadratic forms a (1-s)^2 + 2 b s (1-s) + c s^2 with a, c >= 0 and b >= -sqrt(a c).

    Args:
        control_points: inner control points ((u1, u2), (u3, u4)).
        samples: number of points, evenly spaced in s.

    Returns:
        x and y, float64 (samples,).

    Raises:
        ValueError: if a control point is outside the unit square, where the map may not be monotone.

    >>> x, y = bezier_curve(((0.3, 0.6), (0.7, 0.2)), samples=3)
    >>> y.round(3).tolist()
    [0.0, 0.425, 1.0]
    """
    points = np.asarray(control_points, dtype=np.float64)
    if points.shape != (2, 2) or not ((points >= 0) & (points <= 1)).all():
        raise ValueError(
            f"control_points must be two points (x, y) in the unit square, got {control_points}; "
            "outside it the map is not monotone"
        )
    s = np.linspace(0.0, 1.0, samples)
    inner = np.stack([3 * (1 - s) ** 2 * s, 3 * (1 - s) * s**2])  # (2, samples)
    x, y = points.T @ inner + s**3
    return x, y


def bezier_table(control_points: Sequence[Sequence[float]], levels: int = 256, inverted: bool = False) -> Tensor:
    """Compute the map at every intensity: x(s) -> y(s), or x(s) -> y(1-s) with inverted contrast.

    Args:
        control_points: inner control points ((u1, u2), (u3, u4)) in the unit square.
        levels: number of intensities; level k stands for k / (levels - 1).
        inverted: whether to invert the contrast.

    Returns:
        float64 (levels,).

    Raises:
        ValueError: if a control point is outside the unit square.

    >>> bezier_table(((0.3, 0.6), (0.7, 0.2)), levels=5, inverted=True).numpy().round(4).tolist()
    [1.0, 0.5814, 0.425, 0.3033, 0.0]
    """
    x, y = bezier_curve(control_points)
    return torch.from_numpy(np.interp(np.arange(levels) / (levels - 1), x, y[::-1] if inverted else y))


def _segments(values: Tensor, knots: Tensor) -> Tensor:
    """Find the last knot at or below every value by bucketing, ten times as fast as bisection."""
    edges = torch.arange(_BUCKETS + 1, dtype=values.dtype, device=values.device) / _BUCKETS
    last = len(knots) - 2
    first = (torch.searchsorted(knots, edges, right=True) - 1).clamp_(0, last)
    segment = first.index_select(0, (values * _BUCKETS).to(torch.int32))
    upper = knots[1:].clone()
    upper[last] = torch.inf
    for _ in range(2):  # nearly all buckets hold at most two knots
        segment += values >= upper.index_select(0, segment)
    crowded = values >= upper.index_select(0, segment)
    if crowded.any():
        segment[crowded] = (torch.searchsorted(knots, values[crowded], right=True) - 1).clamp_(0, last)
    return segment


def _interpolate(pixels: Tensor, control_points: Sequence[Sequence[float]], inverted: bool) -> Tensor:
    """Apply the map to arbitrary values on their device."""
    x, y = bezier_curve(control_points)
    knots = torch.from_numpy(x).to(pixels.device)
    heights = torch.from_numpy(np.ascontiguousarray(y[::-1] if inverted else y)).to(pixels.device)
    values = pixels.reshape(-1).double().clamp(0.0, 1.0)
    left = _segments(values, knots)
    slopes = heights.diff() / knots.diff()
    beyond = values.sub_(knots.index_select(0, left))
    mapped = beyond.mul_(slopes.index_select(0, left)).add_(heights.index_select(0, left))
    return mapped.to(pixels.dtype).reshape(pixels.shape)


def _level_codes(pixels: Tensor) -> tuple[Tensor, int] | None:
    """Intensities as int32 codes and their number, or None if the values are not those of a stored image."""
    if pixels.dtype == torch.uint8:
        return pixels.to(torch.int32), 256
    if pixels.dtype == torch.uint16:
        return pixels.to(torch.int32), 65536
    if pixels.dtype in (torch.float32, torch.float64):
        for levels in (256, 65536):
            codes = (pixels * (levels - 1)).round_()
            if float((codes / (levels - 1) - pixels).abs_().max()) < _LEVEL_TOLERANCE:
                return codes.to(torch.int32), levels
    return None


def apply_bezier(
    img: NdarrayOrTensor, control_points: Sequence[Sequence[float]], inverted: bool = False
) -> NdarrayOrTensor:
    """Map intensities along a Bezier curve.

    This is the "non-linear transformation" of Models Genesis (arXiv:1908.06912). Stored intensities are mapped with a
    table of 256 (uint8, or floats n/255) or 65,536 entries (uint16, or floats n/65535). Other floats are interpolated
    per pixel, which gives the same numbers more slowly.

    Differs from the released code: control points outside the unit square, where the map is not monotone, raise an
    error.

    Args:
        img: (...), uint8, uint16, or floating point in [0, 1].
        control_points: inner control points of the cubic curve, ((u1, u2), (u3, u4)).
        inverted: whether to invert the contrast.

    Returns:
        The image in [0, 1], of the same kind and shape; float32 for integers, else the type of the input.

    Raises:
        TypeError: if the type is not supported.
        ValueError: if a control point is outside the unit square or a value outside [0, 1].

    >>> image = np.array([[0, 128, 255]], np.uint8)
    >>> apply_bezier(image, ((0.3, 0.6), (0.7, 0.2))).round(3)
    array([[0.   , 0.426, 1.   ]], dtype=float32)
    """
    pixels = plain_tensor(img)
    if pixels.dtype not in (torch.uint8, torch.uint16):
        if not pixels.is_floating_point():
            raise TypeError(
                f"img must be uint8, uint16 or floating point, got {pixels.dtype}; scale it to [0, 1] first"
            )
        require_unit_range(pixels)
    dtype = pixels.dtype if pixels.is_floating_point() else torch.float32
    coded = _level_codes(pixels) if pixels.numel() else None
    if coded is None:
        return same_kind(_interpolate(pixels, control_points, inverted), img)
    codes, levels = coded
    table = bezier_table(control_points, levels, inverted).to(device=pixels.device, dtype=dtype)
    return same_kind(table.index_select(0, codes.reshape(-1)).reshape(pixels.shape), img)
