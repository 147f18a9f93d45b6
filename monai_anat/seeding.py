"""Seeds that depend on where training is and on nothing else.

A worker, a process or a resumed run that computes the same position computes the same seed, so no random state is ever
saved.
"""

from __future__ import annotations

import torch

__all__ = ["mix", "sample_seed", "seed_step"]

_MASK = (1 << 64) - 1


def mix(*values: int) -> int:
    """Hash a tuple of integers to 64 bits (splitmix64 finalizer, chained).

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
    """Seed of one sample's random transforms, 32 bits, as ``set_random_state(seed)`` takes it.

    >>> sample_seed(0, 0, 7) == sample_seed(0, 0, 7)
    True
    """
    return mix(1, run_seed, epoch, index) >> 32


def seed_step(run_seed: int, step: int, rank: int) -> None:
    """Seed torch (every device) for one optimizer step of one process: dropout and drop-path draw from it.

    >>> seed_step(0, 5, 0); first = torch.rand(1)
    >>> seed_step(0, 5, 0); bool(torch.rand(1) == first)
    True
    """
    torch.manual_seed(mix(2, run_seed, step, rank) >> 1)
