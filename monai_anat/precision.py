"""Losses and statistics in single precision at least, also inside autocast."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

__all__ = ["at_least_float32", "same_precision"]


def at_least_float32(x: Tensor) -> Tensor:
    """Bring half precision to float32; float32 and float64 stay as they are.

    Args:
        x: any tensor of numbers.

    >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype, at_least_float32(torch.zeros(1).double()).dtype
    (torch.float32, torch.float64)
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def same_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Bring tensors to one type, the widest of theirs and float32 at least.

    Args:
        tensors: any tensors of numbers.

    Returns:
        As many tensors, in their order.

    >>> [x.dtype for x in same_precision(torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1))]
    [torch.float32, torch.float32]
    """
    wide = reduce(torch.promote_types, (x.dtype for x in tensors), torch.float32)
    return tuple(x.to(wide) for x in tensors)
