"""Prototype head of self-distillation methods."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.precision import at_least_float32

__all__ = ["PrototypeHead"]


class _UnitLinear(nn.Module):
    """Linear without bias and with unit-length rows: weight normalization with the norm frozen at 1."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.trunc_normal_(self.weight_v, std=0.02)

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        weight = self.weight_v.detach() if frozen else self.weight_v
        return F.linear(x, F.normalize(weight, dim=1))


class PrototypeHead(nn.Module):
    """Cosine similarity of an embedding to K learned prototypes: the head of DINO.

    Linear, GELU, Linear, GELU, Linear, L2 normalization, and the cosine with each prototype (Caron et al., ICCV 2021,
    arXiv:2104.14294, appendix). Lamps, ACE and Adam-v2 use it. There is no BatchNorm, so views may share one forward
    pass. Parameter names are those of the published files: ``mlp.{0,2,4}`` and ``last_layer.weight_v``. Their
    ``last_layer.weight_g`` is constant 1 and is omitted.

    Args:
        in_features: number of channels D of the embedding.
        num_prototypes: number of prototypes K; 65536 in the papers.
        hidden_features: width of the two hidden layers.
        bottleneck_features: width of the layer that is L2-normalized.

    Raises:
        ValueError: if a width is below 1.

    >>> PrototypeHead(32, 100, hidden_features=64, bottleneck_features=16)(torch.zeros(2, 32)).shape
    torch.Size([2, 100])
    """

    def __init__(
        self,
        in_features: int,
        num_prototypes: int = 65536,
        *,
        hidden_features: int = 2048,
        bottleneck_features: int = 256,
    ) -> None:
        super().__init__()
        if min(in_features, num_prototypes, hidden_features, bottleneck_features) < 1:
            raise ValueError(
                "all widths must be at least 1, got "
                f"{in_features=}, {num_prototypes=}, {hidden_features=}, {bottleneck_features=}"
            )
        self.in_features = in_features
        self.num_prototypes = num_prototypes
        self.mlp = nn.Sequential(
            nn.Linear(in_features, hidden_features),
            nn.GELU(),
            nn.Linear(hidden_features, hidden_features),
            nn.GELU(),
            nn.Linear(hidden_features, bottleneck_features),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = _UnitLinear(bottleneck_features, num_prototypes)

    def forward(self, embeddings: Tensor, frozen_prototypes: bool = False) -> Tensor:
        """Compute the cosine similarity of embeddings to all prototypes.

        Args:
            embeddings: (B, D).
            frozen_prototypes: compute no gradient for the prototypes, as in the first epoch of DINO's recipe. The
                method then needs ``find_unused_parameters``.

        Returns:
            Similarities (B, K).
        """
        bottleneck = at_least_float32(self.mlp(embeddings))
        logits: Tensor = self.last_layer(F.normalize(bottleneck, dim=1), frozen_prototypes)
        return logits
