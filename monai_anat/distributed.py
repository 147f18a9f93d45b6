"""Collective operations and set-up for runs of several processes; with one process, each is the identity."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = [
    "explain_lost_process",
    "from_first_process",
    "gather_rows",
    "get_rank_and_world_size",
    "init_distributed",
    "is_main_process",
    "shutdown_distributed",
    "sum_over_processes",
]

Value = TypeVar("Value")

#: seconds; a thread that waits for one of two busy cores needs some hundredths of a second
_REST = 0.2
#: seconds between two looks at the launcher
_LOOK = 1.0
#: messages of gloo and NCCL when another process is gone, and when it does not answer
_GONE = re.compile(r"connection (closed|reset|refused)|broken pipe|socket error|remote process exited", re.IGNORECASE)
_SILENT = re.compile(r"timed? ?out", re.IGNORECASE)


def get_rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes; (0, 1) without ``torch.distributed``.

    >>> get_rank_and_world_size()
    (0, 1)
    """
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def sum_over_processes(value: Tensor) -> Tensor:
    """Sum a tensor over all processes, without a gradient.

    Args:
        value: tensor, of the same shape on every process.

    Returns:
        The sum, a new tensor; ``value`` itself for one process.
    """
    if get_rank_and_world_size()[1] == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def from_first_process(value: Value) -> Value:
    """Broadcast an object from the first process.

    Args:
        value: any object that can be pickled; the one of the first process counts.

    Returns:
        The object of the first process, on every process.

    >>> from_first_process(3)
    3
    """
    if get_rank_and_world_size()[1] == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def gather_rows(rows: Tensor) -> Tensor:
    """Gather the rows of all processes, with an exact gradient.

    The order is that of the joint batch: row i of process r becomes row ``i * size + r``, as the sampler distributes
    samples. If every process computes the same loss L of the gathered rows, averaging the parameters' gradients over
    processes, as ``DistributedDataParallel`` does, gives the gradient of L with one joint batch.

    Args:
        rows: (B, ...), of the same shape on every process.

    Returns:
        (B * size, ...); ``rows`` itself for one process.
    """
    if get_rank_and_world_size()[1] == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def init_distributed(timeout_minutes: float = 30.0) -> torch.device:
    """Join the processes that ``torchrun`` started, and select the device of this one.

    Without ``torchrun`` there is one process and nothing to join. A process that ``torchrun`` started ends when
    ``torchrun`` is gone, also after ``kill -9``; otherwise it would write to the folder of the restarted run. A second
    call only returns the device.

    Args:
        timeout_minutes: time that a collective operation waits for the other processes before it raises an error.

    Returns:
        The GPU of the local rank if CUDA is available (NCCL), else the CPU (gloo).

    >>> init_distributed().type in ("cpu", "cuda")
    True
    """
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        if "TORCHELASTIC_RUN_ID" in os.environ:
            threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True, name="launcher watch").start()
        dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(minutes=timeout_minutes))
    return device


def shutdown_distributed() -> None:
    """Leave the process group together, so that no process ends while another still writes."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        # gloo's threads live on where DistributedDataParallel used the group (torch 2.13); one that releases its last
        # tensor while the interpreter ends takes the process down: "terminate called without an active exception"
        time.sleep(_REST)


def is_main_process() -> bool:
    """Whether this process writes the files.

    >>> is_main_process()
    True
    """
    return get_rank_and_world_size()[0] == 0


def explain_lost_process(error: BaseException) -> str | None:
    """Explain an error of a collective operation that was caused by another process.

    Args:
        error: error raised while training with several processes.

    Returns:
        A sentence for the user; None for any other error.

    >>> explain_lost_process(ValueError("batch_size must be at least 1")) is None
    True
    """
    rank, size = get_rank_and_world_size()
    if size == 1 or not isinstance(error, RuntimeError):
        return None
    if _SILENT.search(str(error)):
        return (
            f"process {rank} of {size} waited in vain for another process, which may be stopped or may hang; end all "
            "processes and start the same command again, which resumes from the last checkpoint"
        )
    if _GONE.search(str(error)):
        return f"process {rank} of {size} lost another process, whose own error message stands in its output"
    return None


def _end_with(launcher: int) -> None:
    """End this process when its parent is another one than the launcher: the launcher is gone."""
    while os.getppid() == launcher:
        time.sleep(_LOOK)
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        shares = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(shares, rows.contiguous())
        return torch.stack(shares, 1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # the loss of every process depends on these rows; the sum over processes and DDP's division cancel
        total = gradient.clone(memory_format=torch.contiguous_format)  # collectives take no other layout
        dist.all_reduce(total)
        own: Tensor = total.unflatten(0, (-1, dist.get_world_size()))[:, dist.get_rank()]
        return own
