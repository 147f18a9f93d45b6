"""Restoration losses for distorted, shuffled and masked images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.precision import at_least_float32, same_precision

__all__ = ["masked_cross_entropy", "masked_l1", "masked_patch_mse", "restoration_mse"]


def restoration_mse(restored: Tensor, target: Tensor) -> Tensor:
    """Compute the mean squared error between restored and clean images, over all pixels.

    This is the appearance recovery term of POPAR (Pang et al., DART 2022) and PEAC (arXiv:2312.00335). No pixel is
    masked.

    Args:
        restored: (B, C, H, W[, D]), output of the restoration head, in units of the normalized image.
        target: clean, unshuffled, normalized view of the same shape.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes differ; there is no broadcasting.

    >>> restoration_mse(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 2.0)).item()
    4.0
    """
    if restored.shape != target.shape:
        raise ValueError(
            f"restored and target must have the same shape, got {tuple(restored.shape)} and {tuple(target.shape)}; "
            "check cell_size and out_channels of the restoration head"
        )
    restored, target = same_precision(restored, target)
    return F.mse_loss(restored, target)


def masked_l1(restored: Tensor, target: Tensor, mask: Tensor, mask_count: Tensor | float | None = None) -> Tensor:
    """Compute the mean absolute difference over the pixels of hidden cells.

    SimMIM (Xie et al., CVPR 2022, arXiv:2111.09886), equation 2. Visible cells do not contribute.

    Args:
        restored: (B, N, ...), pixels of each cell, as returned by :func:`monai_anat.transforms.split_cells`.
        target: clean pixels of the same shape.
        mask: (B, N) bool, True for a hidden cell.
        mask_count: number of hidden cells to divide by instead of the number in this batch. Pass the mean over all
            processes and micro-batches of one optimizer step, so that the mean of their losses equals the loss of the
            joint batch.

    Returns:
        A scalar, float32 or wider. It is 0 and still differentiable if nothing is hidden.

    Raises:
        ValueError: if the shapes do not match.

    >>> cells = torch.tensor([[[1.0], [5.0]]])
    >>> masked_l1(cells, torch.zeros(1, 2, 1), torch.tensor([[True, False]])).item()
    1.0
    """
    restored, target = _cells_of(restored, target, mask)
    return _masked_mean((restored - target).abs().flatten(2).mean(2), mask, mask_count)


def masked_patch_mse(
    predicted: Tensor,
    patches: Tensor,
    mask: Tensor,
    mask_count: Tensor | float | None = None,
    *,
    normalize: bool = True,
    eps: float = 1e-6,
) -> Tensor:
    """Compute the mean squared error over hidden patches, each normalized by its own statistics.

    MAE (He et al., CVPR 2022, arXiv:2111.06377), section 3, "Reconstruction target". Each target patch is shifted by
    its mean and divided by its (biased) standard deviation, so the loss depends on structure and not on intensity.

    Args:
        predicted: predicted patches (B, N, P).
        patches: (B, N, P), pixels of each patch, over all channels.
        mask: (B, N) bool, True for a hidden patch.
        mask_count: as in :func:`masked_l1`.
        normalize: whether to normalize the target patches.
        eps: constant added to the variance of a patch.

    Returns:
        A scalar, float32 or wider. It is 0 and still differentiable if nothing is hidden.

    Raises:
        ValueError: if the shapes do not match.

    >>> patches, hidden = torch.tensor([[[1.0, 3.0], [9.0, 9.0]]]), torch.tensor([[True, False]])
    >>> round(masked_patch_mse(torch.tensor([[[-1.0, 1.0], [0.0, 0.0]]]), patches, hidden).item(), 6)
    0.0
    """
    predicted, patches = _cells_of(predicted, patches, mask)
    if normalize:
        variance, mean = torch.var_mean(patches, dim=-1, correction=0, keepdim=True)
        patches = (patches - mean) / (variance + eps).sqrt()
    return _masked_mean((predicted - patches).square().flatten(2).mean(2), mask, mask_count)


def masked_cross_entropy(
    logits: Tensor, classes: Tensor, mask: Tensor, mask_count: Tensor | float | None = None
) -> Tensor:
    r"""Compute the mean cross-entropy of the classes of hidden cells.

    .. math:: -\frac{1}{|M|} \sum_{j \in M} \log p_{j, z_j}

    BEiT (Bao et al., ICLR 2022, arXiv:2106.08254, equation 1), whose classes :math:`z` are visual tokens.

    Args:
        logits: (B, N, K), scores of K classes for each cell.
        classes: (B, N) int64, class of each cell.
        mask: (B, N) bool, True for a hidden cell.
        mask_count: as in :func:`masked_l1`.

    Returns:
        A scalar, float32 or wider. It is ln K for uniform logits, and 0 if nothing is hidden.

    Raises:
        ValueError: if the shapes do not match.

    >>> classes, hidden = torch.tensor([[1, 0]]), torch.tensor([[True, False]])
    >>> masked_cross_entropy(torch.zeros(1, 2, 4), classes, hidden).exp()
    tensor(4.)
    """
    if logits.ndim != 3 or classes.shape != logits.shape[:2] or mask.shape != classes.shape or mask.dtype != torch.bool:
        raise ValueError(
            "logits must be (B, N, K), classes (B, N) and mask (B, N) bool, got "
            f"{tuple(logits.shape)}, {tuple(classes.shape)} and {tuple(mask.shape)} of {mask.dtype}; "
            "the tokenizer and the network must divide the image into the same number of cells"
        )
    # cells first: cross_entropy with classes on the second axis would copy all logits
    per_cell = F.cross_entropy(at_least_float32(logits).flatten(0, 1), classes.flatten(), reduction="none")
    return _masked_mean(per_cell.view(mask.shape), mask, mask_count)


def _cells_of(predicted: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Check the shapes and convert both to at least float32."""
    if predicted.shape != target.shape or mask.shape != predicted.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(
            "prediction and target must both be (B, N, ...) and mask (B, N) bool, got "
            f"{tuple(predicted.shape)}, {tuple(target.shape)} and {tuple(mask.shape)} of {mask.dtype}; "
            "split_cells divides an image into cells"
        )
    predicted, target = same_precision(predicted, target)
    return predicted, target


def _masked_mean(per_cell: Tensor, mask: Tensor, mask_count: Tensor | float | None) -> Tensor:
    """Mean of (B, N) over the hidden cells."""
    total = per_cell.masked_fill(~mask, 0.0).sum()
    count = torch.as_tensor(mask.sum() if mask_count is None else mask_count, device=total.device).to(total.dtype)
    return total / torch.where(count > 0, count, torch.ones_like(count))
