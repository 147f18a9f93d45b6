"""Which number format the machine is fast in."""

from __future__ import annotations

import torch

__all__ = ["autocast_dtype", "fast_bf16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


def fast_bf16(device: torch.device) -> bool:
    """Whether the device has hardware for products in bfloat16: AMX or AVX512-BF16 on a CPU, Ampere or newer on CUDA.

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
    """The dtype for ``torch.autocast``, or None for float32.

    Args:
        precision: "auto" (bf16 where the hardware has it, else fp32), "bf16", "fp16" or "fp32".
        device: where the network runs.

    Raises:
        ValueError: for another word.

    >>> autocast_dtype("bf16", torch.device("cpu"))
    torch.bfloat16
    """
    if precision == "auto":
        return torch.bfloat16 if fast_bf16(device) else None
    if precision not in _DTYPES:
        raise ValueError(f"precision must be 'auto' or one of {sorted(_DTYPES)}, got {precision!r}")
    return _DTYPES[precision]
