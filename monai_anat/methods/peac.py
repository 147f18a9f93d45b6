"""PEAC: anatomical consistency of the embeddings of two overlapping crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor, nn

from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import CORRESPONDENCE, IMAGE, ORDER, PAIR_COUNT, TARGET, VIEW_1, VIEW_2
from monai_anat.losses.consistency import global_consistency, matched_consistency
from monai_anat.losses.ordering import order_cross_entropy
from monai_anat.losses.restoration import restoration_mse
from monai_anat.methods.base import TeacherStudentMethod, check_view, mean_token, token_grid, used_terms
from monai_anat.methods.parts import frozen_copy
from monai_anat.methods.popar import Corruption, corrupt, draw_corruption, order_of
from monai_anat.methods.views import RandViewsd
from monai_anat.networks.backbones.backbone import Backbone, to_tokens
from monai_anat.networks.heads.order import OrderHead
from monai_anat.networks.heads.projection import ProjectionHead
from monai_anat.networks.heads.restoration import RestorationHead
from monai_anat.schedules import Progress
from monai_anat.transforms.distortions import RandDistort
from monai_anat.transforms.draws import check_prob
from monai_anat.transforms.geometry import crop_slices, match_cells, per_axis, required_shape
from monai_anat.transforms.grid_crops import GridCropsDraw, draw_grid_crops

__all__ = ["PEACMethod", "RandPEACViewsd", "check_margin"]


def check_margin(margin: int | Sequence[int], grid_size: int | Sequence[int]) -> None:
    """Check that two views on one grid overlap at every offset.

    Args:
        margin: largest offset between the views along an axis, in cells.
        grid_size: cells per side of a view.

    Raises:
        ValueError: if the margin is negative, or not less than the grid size.
    """
    if not (np.min(margin) >= 0 and (np.asarray(margin) < np.asarray(grid_size)).all()):
        raise ValueError(
            f"margin must be at least 0 and less than grid_size, so that the views overlap, got margin={margin} "
            f"and grid_size={grid_size}; PEAC and Lamps take 4 of 14"
        )


class RandPEACViewsd(RandViewsd):
    """Make the batch item of :class:`PEACMethod`: two overlapping crops on one grid, and their matching cells.

    A grid of ``grid_size + margin`` cells is placed at a uniformly random position in the image. Each crop starts at a
    random cell of it, 0 to ``margin`` along each axis. Nothing is resampled or flipped, because the heart lies on the
    left. View 1 is either distorted (with probability ``distort_prob``) or its cells are shuffled. View 2 is clean.
    PEAC (Zhou et al., BMVC 2023, arXiv:2312.00335); PEAC^-1 has ``margin=3, corrupt="both"``.

    The item holds ``view_1`` (distorted or shuffled), ``view_2`` and ``target`` (clean view 1), (C, h, w[, d]) each and
    normalized; ``order`` (N,), the identity if view 1 is not shuffled; ``correspondence`` (N,), which maps each cell of
    view 1 to its matching cell in view 2, or to -1. All entries are -1 if view 1 is shuffled.

    Differs from the released code: rows and columns are not exchanged in the correspondence.

    Args:
        keys: key of the image (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        grid_size: cells per side of a view, one number or one per axis.
        cell_size: side of a cell in pixels, the last stride of the backbone.
        margin: largest offset between the two views along an axis, in cells; less than ``grid_size``.
        distort_prob: probability of distorting view 1; otherwise its cells are shuffled.
        corrupt: "first" for a clean view 2. "both" also distorts view 2 (with a draw of its own) or shuffles it in the
            same order, as PEAC^-1 does.
        mean: mean of the gray levels in [0, 1], for normalization.
        std: standard deviation of the gray levels in [0, 1], for normalization.
        distorter: distortion; that of the papers by default.

    Raises:
        ValueError: if the margin allows views without overlap, ``corrupt`` is unknown, or a probability is outside
            [0, 1]; when called, if the image is smaller than the grid.

    >>> views = RandPEACViewsd(grid_size=4, cell_size=8, margin=1).set_random_state(0)
    >>> sample = views({"image": torch.rand(1, 48, 48)})
    >>> {key: tuple(value.shape) for key, value in sample.items() if key in ("view_1", "correspondence")}
    {'view_1': (1, 32, 32), 'correspondence': (16,)}
    """

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        grid_size: int | Sequence[int] = 14,
        cell_size: int | Sequence[int] = 32,
        margin: int | Sequence[int] = 4,
        *,
        distort_prob: float = 0.5,
        corrupt: Literal["first", "both"] = "first",
        mean: float = CHEST_MEAN,
        std: float = CHEST_STD,
        distorter: RandDistort | None = None,
    ) -> None:
        super().__init__(keys, mean, std)
        check_prob(distort_prob=distort_prob)
        if corrupt not in ("first", "both"):
            raise ValueError(f'corrupt must be "first" (PEAC) or "both" (PEAC^-1), got {corrupt!r}')
        check_margin(margin, grid_size)
        self.grid_size = grid_size
        self.cell_size = cell_size
        self.margin = margin
        self.distort_prob = distort_prob
        self.corrupt = corrupt
        self.distorter = RandDistort() if distorter is None else distorter
        self.crops = GridCropsDraw((), (), ())
        self.corruptions = (Corruption(), Corruption())

    def randomize(self, data: Sequence[int]) -> None:
        """Draw for an image of spatial shape ``data`` into ``crops`` and ``corruptions``."""
        self.crops = draw_grid_crops(self.R, data, self.grid_size, self.cell_size, self.margin)
        view = required_shape(self.grid_size, self.cell_size, 0, len(data))
        cells = prod(per_axis(self.grid_size, len(data), "grid_size"))
        first = draw_corruption(self.R, view, cells, self.distort_prob, self.distorter)
        second = Corruption()
        if self.corrupt == "both":
            second = first if first.distortion is None else Corruption(distortion=self.distorter.draw(self.R, view))
        self.corruptions = (first, second)

    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        """Draw and make views, target, order and correspondence of one image."""
        self.randomize(tuple(pixels.shape[1:]))
        crops, (first, second) = self.crops, self.corruptions
        crop_1, crop_2 = (
            pixels[(slice(None), *crop_slices(offset, self.grid_size, self.cell_size, crops.origin))]
            for offset in (crops.offset_1, crops.offset_2)
        )
        correspondence = match_cells(crops.offset_1, crops.offset_2, self.grid_size)
        return {
            VIEW_1: self.normalize(corrupt(crop_1, first, self.cell_size)),
            VIEW_2: self.normalize(corrupt(crop_2, second, self.cell_size)),
            TARGET: self.normalize(crop_1),
            ORDER: order_of(first, len(correspondence)),
            # the correspondence does not apply to shuffled cells
            CORRESPONDENCE: correspondence if first.order is None else torch.full_like(correspondence, -1),
        }


class PEACMethod(TeacherStudentMethod):
    r"""Patch embedding of anatomical consistency: POPAR on view 1, and consistency of student and teacher.

    With student :math:`s`, teacher :math:`t` and views 1 and 2, the terms are

    - "order" and "restoration": the terms of :class:`POPARMethod` on view 1;
    - "global_consistency": :math:`d(s_1, t_2) + d(s_2, t_1)` with :math:`d = 2 - 2 \cos` of the global embeddings;
    - "local_consistency": :math:`[m(s_1, t_2) + m(s_2, t_1)] / 2` with the mean squared difference :math:`m` of the
      local embeddings of matched cells, over samples that are not shuffled

    (Zhou et al., "Learning Anatomically Consistent Embedding for Chest Radiography", BMVC 2023, arXiv:2312.00335).
    Student and teacher see each view once, in one concatenated forward pass each where the normalization layers allow
    it.

    Differs from the released code: cells are matched by their true overlap (there, rows and columns are exchanged and
    85 % of the pairs show different anatomy); the teacher is always in evaluation mode and computes only what a term
    uses. The weights of the released multi-GPU script are ``global_weight=0.5e5 / 8192, local_weight=2.0``.

    Args:
        backbone: any backbone; 14 x 14 tokens of 32 pixels in the paper (Swin-B).
        image_size: side of a view in pixels, a multiple of ``backbone.strides[-1]``; one number or one per axis.
        global_dim: width of the global head and its embedding.
        local_dim: width of the local head and its embeddings.
        order_weight: weight of "order"; 0 disables the term and its head, here and below.
        restoration_weight: weight of "restoration".
        global_weight: weight of "global_consistency", per direction and in units of 2 - 2 cos. The default is the
            published 1e5 of the mean over 8192 entries, for every ``global_dim``.
        local_weight: weight of "local_consistency"; 0 is PEAC^-1.
        normalize_local: scale local embeddings to unit length before they are compared.

    Raises:
        ValueError: if the cells do not tile the view, a weight is negative, or both consistency weights are 0.

    >>> from monai_anat.networks import SwinBackbone
    >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    >>> method = PEACMethod(backbone, image_size=16, global_dim=32, local_dim=16)
    >>> image, cells = torch.rand(2, 1, 16, 16), torch.arange(16).repeat(2, 1)
    >>> batch = {"view_1": image, "view_2": image, "target": image, "order": cells, "correspondence": cells}
    >>> sorted(method(batch, Progress(0, 1, 0, 1)))
    ['global_consistency', 'local_consistency', 'order', 'restoration']
    """

    views_name = "RandPEACViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        image_size: int | tuple[int, ...] = 448,
        global_dim: int = 8192,
        local_dim: int = 512,
        order_weight: float = 1.0,
        restoration_weight: float = 1.0,
        global_weight: float = 1e5 / 8192,
        local_weight: float = 1.0,
        normalize_local: bool = False,
    ) -> None:
        super().__init__()
        self.loss_weights = used_terms(
            order=order_weight,
            restoration=restoration_weight,
            global_consistency=global_weight,
            local_consistency=local_weight,
        )
        if not {"global_consistency", "local_consistency"} & set(self.loss_weights):
            raise ValueError(
                "global_weight or local_weight must be positive, got 0 for both; "
                "order and restoration alone, without a teacher, are POPARMethod"
            )
        self.grid = token_grid(backbone, image_size)
        self.image_size = tuple(cells * backbone.strides[-1] for cells in self.grid)
        self.normalize_local = normalize_local
        features = backbone.num_features
        self.backbone = backbone
        self.teacher = nn.ModuleDict({"backbone": frozen_copy(backbone)})
        if "order" in self.loss_weights:
            self.order_head = OrderHead(features, prod(self.grid))
        if "restoration" in self.loss_weights:
            self.restoration_head = RestorationHead(
                features, backbone.strides[-1], out_channels=backbone.in_channels, spatial_dims=backbone.spatial_dims
            )
        if "global_consistency" in self.loss_weights:
            self.global_head = ProjectionHead(features, global_dim)
            self.teacher["global_head"] = frozen_copy(self.global_head)
        if "local_consistency" in self.loss_weights:
            self.local_head = ProjectionHead(features, local_dim)
            self.teacher["local_head"] = frozen_copy(self.local_head)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the terms of ``view_1``, ``view_2``, ``target`` (B, C, H, W[, D]), ``order``, ``correspondence``.

        Args:
            batch: collated items of :class:`RandPEACViewsd`; the local term divides by ``pair_count``, if given.
            progress: not used.

        Returns:
            The unweighted terms by name.

        Raises:
            KeyError: if a key is missing.
            ValueError: if the views, the order or the correspondence do not fit the backbone.
        """
        view_1, view_2 = self._views(batch)
        student_1, student_2 = self.forward_together(self.backbone, view_1, view_2)  # (B, D, h, w) each
        with torch.no_grad():
            teacher_1, teacher_2 = self.forward_together(self.teacher["backbone"], view_1, view_2)
        terms = {}
        if "order" in self.loss_weights:
            order = self.get_cells(batch, ORDER, self.grid)
            terms["order"] = order_cross_entropy(self.order_head(to_tokens(student_1)), order)
        if "restoration" in self.loss_weights:
            (target,) = self.get_tensors(batch, TARGET)
            terms["restoration"] = restoration_mse(self.restoration_head(student_1), target)
        if "global_consistency" in self.loss_weights:
            terms["global_consistency"] = self._global_term(student_1, student_2, teacher_1, teacher_2)
        if "local_consistency" in self.loss_weights:
            correspondence = self.get_cells(batch, CORRESPONDENCE, self.grid)
            terms["local_consistency"] = self._local_term(
                student_1, student_2, teacher_1, teacher_2, correspondence, batch.get(PAIR_COUNT)
            )
        return terms

    def loss_denominators(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Count the matched cells of the batch, the denominator of "local_consistency"."""
        if "local_consistency" not in self.loss_weights:
            return {}
        return {PAIR_COUNT: (self.get_cells(batch, CORRESPONDENCE, self.grid) >= 0).sum()}

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the student's backbone."""
        return {"encoder": self.backbone}

    def _views(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        view_1, view_2 = self.get_tensors(batch, VIEW_1, VIEW_2)
        check_view(VIEW_1, view_1, self.image_size, self.views_name)
        check_view(VIEW_2, view_2, self.image_size, self.views_name)
        return view_1, view_2

    def _global_term(self, student_1: Tensor, student_2: Tensor, teacher_1: Tensor, teacher_2: Tensor) -> Tensor:
        s1, s2 = self.forward_together(self.global_head, mean_token(student_1), mean_token(student_2))
        with torch.no_grad():
            head = self.teacher["global_head"]
            t1, t2 = self.forward_together(head, mean_token(teacher_1), mean_token(teacher_2))
        return global_consistency(s1, t2) + global_consistency(s2, t1)

    def _local_term(
        self,
        student_1: Tensor,
        student_2: Tensor,
        teacher_1: Tensor,
        teacher_2: Tensor,
        correspondence: Tensor,
        pair_count: Tensor | None,
    ) -> Tensor:
        s1, s2 = self.forward_together(self.local_head, to_tokens(student_1), to_tokens(student_2))
        with torch.no_grad():
            head = self.teacher["local_head"]
            t1, t2 = self.forward_together(head, to_tokens(teacher_1), to_tokens(teacher_2))
        # the correspondence maps view 1 to view 2, so view 1 is the first argument in both directions
        to_2 = matched_consistency(s1, t2, correspondence, pair_count, normalize=self.normalize_local)
        to_1 = matched_consistency(t1, s2, correspondence, pair_count, normalize=self.normalize_local)
        return (to_2 + to_1) / 2
