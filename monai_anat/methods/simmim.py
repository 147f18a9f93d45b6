"""SimMIM: restoration of the pixels of masked cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from monai_anat.keys import MASK_COUNT, TARGET, VIEW_1
from monai_anat.losses.restoration import masked_l1
from monai_anat.methods.masked_image import MaskedImageMethod
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.heads.restoration import RestorationHead
from monai_anat.schedules import Progress
from monai_anat.transforms.geometry import split_cells

__all__ = ["SimMIMMethod"]


class SimMIMMethod(MaskedImageMethod):
    r"""Masked image modeling with a linear head and the absolute difference.

    A learned token replaces the embedded patches of hidden cells. A 1x1 convolution with PixelShuffle restores the view
    from the last feature map. With the pixels :math:`M` of the hidden cells, the term "restoration" is

    .. math:: \frac{1}{|M|} \lVert y_M - x_M \rVert_1

    (Xie et al., "SimMIM: A Simple Framework for Masked Image Modeling", CVPR 2022, arXiv:2111.09886, equation 2). The
    views are :class:`RandMaskedViewsd`. There is no teacher.

    ``monai.networks.nets.ViTAutoEnc`` is not used, because it hides pixels and not patches, and has no Swin.

    Args:
        backbone: a :class:`~monai_anat.networks.SwinBackbone` or :class:`~monai_anat.networks.ViTBackbone`; Swin-B with
            windows of 6 in the paper.
        image_size: side of the view in pixels, a multiple of ``backbone.strides[-1]``; one number or one per axis.
        cell_size: pixels per side of a cell, a multiple of ``backbone.patch_size`` and a divisor of ``image_size``.

    Raises:
        TypeError: if the backbone does not support masking.
        ValueError: if patches, cells and view do not tile each other, or (when called) a view or mask has another size.

    >>> import torch
    >>> from monai_anat.networks import SwinBackbone
    >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    >>> method = SimMIMMethod(backbone, image_size=16, cell_size=4)
    >>> view, mask = torch.rand(2, 1, 16, 16), torch.arange(16).lt(9).repeat(2, 1)
    >>> list(method({"view_1": view, "target": view, "mask": mask}, Progress(0, 1, 0, 1)))
    ['restoration']
    """

    def __init__(self, backbone: Backbone, *, image_size: int | tuple[int, ...] = 192, cell_size: int = 32) -> None:
        if not backbone.supports_masking:
            raise TypeError(
                "backbone must be a SwinBackbone or a ViTBackbone, whose patches a token can replace, got "
                f"{type(backbone).__name__}"
            )
        super().__init__(backbone, image_size=image_size, cell_size=cell_size)
        self.loss_weights = {"restoration": 1.0}
        self.restoration_head = RestorationHead(
            backbone.num_features, backbone.strides[-1], backbone.in_channels, backbone.spatial_dims
        )

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute "restoration" of ``view_1``, ``target`` (B, C, H, W[, D]) and ``mask`` (B, N).

        Args:
            batch: collated items of :class:`RandMaskedViewsd`; the term divides by ``mask_count``, if given.
            progress: not used.

        Returns:
            The unweighted term.

        Raises:
            KeyError: if a key is missing.
            ValueError: if the view or the mask has another size than the method was built for.
        """
        view, target = self.get_tensors(batch, VIEW_1, TARGET)
        mask = self.get_mask(batch)
        restored = self.restoration_head(self.masked_map(view, mask))  # (B, C, H, W)
        painted, clean = (split_cells(image, self.cell_size, len(self.grid)) for image in (restored, target))
        return {"restoration": masked_l1(painted, clean, mask, batch.get(MASK_COUNT))}
