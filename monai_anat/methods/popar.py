"""POPAR: patch order prediction and appearance recovery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor, nn

from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import IMAGE, ORDER, TARGET, VIEW_1
from monai_anat.losses.ordering import order_cross_entropy
from monai_anat.losses.restoration import restoration_mse
from monai_anat.methods.base import SSLMethod, check_view, token_grid, used_terms
from monai_anat.methods.views import RandViewsd
from monai_anat.networks.backbones.backbone import Backbone, to_tokens
from monai_anat.networks.heads.order import OrderHead
from monai_anat.networks.heads.restoration import RestorationHead
from monai_anat.schedules import Progress
from monai_anat.transforms.array_kinds import plain_tensor
from monai_anat.transforms.distortions import Distortion, RandDistort, distort
from monai_anat.transforms.draws import check_prob
from monai_anat.transforms.geometry import per_axis, required_shape
from monai_anat.transforms.patch_shuffle import shuffle_patches

__all__ = ["Corruption", "POPARMethod", "RandPOPARViewsd", "corrupt", "draw_corruption", "order_of"]


@dataclass(frozen=True, eq=False)
class Corruption:
    """Corruption of a view, which is distorted or shuffled, never both.

    Attributes:
        distortion: the distortion, or None.
        order: order (N,) in which the cells are shuffled, or None.
    """

    distortion: Distortion | None = None
    order: Tensor | None = None


def draw_corruption(
    R: np.random.RandomState, spatial_shape: Sequence[int], cells: int, distort_prob: float, distorter: RandDistort
) -> Corruption:
    """Draw the corruption of POPAR and PEAC: a distortion or a shuffled order.

    Args:
        R: random generator.
        spatial_shape: spatial shape of the view.
        cells: number of cells N of the view.
        distort_prob: probability of a distortion; otherwise an order is drawn.
        distorter: distribution of the distortion.

    Returns:
        The draw; all permutations are equally likely.
    """
    if R.random_sample() < distort_prob:
        return Corruption(distortion=distorter.draw(R, spatial_shape))
    return Corruption(order=torch.from_numpy(R.permutation(cells)))


def corrupt(pixels: Tensor, corruption: Corruption, cell_size: int | Sequence[int]) -> Tensor:
    """Apply a corruption to a view.

    Args:
        pixels: view (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        corruption: the corruption.
        cell_size: side of a cell in pixels.

    Returns:
        The corrupted view before normalization; shuffling does not change the data type.
    """
    if corruption.distortion is not None:
        return plain_tensor(distort(pixels, corruption.distortion))
    if corruption.order is not None:
        return plain_tensor(shuffle_patches(pixels, corruption.order, cell_size))
    return pixels


class RandPOPARViewsd(RandViewsd):
    """Make the batch item of :class:`POPARMethod`: the whole image distorted or shuffled, and clean.

    The image is either distorted (with probability ``distort_prob``) or its cells are shuffled in a uniformly random
    order. There is no flip, because the heart lies on the left. The item holds ``view_1`` (distorted or shuffled) and
    ``target`` (clean), (C, H, W[, D]) each and normalized, and ``order`` (N,), the identity if nothing is shuffled.
    POPAR, section 2 (Pang et al., DART 2022, PMC9728135).

    Args:
        keys: key of the image (C, H, W[, D]) of ``grid_size * cell_size`` pixels, uint8, uint16, or floating point in
            [0, 1].
        grid_size: cells per side, one number or one per axis.
        cell_size: side of a cell in pixels, the last stride of the backbone.
        distort_prob: probability of distorting the image; otherwise its cells are shuffled.
        mean: mean of the gray levels in [0, 1], for normalization.
        std: standard deviation of the gray levels in [0, 1], for normalization.
        distorter: distortion; that of the papers by default.

    Raises:
        ValueError: if a probability is outside [0, 1], or (when called) the image has another size.

    >>> sample = RandPOPARViewsd(grid_size=2, cell_size=4).set_random_state(0)({"image": torch.rand(1, 8, 8)})
    >>> sorted(sample), tuple(sample["view_1"].shape)
    (['order', 'target', 'view_1'], (1, 8, 8))
    """

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        grid_size: int | Sequence[int] = 14,
        cell_size: int | Sequence[int] = 32,
        *,
        distort_prob: float = 0.5,
        mean: float = CHEST_MEAN,
        std: float = CHEST_STD,
        distorter: RandDistort | None = None,
    ) -> None:
        super().__init__(keys, mean, std)
        check_prob(distort_prob=distort_prob)
        self.grid_size = grid_size
        self.cell_size = cell_size
        self.distort_prob = distort_prob
        self.distorter = RandDistort() if distorter is None else distorter
        self.corruption = Corruption()

    def randomize(self, data: Sequence[int]) -> None:
        """Draw for a view of spatial shape ``data``; the draw is kept as ``corruption``."""
        cells = prod(per_axis(self.grid_size, len(data), "grid_size"))
        self.corruption = draw_corruption(self.R, data, cells, self.distort_prob, self.distorter)

    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        """Draw, and make ``view_1``, ``target`` and ``order`` of one image."""
        shape = tuple(pixels.shape[1:])
        needed = required_shape(self.grid_size, self.cell_size, 0, len(shape))
        if shape != needed:
            raise ValueError(
                f"image must be {needed} pixels, {self.grid_size} cells of {self.cell_size}, got {shape}; "
                f"resize it while loading, e.g. by Resized(spatial_size={needed})"
            )
        self.randomize(shape)
        return {
            VIEW_1: self.normalize(corrupt(pixels, self.corruption, self.cell_size)),
            TARGET: self.normalize(pixels),
            ORDER: order_of(self.corruption, prod(per_axis(self.grid_size, len(shape), "grid_size"))),
        }


def order_of(corruption: Corruption, cells: int) -> Tensor:
    """Give the order (N,) of a view, the identity where it is not shuffled."""
    return torch.arange(cells) if corruption.order is None else corruption.order


class POPARMethod(SSLMethod):
    """Patch order prediction and appearance recovery from a view that is distorted or shuffled.

    The loss is half the cross-entropy of the patches' original positions plus half the mean squared error of the
    restored image, over all samples (Pang et al., "POPAR: Patch Order Prediction and Appearance Recovery for
    Self-supervised Medical Image Analysis", DART 2022, PMC9728135; Medical Image Analysis 2025, 103720). There is no
    teacher.

    Differs from the released code: float32 or bfloat16 instead of float64; one channel by default, so that shuffling
    pixels makes no color noise.

    Args:
        backbone: any backbone; 14 x 14 tokens of 32 pixels in the paper (Swin-B).
        image_size: side of the view in pixels, a multiple of ``backbone.strides[-1]``; one number or one per axis.
        order_weight: weight of "order"; 0 disables the term and its head.
        restoration_weight: weight of "restoration"; 0 disables the term and its head.

    Raises:
        ValueError: if the cells do not tile the view, a weight is negative, or both weights are 0.

    >>> from monai_anat.networks import SwinBackbone
    >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    >>> method = POPARMethod(backbone, image_size=16)
    >>> image, order = torch.rand(2, 1, 16, 16), torch.arange(16).repeat(2, 1)
    >>> terms = method({"view_1": image, "target": image, "order": order}, Progress(0, 1, 0, 1))
    >>> sorted(terms)
    ['order', 'restoration']
    """

    views_name = "RandPOPARViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        image_size: int | tuple[int, ...] = 448,
        order_weight: float = 0.5,
        restoration_weight: float = 0.5,
    ) -> None:
        super().__init__()
        self.loss_weights = used_terms(order=order_weight, restoration=restoration_weight)
        self.grid = token_grid(backbone, image_size)
        self.image_size = tuple(cells * backbone.strides[-1] for cells in self.grid)
        self.backbone = backbone
        if "order" in self.loss_weights:
            self.order_head = OrderHead(backbone.num_features, prod(self.grid))
        if "restoration" in self.loss_weights:
            self.restoration_head = RestorationHead(
                backbone.num_features,
                backbone.strides[-1],
                out_channels=backbone.in_channels,
                spatial_dims=backbone.spatial_dims,
            )

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute "order" and "restoration" of ``view_1``, ``target`` (B, C, H, W[, D]) and ``order`` (B, N).

        Args:
            batch: collated items of :class:`RandPOPARViewsd`.
            progress: not used.

        Returns:
            The two unweighted terms.

        Raises:
            KeyError: if a key is missing.
            ValueError: if the views or the order do not fit the backbone.
        """
        view, target, _ = self.get_tensors(batch, VIEW_1, TARGET, ORDER)
        check_view(VIEW_1, view, self.image_size, self.views_name)
        order = self.get_cells(batch, ORDER, self.grid)
        feature_map = self.backbone(view)  # (B, D, h, w)
        terms = {}
        if "order" in self.loss_weights:
            terms["order"] = order_cross_entropy(self.order_head(to_tokens(feature_map)), order)
        if "restoration" in self.loss_weights:
            terms["restoration"] = restoration_mse(self.restoration_head(feature_map), target)
        return terms

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the backbone."""
        return {"encoder": self.backbone}
