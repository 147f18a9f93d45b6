"""Precision of losses and statistics, and the dtype of autocast."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

__all__ = ["at_least_float32", "autocast_dtype", "fast_bf16", "same_precision"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32; float32 and float64 stay as they are.

    Args:
        x: tensor of any dtype.

    Returns:
        The tensor in float32 or float64, also inside autocast.

    >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype, at_least_float32(torch.zeros(1).double()).dtype
    (torch.float32, torch.float64)
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def same_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Convert tensors to their widest dtype, at least float32.

    Args:
        tensors: tensors of any dtypes.

    Returns:
        The converted tensors, in the given order.

    >>> [x.dtype for x in same_precision(torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1))]
    [torch.float32, torch.float32]
    """
    wide = reduce(torch.promote_types, (x.dtype for x in tensors), torch.float32)
    return tuple(x.to(wide) for x in tensors)


def fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware: AMX or AVX512-BF16 on a CPU, Ampere or newer on CUDA.

    Args:
        device: a CPU or a GPU.

    >>> isinstance(fast_bf16(torch.device("cpu")), bool)
    True
    """
    if device.type == "cpu":
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return False


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Select the dtype for ``torch.autocast``.

    Args:
        precision: "auto" (bf16 if the hardware supports it, else fp32), "bf16", "fp16" or "fp32".
        device: device of the network.

    Returns:
        The dtype, or None for float32 without autocast.

    Raises:
        ValueError: if ``precision`` is none of these.

    >>> autocast_dtype("bf16", torch.device("cpu"))
    torch.bfloat16
    """
    if precision == "auto":
        return torch.bfloat16 if fast_bf16(device) else None
    if precision not in _DTYPES:
        raise ValueError(f"precision must be 'auto' or one of {sorted(_DTYPES)}, got {precision!r}")
    return _DTYPES[precision]
