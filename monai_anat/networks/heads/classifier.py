"""Image classifier on a backbone, for fine-tuning and linear probing."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.backbones.partial_states import refuse_partial_states

__all__ = ["EncoderClassifier"]


class EncoderClassifier(nn.Module):
    """Classification network: a backbone, global average pooling of its last map, and a head.

    The head is linear, as in the fine-tuning of PEAC, Lamps, ACE, Adam-v2 and MLVICX. ``hidden=(1024, 512, 256)`` is
    POPAR's. The module ``backbone`` returns the last feature map, so class activation maps use
    ``target_layers="backbone"`` (and ``fc_layers="head"`` with the linear head).

    Args:
        backbone: any backbone.
        num_classes: number of logits per image.
        hidden: widths of hidden layers. Each but the first is followed by batch normalization without learned
            parameters and ReLU.
        dropout: dropout probability on the pooled features in training.
        frozen: train the head alone, on pooled features that are batch-normalized without learned parameters. The
            backbone stays in evaluation mode.

    Raises:
        ValueError: if a width is not positive.

    Example:
        >>> import torch
        >>> from monai_anat.networks import SwinBackbone
        >>> network = EncoderClassifier(SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2)), 14)
        >>> network(torch.zeros(2, 1, 56, 56)).shape
        torch.Size([2, 14])
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        if min(num_classes, *hidden, 1) < 1:
            raise ValueError(
                f"num_classes and hidden must be at least 1, got num_classes={num_classes} and hidden={tuple(hidden)}"
            )
        self.backbone = backbone
        self.frozen = frozen
        self.norm = nn.BatchNorm1d(backbone.num_features, affine=False) if frozen else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        layers: list[nn.Module] = []
        width = backbone.num_features
        for number, after in enumerate(hidden):
            layers.append(nn.Linear(width, after))
            if number:
                layers += [nn.BatchNorm1d(after, eps=1e-6, affine=False), nn.ReLU()]
            width = after
        last = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(last.weight, std=0.02)
        nn.init.zeros_(last.bias)
        self.head: nn.Module = nn.Sequential(*layers, last) if layers else last
        if frozen:
            backbone.requires_grad_(False)
        refuse_partial_states(self)

    def train(self, mode: bool = True) -> EncoderClassifier:
        """Set training mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (B, num_classes) of an image (B, C, H, W[, D])."""
        pooled = self.backbone(x).flatten(2).mean(2)  # (B, D)
        logits: Tensor = self.head(self.dropout(self.norm(pooled)))
        return logits
