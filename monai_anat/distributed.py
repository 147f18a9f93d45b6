"""What a value is over all processes of a run; with one process, everything here is the identity."""

from __future__ import annotations

import os
import time
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = [
    "from_first_process",
    "gather_rows",
    "get_rank_and_world_size",
    "init_distributed",
    "is_main_process",
    "shutdown_distributed",
    "sum_over_processes",
]

Value = TypeVar("Value")

#: seconds; a thread that waits for one of two busy cores needs some hundredths
_REST = 0.2


def get_rank_and_world_size() -> tuple[int, int]:
    """Name this process and count all of them.

    Returns:
        The rank of this process and the number of processes; (0, 1) without ``torch.distributed``.

    >>> get_rank_and_world_size()
    (0, 1)
    """
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def sum_over_processes(value: Tensor) -> Tensor:
    """Add up a tensor over all processes, without a gradient.

    Args:
        value: of the same shape on every process.

    Returns:
        The sum, a new tensor; ``value`` itself for one process.
    """
    if get_rank_and_world_size()[1] == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def from_first_process(value: Value) -> Value:
    """Take over what the first process says.

    Args:
        value: anything that can be pickled; that of the first process counts.

    Returns:
        The first process's value, on every process.

    >>> from_first_process(3)
    3
    """
    if get_rank_and_world_size()[1] == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def gather_rows(rows: Tensor) -> Tensor:
    """Put the rows of all processes together, with an exact gradient.

    The order is that of the joint batch: row i of process r is row ``i * size + r``, as the sampler deals samples out.
    If every process computes the same loss L of the gathered rows, averaging the parameters' gradients over processes,
    as ``DistributedDataParallel`` does, gives the gradient of L with one joint batch.

    Args:
        rows: (B, ...), of the same shape on every process.

    Returns:
        (B * size, ...); ``rows`` itself for one process.
    """
    if get_rank_and_world_size()[1] == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def init_distributed() -> torch.device:
    """Join the processes that ``torchrun`` started, and name this one's device.

    Without ``torchrun`` there is one process and nothing to join. Safe to call twice.

    Returns:
        The GPU of this process's local rank where CUDA is there (NCCL), else the CPU (gloo).

    >>> init_distributed().type in ("cpu", "cuda")
    True
    """
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    return device


def shutdown_distributed() -> None:
    """Leave the group again, all at once: no process ends while another still writes; nothing for a single process."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        # gloo's threads live on where DistributedDataParallel knew the group (torch 2.13); one that lets go of its last
        # tensor while the interpreter ends takes the process down: "terminate called without an active exception"
        time.sleep(_REST)


def is_main_process() -> bool:
    """Whether this process writes the files.

    >>> is_main_process()
    True
    """
    return get_rank_and_world_size()[0] == 0


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        shares = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(shares, rows.contiguous())
        return torch.stack(shares, 1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # every process's loss moves these rows; the sum over processes and DDP's division by their number cancel
        total = gradient.clone(memory_format=torch.contiguous_format)  # collectives take no other layout
        dist.all_reduce(total)
        own: Tensor = total.unflatten(0, (-1, dist.get_world_size()))[:, dist.get_rank()]
        return own
