"""Stateless sampling: position -> (epoch, index[, step]), seeded random transforms, and an exactly resumable loader.

This module keeps no random state. The order of samples and every random transform follow from the random seed of the
run and the number of samples consumed so far. The number of workers does not change the result.
"""

from __future__ import annotations

import copy
import os
import signal
import threading
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
    """Draw the order of the samples in one epoch.

    Args:
        seed: random seed of the run.
        epoch: number of the epoch.
        size: number of samples.

    Returns:
        Permutation of 0 to ``size - 1``.

    >>> sorted(permutation(0, 3, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.random.Generator(np.random.PCG64(mix(3, seed, epoch))).permutation(size)


class ResumableSampler(Sampler[tuple[int, ...]]):
    """Infinite sampler of (epoch, index), strided over the processes and resumable at any position.

    An epoch has ``size // batch_size`` full batches. The samples left over differ between epochs. Position ``p`` of the
    run belongs to process ``p % world_size``, so an optimizer step uses the same samples for any number of processes.

    Args:
        size: number of samples in the dataset.
        batch_size: samples per optimizer step, over all processes and micro-batches.
        seed: random seed of the run.
        shuffle: set to False to keep the dataset's order.
        with_step: yield (epoch, index, step), where step is the optimizer step that uses the sample.

    Attributes:
        consumed: number of samples consumed so far, over all processes. The next iterator starts there.

    Raises:
        ValueError: if the dataset is smaller than a batch, or the batch is not divisible by the number of processes.

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
        """Number of samples in one epoch over all processes, in full batches."""
        return self.size // self.batch_size * self.batch_size

    def local_batch_size(self) -> int:
        """Return the number of samples per optimizer step of this process.

        Raises:
            ValueError: if the batch is not divisible by the number of processes.
        """
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


class _TransformPerThread:
    """Seeded calls of one transform from several threads.

    Seeding a transform and calling it are two steps, between which another thread must not seed it again. The main
    thread uses the transform itself, every other thread uses its own copy.

    Args:
        transform: the transform. It is seeded before each call if it is ``Randomizable``.
    """

    def __init__(self, transform: Any) -> None:
        self.transform = transform
        self._lock, self._copies = threading.Lock(), threading.local()

    def __call__(self, sample: dict[str, Any], seed: int) -> Any:
        if threading.current_thread() is threading.main_thread():
            with self._lock:  # no other thread copies the transform while it changes
                return _call_seeded(self.transform, sample, seed)
        if not hasattr(self._copies, "transform"):
            with self._lock:
                self._copies.transform = copy.deepcopy(self.transform)
        return _call_seeded(self._copies.transform, sample, seed)

    def __reduce__(self) -> tuple[type[_TransformPerThread], tuple[Any]]:
        return type(self), (self.transform,)


def _call_seeded(transform: Any, sample: dict[str, Any], seed: int) -> Any:
    if isinstance(transform, Randomizable):
        transform.set_random_state(seed=seed)
    return transform(sample)


class SeededDataset(Dataset[dict[str, Any]]):
    """Dataset with random transforms that depend only on (random seed, epoch, index).

    Each sample holds its ``index``, for the report of non-finite steps, and its ``phase`` if the method has phases.
    Threads may share one dataset: every thread uses its own copy of the transform.

    Args:
        data: a MONAI datalist, or a map-style dataset of dicts, such as ``monai.data.CacheDataset`` with the
            deterministic loading chain.
        transform: transform for each item. If it is ``Randomizable`` (a views transform, ``Compose``), it is seeded
            before each item.
        seed: random seed of the run.
        phase: function from the epoch to the phase of a method with phases. The phase is written into the sample before
            the transform.
        phase_by: set to "step" to call ``phase`` with the optimizer step instead of the epoch.

    Raises:
        TypeError: if an item is not a dict.
        ValueError: if ``phase_by`` is unknown; on reading, if the phase depends on the step and the sampler does not
            yield steps.

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
            raise ValueError(
                f'phase_by must be "epoch" or "step", got {phase_by!r}; omit phase to train without phases'
            )
        self.data = data
        self.transform: Any = transform
        self._call = _TransformPerThread(transform)
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
            if self._call.transform is not self.transform:  # exchanged after construction
                self._call = _TransformPerThread(self.transform)
            sample = self._call(sample, sample_seed(self.seed, epoch, index))
        return sample | phase | {INDEX: index}

    def _counted(self, epoch: int, step: int | None = None) -> int:
        """The epoch or the step that determines the phase."""
        if self.phase_by == "epoch":
            return epoch
        if step is None:
            raise ValueError(
                'phase_by="step" needs positions (epoch, index, step), got (epoch, index); load by resumable_loader, '
                "or give ResumableSampler with_step=True"
            )
        return step


def _quiet_worker(worker_id: int) -> None:
    """Limit a worker to one thread, because the workers already run in parallel, and leave Ctrl-C to the trainer.

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
    """Make the loader that ``SSLTrainer`` resumes: an endless ``DataLoader`` over a ``ResumableSampler``.

    Args:
        dataset: the dataset. Its random transforms are seeded per sample.
        batch_size: samples per optimizer step over ALL processes and micro-batches. It does not depend on the number of
            processes.
        seed: random seed of the run.
        shuffle: set to False to keep the dataset's order.
        num_workers: number of loading processes; 0 loads in this process. It does not change the result.
        pin_memory: use page-locked batches for fast copies to a GPU. The default is True if CUDA is available.
        prefetch_factor: number of batches that each worker prepares ahead.

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
