"""Random seeds derived from the position in training.

Workers, processes and resumed runs at the same position compute the same seed, so no random state is saved.
"""

from __future__ import annotations

import torch

__all__ = ["mix", "sample_seed", "seed_step"]

_MASK = (1 << 64) - 1


def mix(*values: int) -> int:
    """Hash integers to 64 bits by chaining the finalizer of splitmix64.

    Args:
        values: integers, whose order matters.

    >>> mix(0, 1) != mix(1, 0)
    True
    """
    state = 0x243F6A8885A308D3
    for value in values:
        state = (state ^ (value & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def sample_seed(run_seed: int, epoch: int, index: int) -> int:
    """Compute the 32-bit seed for the random transforms of one sample, for ``set_random_state(seed)``.

    Args:
        run_seed: random seed of the run.
        epoch: number of the epoch.
        index: index of the sample in the dataset.

    >>> sample_seed(0, 0, 7) == sample_seed(0, 0, 7)
    True
    """
    return mix(1, run_seed, epoch, index) >> 32


def seed_step(run_seed: int, step: int, rank: int) -> None:
    """Seed torch on all devices for one optimizer step of one process. Dropout and drop path draw from it.

    Args:
        run_seed: random seed of the run.
        step: number of the optimizer step.
        rank: rank of the process.

    >>> seed_step(0, 5, 0); first = torch.rand(1)
    >>> seed_step(0, 5, 0); bool(torch.rand(1) == first)
    True
    """
    torch.manual_seed(mix(2, run_seed, step, rank) >> 1)
