"""Stochastic depth that TorchScript can compile."""

from __future__ import annotations

import torch
from monai.networks.layers import DropPath
from torch import Tensor

from monai_anat.networks.backbones.backbone import is_scripting

__all__ = ["StochasticDepth", "drop_path_rates"]


class StochasticDepth(DropPath):
    """Drop the residual branch of random samples in training (Huang et al., ECCV 2016, arXiv:1603.09382).

    MONAI's ``DropPath``, which ``torch.jit.script`` cannot compile. A scripted network computes it in evaluation mode
    only.

    Args:
        drop_prob: probability of dropping a sample's branch; the others are divided by 1 - ``drop_prob``.

    >>> StochasticDepth(0.5).eval()(torch.ones(2))
    tensor([1., 1.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop branches (B, ...) of random samples in training; return ``x`` in evaluation mode."""
        if is_scripting():
            if self.training and self.drop_prob > 0:
                raise RuntimeError("a scripted network has no stochastic depth; call eval(), or train the original")
            return x
        else:  # noqa: RET505 (TorchScript compiles only the branch that it takes)
            return self._forward(x)

    @torch.jit.unused
    def _forward(self, x: Tensor) -> Tensor:
        return self.drop_path(x, self.drop_prob, self.training, self.scale_by_keep)  # type: ignore[no-any-return]


def drop_path_rates(last: float, blocks: int) -> list[float]:
    """Compute the stochastic depth rate of each block, rising linearly from 0 to ``last``.

    Args:
        last: rate of the last block.
        blocks: number of blocks.

    Returns:
        One rate per block.

    >>> drop_path_rates(0.2, 3)
    [0.0, 0.1, 0.2]
    """
    return [last * number / max(1, blocks - 1) for number in range(blocks)]
