"""Visual tokenizer: a discrete autoencoder that assigns a code to every patch."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

import torch
from monai.networks.layers.vector_quantizer import VectorQuantizer
from monai.networks.nets import VQVAE
from torch import Tensor

from monai_anat.networks.heads.quantizer import JointQuantizer

__all__ = ["VisualTokenizer"]


class VisualTokenizer(VQVAE):
    """MONAI's vector-quantized autoencoder (VQ-VAE) with one code per image patch.

    It replaces the discrete autoencoder of BEiT (Bao et al., ICLR 2022, arXiv:2106.08254, section 2.1) and is trained
    on radiographs instead of photographs. The codebook is a :class:`JointQuantizer`. There is neither dropout nor
    normalization, so training and evaluation differ only in the update of the codebook.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: number of image channels.
        strides: strides of the encoder's convolutions, fine to coarse. Their product is the side of a patch.
        channels: number of channels of the convolutions.
        num_res_layers: number of residual units after each convolution. Without normalization, more of them slow down
            the start of training.
        num_tokens: number of codes K; 8192 in BEiT.
        token_dim: width of a code.
        decay: decay of the codebook, see :class:`JointQuantizer`.

    Raises:
        ValueError: if a number is out of range.

    >>> tokenizer = VisualTokenizer(strides=(2, 2), channels=8, num_res_layers=1, num_tokens=16, token_dim=4)
    >>> tokenizer.patch_size, tuple(tokenizer.tokens(torch.zeros(1, 1, 16, 16)).shape)
    (4, (1, 4, 4))
    """

    __jit_unused_properties__ = ("codebook",)

    def __init__(
        self,
        *,
        spatial_dims: int = 2,
        in_channels: int = 1,
        strides: Sequence[int] = (2, 2, 2, 2),
        channels: int = 128,
        num_res_layers: int = 1,
        num_tokens: int = 8192,
        token_dim: int = 32,
        decay: float = 0.99,
    ) -> None:
        if not strides or min(*strides, channels, in_channels) < 1 or num_res_layers < 0:
            raise ValueError(
                "strides, channels and in_channels must be at least 1 and num_res_layers at least 0, got "
                f"strides={tuple(strides)}, {channels=}, {in_channels=} and {num_res_layers=}"
            )
        # kernels of stride + 2 pixels and one pixel of padding divide and multiply every multiple of the stride exactly
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=in_channels,
            channels=(channels,) * len(strides),
            num_res_layers=num_res_layers,
            num_res_channels=channels,
            downsample_parameters=[(stride, stride + 2, 1, 1) for stride in strides],
            upsample_parameters=[(stride, stride + 2, 1, 1, 0) for stride in reversed(strides)],
            num_embeddings=num_tokens,
            embedding_dim=token_dim,
        )
        self.quantizer = VectorQuantizer(JointQuantizer(spatial_dims, num_tokens, token_dim, decay=decay))
        self.num_tokens = num_tokens
        self.patch_size = prod(strides)

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, C, H, W[, D]) into (B, token_dim, h, w[, d]); MONAI's own method cannot be scripted."""
        encodings: Tensor = self.encoder(images)
        return encodings

    def decode(self, quantizations: Tensor) -> Tensor:
        """Decode codes (B, token_dim, h, w[, d]) into images; MONAI's own method cannot be scripted."""
        images: Tensor = self.decoder(quantizations)
        return images

    @property
    def codebook(self) -> JointQuantizer:
        """The quantizer that holds the codes."""
        return cast(JointQuantizer, self.quantizer.quantizer)

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """Assign a code to every patch, without gradients and without updating the codebook.

        Args:
            images: (B, C, H, W[, D]), with sides that are multiples of ``patch_size``.

        Returns:
            Indices of codes (B, h, w[, d]), int64.
        """
        numbers: Tensor = self.index_quantize(images)
        return numbers
