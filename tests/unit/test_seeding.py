from __future__ import annotations

import torch

from monai_anat.seeding import mix, sample_seed, seed_step


def test_seeds_of_neighbors_differ_and_fill_their_range():
    seeds = [sample_seed(0, epoch, index) for epoch in range(20) for index in range(500)]
    assert len(set(seeds)) > 9_990  # 32 bits: about 0.01 collisions expected
    assert max(seeds) < 2**32
    high_bits = sum(seed >> 31 for seed in seeds) / len(seeds)
    assert 0.47 < high_bits < 0.53


def test_every_argument_matters():
    assert len({sample_seed(0, 0, 0), sample_seed(1, 0, 0), sample_seed(0, 1, 0), sample_seed(0, 0, 1)}) == 4
    assert mix(1, 2) != mix(2, 1) != mix(1, 2, 0)


def test_seed_is_the_same_in_every_process_and_version():
    assert sample_seed(7, 3, 11) == 4271007374
    assert mix() == 0x243F6A8885A308D3


def test_seed_step_depends_on_step_and_rank():
    def draw(step: int, rank: int) -> float:
        seed_step(0, step, rank)
        return float(torch.rand(()))

    assert draw(3, 0) == draw(3, 0)
    assert len({draw(3, 0), draw(3, 1), draw(4, 0)}) == 3
