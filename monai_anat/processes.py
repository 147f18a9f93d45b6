"""What a value is over all processes of a run; with one process, everything here is the identity."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["from_first_process", "gather_rows", "rank_and_size", "sum_over_processes"]

Value = TypeVar("Value")


def rank_and_size() -> tuple[int, int]:
    """Name this process and count all of them.

    Returns:
        The rank of this process and the number of processes; (0, 1) without ``torch.distributed``.

    >>> rank_and_size()
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
    if rank_and_size()[1] == 1:
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
    if rank_and_size()[1] == 1:
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
    if rank_and_size()[1] == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


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
