"""Random draws shared by the transforms. Every function takes its random generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["check_prob", "draw_boxes", "draw_integers", "draw_run_length", "draw_seed", "random_generator"]

_Integers = int | Sequence[int] | npt.NDArray[np.int64]


def check_prob(**probs: float) -> None:
    """Check that every argument is a probability.

    Args:
        probs: probabilities by argument name.

    Raises:
        ValueError: if one is outside [0, 1].

    >>> check_prob(flip_prob=0.5)
    """
    for name, prob in probs.items():
        if not 0 <= prob <= 1:
            raise ValueError(f"{name} must be a probability in [0, 1], got {prob}")


def draw_integers(
    R: np.random.RandomState, low: _Integers, high: _Integers, size: tuple[int, ...] | None = None
) -> npt.NDArray[np.int64]:
    """Draw uniform integers, both ends included.

    Args:
        R: random generator.
        low: smallest values.
        high: largest values, at least ``low``.
        size: shape of the result; by default the broadcast shape of ``low`` and ``high``.

    Returns:
        Integers of that shape.

    >>> draw_integers(np.random.RandomState(0), [0, 5], [0, 5])
    array([0, 5])
    """
    return np.asarray(R.randint(np.asarray(low), np.asarray(high) + 1, size=size), dtype=np.int64)


def draw_boxes(
    R: np.random.RandomState, spatial_shape: Sequence[int], sizes: npt.NDArray[np.int64], margin: int = 0
) -> npt.NDArray[np.int64]:
    """Draw uniform positions of boxes inside an image.

    Args:
        R: random generator.
        spatial_shape: shape of the image without channels, d axes.
        sizes: (n, d), sides of the boxes in pixels.
        margin: smallest distance from every edge in pixels, reduced if the image is too small.

    Returns:
        (n, 2, d): first corner and sides of every box.

    >>> draw_boxes(np.random.RandomState(0), (8, 8), np.array([[8, 8]])).tolist()
    [[[0, 0], [8, 8]]]
    """
    spare = np.asarray(spatial_shape, dtype=np.int64) - sizes
    low = np.minimum(margin, spare // 2)
    return np.stack([draw_integers(R, low, spare - low), sizes], axis=1)  # (n, 2, d)


def draw_run_length(R: np.random.RandomState, maximum: int, prob: float) -> int:
    """Draw the length of a run in which each further element occurs with probability ``prob``.

    Args:
        R: random generator.
        maximum: largest length.
        prob: probability of each further element.

    Returns:
        A number from 0 to ``maximum``.

    >>> draw_run_length(np.random.RandomState(0), maximum=5, prob=1.0)
    5
    """
    missed = R.random_sample(maximum) >= prob
    return int(np.argmax(missed)) if missed.any() else maximum


def draw_seed(R: np.random.RandomState) -> int:
    """Draw a seed for :func:`random_generator`, since bulk noise from NumPy takes three times as long.

    Args:
        R: random generator.

    Returns:
        A number below 2^31.

    >>> draw_seed(np.random.RandomState(0))
    209652396
    """
    return int(R.randint(2**31))


def random_generator(seed: int, like: Tensor) -> torch.Generator:
    """Create a seeded torch generator on the device of a tensor.

    Args:
        seed: random seed.
        like: tensor that gives the device.

    Returns:
        The generator.

    >>> float(torch.rand((), generator=random_generator(0, torch.zeros(1)))) < 1
    True
    """
    return torch.Generator(device=like.device).manual_seed(seed)
