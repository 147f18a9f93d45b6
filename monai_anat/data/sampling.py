"""The stateless order of samples: position -> (epoch, index[, step]), and a loader that resumes exactly.

Nothing here keeps a random state. The trainer says how many samples it has consumed; everything else follows from the
run's seed. Workers, persistent or not, hold nothing, and their number changes nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from monai.transforms import Randomizable
from torch.utils.data import DataLoader, Dataset, Sampler

from monai_anat.distributed import get_rank_and_world_size
from monai_anat.keys import INDEX, PHASE
from monai_anat.seeding import mix, sample_seed

__all__ = ["ResumableSampler", "SeededDataset", "permutation", "resumable_loader"]


def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of ``size`` samples in one epoch.

    >>> sorted(permutation(0, 3, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.random.Generator(np.random.PCG64(mix(3, seed, epoch))).permutation(size)


class ResumableSampler(Sampler[tuple[int, ...]]):
    """Infinite map from position to (epoch, index), strided over the processes.

    An epoch has ``size // batch_size`` whole batches; which samples are left over differs from epoch to epoch.
    Position ``p`` of the run belongs to process ``p % world_size``, so the samples of one optimizer step are the same
    ones however many processes share it.

    Args:
        size: number of samples in the dataset.
        batch_size: samples per optimizer step, over all processes and micro-batches.
        seed: the run's seed.
        shuffle: False keeps the dataset's order.
        with_step: hand out (epoch, index, step), with the optimizer step that the sample is for.

    Attributes:
        consumed: samples that the trainer has consumed, over all processes; the next iterator starts there.

    Raises:
        ValueError: if the dataset is smaller than a batch, or the processes do not divide the batch.

    >>> sampler = ResumableSampler(5, batch_size=2, seed=0, shuffle=False)
    >>> stream = iter(sampler)
    >>> [next(stream) for _ in range(5)]
    [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    """

    def __init__(
        self, size: int, batch_size: int, seed: int = 0, shuffle: bool = True, *, with_step: bool = False
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if size < batch_size:
            raise ValueError(
                f"batch_size must not exceed the number of images, got batch_size={batch_size} and {size} images; "
                f"use batch_size={max(1, size)} or more images"
            )
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.with_step = with_step
        self.consumed = 0

    @property
    def samples_per_epoch(self) -> int:
        """Samples of one epoch over all processes: whole batches only."""
        return self.size // self.batch_size * self.batch_size

    def local_batch_size(self) -> int:
        """Samples per optimizer step of this process."""
        _, world = get_rank_and_world_size()
        if self.batch_size % world:
            raise ValueError(
                f"batch_size is the batch of all processes together and must be a multiple of their number, "
                f"got batch_size={self.batch_size} and {world} processes; "
                f"nearest is {self.batch_size // world * world or world}"
            )
        return self.batch_size // world

    def __len__(self) -> int:
        return self.samples_per_epoch // self.batch_size * self.local_batch_size()

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        rank, world = get_rank_and_world_size()
        self.local_batch_size()
        position, order, order_epoch = self.consumed + rank, np.arange(self.size), -1
        while True:
            epoch, within = divmod(position, self.samples_per_epoch)
            if self.shuffle and epoch != order_epoch:
                order, order_epoch = permutation(self.seed, epoch, self.size), epoch
            index = int(order[within])
            yield (epoch, index, position // self.batch_size) if self.with_step else (epoch, index)
            position += world


class SeededDataset(Dataset[dict[str, Any]]):
    """A dataset whose random transforms depend on (run seed, epoch, index) alone.

    Args:
        data: a MONAI datalist, or any map-style dataset of dicts (``monai.data.CacheDataset`` with the deterministic
            loading chain, say).
        transform: applied to each item; if it is ``Randomizable`` (a views transform, or ``Compose``) it is seeded
            first.
        seed: the run's seed.
        phase: maps the epoch to the phase of a phased method, which is written into the sample before the transform.
        phase_by: "step" hands ``phase`` the optimizer step that the sample is for, and not the epoch.

    The sample carries its ``index`` (for the report of a non-finite step), and its ``phase`` if there is one.

    Raises:
        TypeError: if an item is no dict.
        ValueError: for another ``phase_by``, or (when asked for an item) if the phase goes by steps and the sampler
            does not name them.

    >>> dataset = SeededDataset([{"image": 1.0}, {"image": 2.0}])
    >>> dataset[0, 1]["index"]
    1
    """

    def __init__(
        self,
        data: Sequence[Any] | Dataset[Any],
        transform: Callable[[dict[str, Any]], Any] | None = None,
        seed: int = 0,
        phase: Callable[[int], int] | None = None,
        phase_by: Literal["epoch", "step"] = "epoch",
    ) -> None:
        if phase_by not in ("epoch", "step"):
            raise ValueError(f'phase_by must be "epoch" or "step", got {phase_by!r}; leave phase away for no phases')
        self.data = data
        self.transform: Any = transform
        self.seed = seed
        self.phase = phase
        self.phase_by = phase_by

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, position: tuple[int, ...] | int) -> dict[str, Any]:
        epoch, index, *step = (0, position) if isinstance(position, int) else position
        item: Any = self.data[index]
        if not isinstance(item, Mapping):
            raise TypeError(f"data must hold dicts, got {type(item).__name__} at index {index}; use a MONAI datalist")
        sample = dict(item)
        phase: dict[str, Any] = {} if self.phase is None else {PHASE: self.phase(self._counted(epoch, *step))}
        sample.update(phase)
        if self.transform is not None:
            if isinstance(self.transform, Randomizable):
                self.transform.set_random_state(seed=sample_seed(self.seed, epoch, index))
            sample = self.transform(sample)
        return sample | phase | {INDEX: index}

    def _counted(self, epoch: int, step: int | None = None) -> int:
        """What the phase goes by."""
        if self.phase_by == "epoch":
            return epoch
        if step is None:
            raise ValueError(
                'phase_by="step" needs positions (epoch, index, step), got (epoch, index); load by resumable_loader, '
                "or give ResumableSampler with_step=True"
            )
        return step


def _quiet_worker(worker_id: int) -> None:
    """Use one thread, since the workers are the parallelism, and leave Ctrl-C to the trainer.

    A terminal sends Ctrl-C to all processes of its group, but the trainer needs its workers to finish the step.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


def resumable_loader(
    dataset: SeededDataset,
    *,
    batch_size: int,
    seed: int = 0,
    shuffle: bool = True,
    num_workers: int = 0,
    pin_memory: bool | None = None,
    prefetch_factor: int | None = None,
) -> DataLoader[dict[str, Any]]:
    """The loader that ``SSLTrainer`` resumes: a ``DataLoader`` over a ``ResumableSampler`` that never ends.

    Args:
        dataset: what to load; its random transforms are seeded per sample.
        batch_size: samples per optimizer step over ALL processes and micro-batches; held when the number of processes
            changes.
        seed: the run's seed.
        shuffle: False keeps the dataset's order.
        num_workers: loading processes; 0 loads in this one. The number changes nothing in the result.
        pin_memory: page-locked batches for fast copies to a GPU; the default is True where CUDA is there.
        prefetch_factor: batches that each worker prepares ahead.

    >>> loader = resumable_loader(SeededDataset([{"image": float(i)} for i in range(4)]), batch_size=2)
    >>> len(loader)
    2
    """
    by_step = dataset.phase is not None and dataset.phase_by == "step"
    sampler = ResumableSampler(len(dataset), batch_size, seed=seed, shuffle=shuffle, with_step=by_step)
    return DataLoader(
        dataset,
        batch_size=sampler.local_batch_size(),
        sampler=sampler,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
        prefetch_factor=prefetch_factor,
        persistent_workers=num_workers > 0,
        worker_init_fn=_quiet_worker,
        drop_last=True,
    )
