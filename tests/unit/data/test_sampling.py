from __future__ import annotations

import itertools
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from monai.transforms import Compose, RandGaussianNoised, Randomizable

from monai_anat.data.sampling import ResumableSampler, SeededDataset, permutation, resumable_loader
from monai_anat.schedules import TurnPhase


def take(sampler: ResumableSampler, count: int) -> list[tuple[int, int]]:
    return list(itertools.islice(iter(sampler), count))


def test_permutation_is_one_and_differs_between_epochs_and_seeds():
    orders = [permutation(seed, epoch, 50).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_every_epoch_takes_whole_batches_without_repeats():
    stream = take(ResumableSampler(11, batch_size=4), 24)
    for epoch in range(3):
        indices = [index for e, index in stream[8 * epoch : 8 * epoch + 8] if e == epoch]
        assert len(set(indices)) == 8


@pytest.mark.parametrize("consumed", [0, 4, 8, 12, 20])
def test_resumes_at_what_the_trainer_consumed(consumed):
    sampler = ResumableSampler(11, batch_size=4, seed=3)
    straight = take(sampler, 40)
    sampler.consumed = consumed
    assert take(sampler, 40 - consumed) == straight[consumed:]


def test_processes_share_the_samples_of_each_step(monkeypatch):
    alone = take(ResumableSampler(23, batch_size=6, seed=1), 30)
    shares = []
    for rank in range(3):
        monkeypatch.setattr("monai_anat.data.sampling.get_rank_and_world_size", lambda rank=rank: (rank, 3))
        shares.append(take(ResumableSampler(23, batch_size=6, seed=1), 10))
    for step in range(5):
        together = {p for share in shares for p in share[2 * step : 2 * step + 2]}
        assert together == set(alone[6 * step : 6 * step + 6])


def test_indivisible_and_oversized_batches_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"batch_size=8 and 5 images; use batch_size=5"):
        ResumableSampler(5, batch_size=8)
    with pytest.raises(ValueError, match="at least 1"):
        ResumableSampler(5, batch_size=0)
    monkeypatch.setattr("monai_anat.data.sampling.get_rank_and_world_size", lambda: (0, 2))
    with pytest.raises(ValueError, match=r"batch_size=3 and 2 processes; nearest is 2"):
        next(iter(ResumableSampler(5, batch_size=3)))


def noisy(seed: int = 0) -> SeededDataset:
    data = [{"image": torch.zeros(1, 2, 2)} for _ in range(7)]
    return SeededDataset(data, Compose([RandGaussianNoised("image", prob=1.0)]), seed=seed)


def test_sample_depends_on_seed_epoch_and_index_alone():
    dataset = noisy()
    first = dataset[1, 2]["image"]
    dataset[0, 5]
    assert torch.equal(dataset[1, 2]["image"], first)
    assert not torch.equal(dataset[2, 2]["image"], first)
    assert not torch.equal(dataset[1, 3]["image"], first)
    assert not torch.equal(noisy(seed=1)[1, 2]["image"], first)
    assert dataset[1, 2]["index"] == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_number_of_workers_changes_nothing(workers):
    def batches(num_workers: int) -> list[dict]:
        loader = resumable_loader(noisy(), batch_size=3, seed=4, num_workers=num_workers)
        return list(itertools.islice(iter(loader), 5))

    for here, there in zip(batches(0), batches(workers), strict=True):
        assert torch.equal(here["image"], there["image"])
        assert torch.equal(here["index"], there["index"])


def test_samples_hold_their_phase():
    dataset = SeededDataset([{"image": 0.0}], transform=lambda s: {"seen": s["phase"]}, phase=lambda epoch: epoch % 3)
    assert dataset[4, 0] == {"seen": 1, "index": 0, "phase": 1}


def test_the_step_of_a_sample_is_the_one_that_trains_on_it(monkeypatch):
    plain = take(ResumableSampler(11, batch_size=4, seed=3), 30)
    stepped = take(ResumableSampler(11, batch_size=4, seed=3, with_step=True), 30)
    assert [position[:2] for position in stepped] == plain
    assert [step for _, _, step in stepped] == [position // 4 for position in range(30)]
    shares = []
    for rank in range(2):
        monkeypatch.setattr("monai_anat.data.sampling.get_rank_and_world_size", lambda rank=rank: (rank, 2))
        shares.append(take(ResumableSampler(11, batch_size=4, seed=3, with_step=True), 6))
    for share in shares:
        assert [step for _, _, step in share] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_phase_by_step_is_one_for_a_batch_and_resumes(workers):
    def phases(consumed: int, count: int) -> list[list[int]]:
        data = [{"image": torch.zeros(1, 2, 2)} for _ in range(7)]
        dataset = SeededDataset(data, phase=TurnPhase(4), phase_by="step")
        loader = resumable_loader(dataset, batch_size=3, num_workers=workers)
        loader.sampler.consumed = consumed
        return [batch["phase"].tolist() for batch in itertools.islice(iter(loader), count)]

    assert phases(0, 6) == [[0] * 3, [1] * 3, [2] * 3, [3] * 3, [0] * 3, [1] * 3]
    assert phases(9, 3) == [[3] * 3, [0] * 3, [1] * 3]


def test_phase_by_step_needs_a_step():
    dataset = SeededDataset([{"image": 0.0}], phase=TurnPhase(2), phase_by="step")
    assert dataset[0, 0, 5]["phase"] == 1
    with pytest.raises(ValueError, match=r"needs positions \(epoch, index, step\).*resumable_loader"):
        dataset[0, 0]
    with pytest.raises(ValueError, match=r'phase_by must be "epoch" or "step", got \'none\''):
        SeededDataset([{"image": 0.0}], phase=TurnPhase(2), phase_by="none")


def test_items_must_be_dicts():
    with pytest.raises(TypeError, match="data must hold dicts, got int"):
        SeededDataset([1])[0, 0]


class _Slow(Randomizable):
    """A transform in which threads meet: it draws, waits, and draws again."""

    def __call__(self, sample: dict) -> dict:
        first = self.R.random()
        time.sleep(0.001)
        return {"image": (first, self.R.random())}


def test_threads_that_share_a_dataset_get_the_same_samples():
    positions = [(epoch, index) for epoch in range(2) for index in range(10)]
    dataset = SeededDataset([{"image": 0.0}] * 10, _Slow(), seed=3)
    alone = [dataset[position] for position in positions]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(dataset.__getitem__, positions)) == alone
        # the main thread takes part
        futures = [pool.submit(dataset.__getitem__, position) for position in positions]
        assert [dataset[position] for position in positions] == alone
        assert [future.result() for future in futures] == alone
    again = pickle.loads(pickle.dumps(dataset))
    assert again[1, 4] == dataset[1, 4]


def test_a_transform_that_was_exchanged_is_used():
    dataset = SeededDataset([{"image": 1.0}], lambda sample: {"a": 1})
    assert dataset[0, 0] == {"a": 1, "index": 0}
    dataset.transform = lambda sample: {"b": 2}
    assert dataset[0, 0] == {"b": 2, "index": 0}
