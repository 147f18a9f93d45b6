"""MAE: masked autoencoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Unpack

import torch
from monai.config import KeysCollection
from torch import Tensor, nn

from monai_anat.keys import IMAGE, MASK, TARGET, VIEW_1, VISIBLE
from monai_anat.losses.restoration import masked_patch_mse
from monai_anat.methods.base import SSLMethod, check_view, token_grid
from monai_anat.methods.masked_views import MaskedViewOptions, RandMaskedViewsd
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.heads.context_decoder import ContextDecoder
from monai_anat.schedules import Progress
from monai_anat.transforms.geometry import split_cells

__all__ = ["MAEMethod", "RandMAEViewsd"]


class RandMAEViewsd(RandMaskedViewsd):
    """Make a random crop of an image and draw its visible patches: the views of MAE.

    :class:`RandMaskedViewsd` with the settings of He et al., CVPR 2022, arXiv:2111.06377 (appendix A.1), but without
    flip (0.5 in the paper, on photographs). Instead of ``mask`` the item holds ``visible`` (K,) int64, the indices of
    the patches that are not hidden.

    Args:
        keys: key of the image (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        image_size: side of the view in pixels, one number or one per axis.
        cell_size: side of a patch in pixels, the ``patch_size`` of the backbone.
        mask_ratio: share of hidden patches; their number is rounded.
        area: smallest and largest share of the image in the view.
        options: further arguments of :class:`RandMaskedViewsd`; ``mode`` is "bicubic" by default.

    Raises:
        ValueError: if an argument of :class:`RandMaskedViewsd` is out of range.

    >>> views = RandMAEViewsd(image_size=32, cell_size=8).set_random_state(0)
    >>> views({"image": torch.rand(1, 80, 64)})["visible"].shape
    torch.Size([4])
    """

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        image_size: int | Sequence[int] = 224,
        cell_size: int | Sequence[int] = 16,
        *,
        mask_ratio: float = 0.75,
        area: tuple[float, float] = (0.2, 1.0),
        **options: Unpack[MaskedViewOptions],
    ) -> None:
        options.setdefault("mode", "bicubic")
        super().__init__(keys, image_size, cell_size, mask_ratio=mask_ratio, area=area, **options)

    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        """Draw and make ``view_1``, ``target`` and ``visible`` of one image."""
        sample = super().views(pixels)
        sample[VISIBLE] = sample.pop(MASK).logical_not().nonzero().flatten()
        return sample


class MAEMethod(SSLMethod):
    r"""Masked autoencoder: the encoder sees the visible patches, a light decoder restores the hidden ones.

    The term "restoration" is the mean squared error of the hidden patches, each normalized by the mean and standard
    deviation of its own pixels (He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022,
    arXiv:2111.06377, section 3). Every sample hides the same number of patches, so means over micro-batches equal the
    mean of the joint batch.

    ``monai.networks.nets.MaskedAutoEncoderViT`` is not used, because its encoder is not a backbone of this package and
    it draws the mask in the forward pass, where several processes could not reproduce one. Tests check that this method
    predicts the same with its weights and mask. One thing differs: the decoder has its own class token and not the
    encoder's.

    Args:
        backbone: a :class:`~monai_anat.networks.ViTBackbone`, built for ``image_size``; ViT-B/16, L/16 and H/14 in
            the paper.
        image_size: side of the view in pixels, a multiple of the patch size; one number or one per axis.
        decoder_dim: channels of the decoder.
        decoder_depth: blocks of the decoder.
        decoder_heads: attention heads of the decoder.
        normalize_patches: normalize the pixels of each patch before the comparison.
        fixed_positions: replace the positions of the backbone by fixed sine-cosine positions, as published. Use False
            for a backbone with pre-trained weights.

    Raises:
        TypeError: if the backbone cannot encode visible patches alone.
        ValueError: if the patches do not tile the view, the heads do not divide the channels, or (when called) the view
            has another size.

    >>> from monai_anat.networks import ViTBackbone
    >>> backbone = ViTBackbone(image_size=16, patch_size=4, embed_dim=16, depth=1, num_heads=2)
    >>> method = MAEMethod(backbone, image_size=16, decoder_dim=16, decoder_depth=1, decoder_heads=2)
    >>> view, visible = torch.rand(2, 1, 16, 16), torch.tensor([[0, 3, 9, 12], [1, 2, 5, 15]])
    >>> list(method({"view_1": view, "target": view, "visible": visible}, Progress(0, 1, 0, 1)))
    ['restoration']
    """

    views_name = "RandMAEViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        image_size: int | tuple[int, ...] = 224,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        normalize_patches: bool = True,
        fixed_positions: bool = True,
    ) -> None:
        super().__init__()
        if not (backbone.supports_visible and backbone.supports_fixed_positions):
            raise TypeError(
                "backbone must be a ViTBackbone, which can encode some patches without the others, got "
                f"{type(backbone).__name__}; SimMIM takes a Swin"
            )
        self.grid = token_grid(backbone, image_size)
        self.image_size = tuple(cells * backbone.patch_size for cells in self.grid)
        self.normalize_patches = normalize_patches
        self.loss_weights = {"restoration": 1.0}
        self.backbone = backbone
        if fixed_positions:
            backbone.fix_positions()
        self.decoder_embed = nn.Linear(backbone.num_features, decoder_dim)
        self.decoder = ContextDecoder(decoder_dim, self.grid, depth=decoder_depth, num_heads=decoder_heads)
        self.patch_head = nn.Linear(decoder_dim, backbone.in_channels * backbone.patch_size ** len(self.grid))

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute "restoration" of ``view_1``, ``target`` (B, C, H, W[, D]) and ``visible`` (B, K).

        Args:
            batch: collated items of :class:`RandMAEViewsd`.
            progress: not used.

        Returns:
            The unweighted term.

        Raises:
            KeyError: if a key is missing.
            ValueError: if the view has another size than the method was built for, or nothing is hidden.
        """
        view, target, visible = self.get_tensors(batch, VIEW_1, TARGET, VISIBLE)
        check_view(VIEW_1, view, self.image_size, self.views_name)
        if visible.ndim != 2 or not 0 < visible.shape[1] < prod(self.grid):
            raise ValueError(
                f"{VISIBLE} must be (B, K) with at least one of {prod(self.grid)} patches visible and one hidden, got "
                f"{tuple(visible.shape)}; give {self.views_name} cell_size={self.backbone.patch_size} and "
                "mask_ratio=0.75"
            )
        predicted = self.restore(view, visible)
        patches = split_cells(target, self.backbone.patch_size, len(self.grid)).flatten(2)  # (B, N, P)
        hidden = torch.ones(predicted.shape[:2], dtype=torch.bool, device=view.device).scatter(1, visible, False)
        return {"restoration": masked_patch_mse(predicted, patches, hidden, normalize=self.normalize_patches)}

    def restore(self, view: Tensor, visible: Tensor) -> Tensor:
        """Predict all patches of a view from the visible ones.

        Args:
            view: view (B, C, H, W[, D]).
            visible: indices of the visible patches (B, K).

        Returns:
            The pixels of all patches (B, N, P), channel by channel and row by row.
        """
        tokens = self.decoder_embed(self.backbone.forward_visible(view, visible))  # (B, K, decoder_dim)
        predicted: Tensor = self.patch_head(self.decoder(tokens, visible))
        return predicted

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the backbone."""
        return {"encoder": self.backbone}
