"""Class logits from any backbone: fine-tuned as a whole, or as a probe on frozen features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import Backbone

__all__ = ["EncoderClassifier"]


class EncoderClassifier(nn.Module):
    """A classification network: a backbone, the mean over positions of its last map, and a head.

    The head is linear, as PEAC, Lamps, ACE, Adam-v2 and MLVICX fine-tune; ``hidden=(1024, 512, 256)`` is POPAR's. The
    last map comes out of the module ``backbone``, which is the layer that class activation maps are read from
    (``target_layers="backbone"``; with the linear head ``fc_layers="head"``).

    Args:
        backbone: any backbone.
        num_classes: logits per image.
        hidden: widths of layers before the last one; each but the first is normalized over the batch without learned
            parameters and rectified.
        dropout: share of the embedding that is dropped in training.
        frozen: train the head alone, on embeddings normalized over the batch without learned parameters; the backbone
            stays in evaluation mode.

    Raises:
        ValueError: when a width is not positive.

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

    def train(self, mode: bool = True) -> EncoderClassifier:
        """Training mode, but of the head alone where the backbone is frozen."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes) of the image ``x`` (B, C, H, W[, D])."""
        embedding = self.backbone(x).flatten(2).mean(2)  # (B, D)
        logits: Tensor = self.head(self.dropout(self.norm(embedding)))
        return logits
