"""What did the tissue look like before it was distorted or moved."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["restoration_mse"]


def restoration_mse(restored: Tensor, target: Tensor) -> Tensor:
    """Compare a restored image with the clean one: the mean squared error over all pixels.

    The appearance-recovery term of POPAR (Pang et al., DART 2022) and PEAC (arXiv:2312.00335). No pixel is masked.

    Args:
        restored: (B, C, H, W[, D]) output of the restoration head, in units of the normalised image.
        target: the clean, unshuffled, normalised view, of the same shape.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes differ (they are never broadcast).

    >>> restoration_mse(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 2.0)).item()
    4.0
    """
    if restored.shape != target.shape:
        raise ValueError(
            f"restored and target must have one shape, got {tuple(restored.shape)} and {tuple(target.shape)}; "
            "check cell_size and out_channels of the restoration head"
        )
    dtype = torch.promote_types(torch.promote_types(restored.dtype, target.dtype), torch.float32)
    return F.mse_loss(restored.to(dtype), target.to(dtype))
