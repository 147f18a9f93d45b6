"""BEiT: prediction of the visual words of hidden patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from monai.config import KeysCollection
from torch import Tensor, nn

from monai_anat.keys import IMAGE, MASK_COUNT, TARGET, VIEW_1
from monai_anat.losses.restoration import masked_cross_entropy, restoration_mse
from monai_anat.methods.base import check_view, split_groups
from monai_anat.methods.masked_image import MaskedImageMethod
from monai_anat.methods.masked_views import MaskedViewOptions, RandMaskedViewsd
from monai_anat.networks.backbones.backbone import Backbone, to_tokens
from monai_anat.networks.heads.visual_tokenizer import VisualTokenizer
from monai_anat.schedules import Progress
from monai_anat.transforms.masks import draw_block_mask

__all__ = ["BEiTMethod", "RandBEiTViewsd"]


class RandBEiTViewsd(RandMaskedViewsd):
    """Make a random crop of an image and hide blocks of its patches: the views of BEiT.

    :class:`RandMaskedViewsd` with the masking of Bao et al., ICLR 2022, arXiv:2106.08254 (algorithm 1), see
    :func:`~monai_anat.transforms.draw_block_mask`, but without flip (0.5 in the paper, on photographs). The item holds
    ``view_1`` and ``target`` (C, h, w), both normalized, and ``mask`` (N,), True for hidden patches. The number of
    hidden patches differs from sample to sample.

    Args:
        keys: key of the image (C, H, W), uint8, uint16, or floating point in [0, 1].
        image_size: side of the view in pixels, one number or one per axis.
        cell_size: side of a patch in pixels, the ``patch_size`` of the backbone.
        mask_ratio: smallest share of hidden patches; up to ``min_cells`` more are hidden.
        min_cells: patches in the smallest block; the paper has 16 of 14 x 14.
        area: smallest and largest share of the image in the view.
        options: further arguments of :class:`RandMaskedViewsd`; the visual words are those of the clean crop.

    Raises:
        ValueError: if an argument of :class:`RandMaskedViewsd` is out of range; when called, if the image is a volume
            or the ratio might hide all patches.

    >>> import torch
    >>> views = RandBEiTViewsd(image_size=32, cell_size=4, min_cells=4).set_random_state(0)
    >>> bool(0.4 * 64 < views({"image": torch.rand(1, 80, 64)})["mask"].sum() <= 0.4 * 64 + 4)
    True
    """

    takes_volumes = False

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        image_size: int | Sequence[int] = 224,
        cell_size: int | Sequence[int] = 16,
        *,
        mask_ratio: float = 0.4,
        min_cells: int = 16,
        area: tuple[float, float] = (0.08, 1.0),
        **options: Unpack[MaskedViewOptions],
    ) -> None:
        super().__init__(keys, image_size, cell_size, mask_ratio=mask_ratio, area=area, **options)
        self.min_cells = min_cells

    def draw_mask(self, grid_size: Sequence[int]) -> Tensor:
        """Draw the mask (N,) of a grid from ``R``: blocks that may overlap."""
        return draw_block_mask(self.R, grid_size, self.mask_ratio, min_cells=self.min_cells)


class BEiTMethod(MaskedImageMethod):
    r"""First a vocabulary of radiographs, then a network that names the words of hidden patches.

    The method has two stages, of which ``Progress.stage`` says the current one (``stage_epochs`` of the trainer):

    - Stage 0 trains the tokenizer, an autoencoder :math:`d(q(e(x)))` with a codebook. "reconstruction" is the mean of
      :math:`(d(q(e(x))) - x)^2`. "commitment" is the mean of :math:`(e(x) - q(e(x)))^2`, with gradients for the encoder
      alone (van den Oord et al., arXiv:1711.00937, equation 3). The codebook is a moving average of the encodings, see
      :class:`~monai_anat.networks.JointQuantizer`. The tokenizer has an optimizer of its own, ``tokenizer``.
    - From stage 1 on, the tokenizer is frozen. A learned token replaces the hidden patches :math:`M` of a view. A
      linear head predicts the visual word :math:`z_j` (one of K) of each hidden patch of the clean view. "prediction"
      is

      .. math:: -\frac{1}{|M|} \sum_{j \in M} \log p(z_j \mid x^M)

    (Bao et al., "BEiT: BERT Pre-Training of Image Transformers", ICLR 2022, arXiv:2106.08254, equation 1).

    Differs from the paper: the paper's vocabulary comes from a discrete variational autoencoder of photographs; this
    tokenizer is a vector-quantized autoencoder (MONAI's), trained on the same radiographs, and gets the view at full
    and not at half size.

    Args:
        backbone: a 2D :class:`~monai_anat.networks.ViTBackbone`, built for ``image_size``; ViT-B/16 in the paper.
        tokenizer: tokenizer with one visual word per patch of the backbone.
        image_size: side of the view in pixels, a multiple of the patch size; one number or one per axis.
        commitment_weight: weight of "commitment".

    Raises:
        TypeError: if a token of the backbone is not one patch, or the tokenizer is not a ``VisualTokenizer``.
        ValueError: if backbone, tokenizer and view do not fit together, or the weight is not positive; when called, if
            the run has no stages, or a view or mask has another size.

    >>> import torch
    >>> from monai_anat.networks import ViTBackbone
    >>> backbone = ViTBackbone(image_size=16, patch_size=4, embed_dim=16, depth=1, num_heads=2)
    >>> tokenizer = VisualTokenizer(strides=(2, 2), channels=8, num_res_layers=1, num_tokens=16, token_dim=4)
    >>> method = BEiTMethod(backbone, tokenizer, image_size=16)
    >>> view, mask = torch.rand(2, 1, 16, 16), torch.arange(16).lt(7).repeat(2, 1)
    >>> batch = {"view_1": view, "target": view, "mask": mask}
    >>> sorted(method(batch, Progress(0, 2, 0, 2, stage=0, stage_steps=1)))
    ['commitment', 'reconstruction']
    >>> list(method(batch, Progress(1, 2, 1, 2, stage=1, stage_steps=1)))
    ['prediction']
    """

    views_name = "RandBEiTViewsd"
    find_unused_parameters = True

    def __init__(
        self,
        backbone: Backbone,
        tokenizer: VisualTokenizer,
        *,
        image_size: int | tuple[int, ...] = 224,
        commitment_weight: float = 0.25,
    ) -> None:
        _check_networks(backbone, tokenizer)
        if not commitment_weight > 0:
            raise ValueError(
                f"commitment_weight must be positive, got {commitment_weight}; otherwise encodings drift from codes"
            )
        super().__init__(backbone, image_size=image_size, cell_size=backbone.patch_size)
        self.loss_weights = {"reconstruction": 1.0, "commitment": commitment_weight, "prediction": 1.0}
        self.tokenizer = tokenizer
        self.token_head = nn.Linear(backbone.num_features, tokenizer.num_tokens)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the terms of ``view_1``, ``target`` (B, C, H, W) and ``mask`` (B, N).

        Args:
            batch: collated items of :class:`RandBEiTViewsd`; "prediction" divides by ``mask_count``, if given.
            progress: current position; its ``stage`` selects tokenizer or backbone.

        Returns:
            "reconstruction" and "commitment", or "prediction".

        Raises:
            KeyError: if a key is missing.
            ValueError: if the run has no stages, or a view or mask has another size than the method was built for.
        """
        view, target = self.get_tensors(batch, VIEW_1, TARGET)
        mask = self.get_mask(batch)
        check_view(TARGET, target, self.image_size, self.views_name)
        if progress.stage_steps == 0:
            raise ValueError(
                "BEiT needs two stages, got a run without; give SSLTrainer stage_epochs=[epochs of the tokenizer, "
                "epochs of the backbone]"
            )
        if progress.stage == 0:
            reconstructed, commitment = self.tokenizer(target)
            return {"reconstruction": restoration_mse(reconstructed, target), "commitment": commitment}
        words = self.tokenizer.tokens(target).flatten(1)  # (B, N)
        logits = self.token_head(to_tokens(self.masked_map(view, mask)))  # (B, N, K)
        return {"prediction": masked_cross_entropy(logits, words, mask, batch.get(MASK_COUNT))}

    def after_step(self, progress: Progress) -> None:
        """Move the codebook to the encodings of this step; a frozen tokenizer does not move."""
        self.tokenizer.codebook.update()

    def metrics(self) -> dict[str, Tensor]:
        """Compute the perplexity of the codebook, the effective number of words in use."""
        return {"codebook_perplexity": self.tokenizer.codebook.perplexity()}

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Separate the tokenizer into groups of the optimizer ``tokenizer``, without decay."""
        groups = super().param_groups(weight_decay)
        return split_groups(groups, self.tokenizer, "tokenizer", optimizer="tokenizer", weight_decay=0.0, decayed=False)

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the backbone, and the tokenizer for further runs with the same words."""
        return {"encoder": self.backbone, "tokenizer": self.tokenizer}


def _check_networks(backbone: Backbone, tokenizer: VisualTokenizer) -> None:
    if not backbone.supports_masking or backbone.strides[-1] != backbone.patch_size:
        raise TypeError(
            f"backbone must be a ViTBackbone, of which every token is one patch, got {type(backbone).__name__}; SimMIM "
            "takes a Swin"
        )
    if not isinstance(tokenizer, VisualTokenizer):
        raise TypeError(
            f"tokenizer must be a VisualTokenizer, got {type(tokenizer).__name__}; it is MONAI's VQVAE with a codebook "
            "that the processes move together"
        )
    if backbone.spatial_dims != 2:
        raise ValueError(
            f"backbone must have spatial_dims=2, got {backbone.spatial_dims}; MAEMethod and SimMIMMethod take volumes"
        )
    if tokenizer.patch_size != backbone.patch_size:
        raise ValueError(
            "the tokenizer must have one word for each patch of the backbone, got patches of "
            f"{tokenizer.patch_size} pixels (the product of its strides) and patch_size={backbone.patch_size}; four "
            "strides of 2 make 16"
        )
    if (tokenizer.spatial_dims, tokenizer.in_channels) != (2, backbone.in_channels):
        raise ValueError(
            f"tokenizer and backbone must take the same images, got spatial_dims={tokenizer.spatial_dims} and "
            f"in_channels={tokenizer.in_channels} beside 2 and {backbone.in_channels}"
        )
