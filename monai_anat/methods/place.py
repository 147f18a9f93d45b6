"""PLACE: positional local anatomical contrast."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.distributed import gather_rows, get_rank_and_world_size
from monai_anat.keys import (
    CORRESPONDENCE,
    MATCH,
    MATCH_COUNT,
    ORDER,
    PAIR_COUNT,
    POSITION_1,
    POSITION_2,
    SUBCELLS,
    TARGET,
    VIEW_1,
    VIEW_2,
)
from monai_anat.losses.ordering import order_cross_entropy
from monai_anat.losses.positional_contrast import soft_positional_contrast
from monai_anat.losses.restoration import restoration_mse
from monai_anat.losses.whitening import token_whitening
from monai_anat.methods.base import TeacherStudentMethod, check_view, token_grid, used_terms
from monai_anat.methods.parts import MethodPart, frozen_copy
from monai_anat.networks.backbones.backbone import Backbone, to_tokens
from monai_anat.networks.heads.order import OrderHead
from monai_anat.networks.heads.restoration import RestorationHead
from monai_anat.precision import at_least_float32
from monai_anat.schedules import Progress

__all__ = ["CellContrast", "PLACEMethod", "inverse_match", "select_subcells"]

#: tokens of the joint batch in the statistics of "whitening"
_WHITENED_TOKENS = 1024


class CellContrast(MethodPart):
    """Projection of cells at one stride, its teacher, and the soft positional contrast of both directions.

    Args:
        in_features: channels of the feature map.
        embedding_dim: width of the embeddings.
        temperature: temperature of the contrast.
        sigma: scale of the positional weights, in [0, 1] of the image.

    Raises:
        ValueError: if the temperature or sigma is not positive.

    >>> CellContrast(8, embedding_dim=4)(torch.rand(2, 9, 8), torch.rand(2, 9, 8), torch.rand(2, 9, 2),
    ...     torch.arange(9).repeat(2, 1)).shape
    torch.Size([])
    """

    def __init__(
        self, in_features: int, embedding_dim: int = 128, *, temperature: float = 0.2, sigma: float = 0.06
    ) -> None:
        super().__init__()
        if min(temperature, sigma) <= 0:
            raise ValueError(
                f"temperature and sigma must be positive, got {temperature} and {sigma}; PLACE has 0.2, 0.06"
            )
        self.temperature = temperature
        self.sigma = sigma
        self.projection = nn.Sequential(
            nn.LayerNorm(in_features),
            nn.Linear(in_features, 2 * in_features),
            nn.GELU(),
            nn.Linear(2 * in_features, embedding_dim),
        )
        self.teacher_projection = frozen_copy(self.projection)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        positions: Tensor,
        match: Tensor,
        denominator: Tensor | None = None,
    ) -> Tensor:
        """Contrast the student's cells of one view with the teacher's cells of the other, over all processes.

        Args:
            student: the student's tokens of one view (B, N, D).
            teacher: the teacher's tokens of the other view (B, N, D).
            positions: centers of the teacher's cells (B, N, d) in the whole image.
            match: cell of the other view (B, N) that shows the pixels of each cell, or -1.
            denominator: number of matched cells; counted here if None.

        Returns:
            The scalar of :func:`~monai_anat.losses.soft_positional_contrast`.
        """
        batch, cells = match.shape
        query = _unit(self.projection(student)).flatten(0, 1)
        with torch.no_grad():
            keys = gather_rows(_unit(self.teacher_projection(teacher))).flatten(0, 1)  # (B * processes * N, E)
        rank, processes = get_rank_and_world_size()
        image = torch.arange(batch, device=match.device) * processes + rank  # row in the joint batch
        joint = torch.where(match >= 0, match + image[:, None] * cells, -1).flatten()
        places = gather_rows(positions).flatten(0, 1)
        return soft_positional_contrast(query, keys, places, joint, self.temperature, self.sigma, denominator)

    def student_teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pair the student's projection with the teacher's."""
        return [(self.projection, self.teacher_projection)]


class PLACEMethod(TeacherStudentMethod):
    r"""Positional local anatomical contrast: order and restoration, and contrast of matched cells at two strides.

    A student :math:`s` learns from its moving average :math:`t`. The terms are

    - "order" and "restoration": the terms of :class:`POPARMethod` on view 1;
    - "coarse_contrast": contrast of matched cells of the last map, the mean of both directions. Queries of view 1 are
      answered by the teacher's keys of view 2, and queries of view 2 by the teacher's keys of the clean view 1.
      Negatives are the cells of all images of the joint batch, weighted by their distance from the match in the
      radiograph, see :func:`~monai_anat.losses.soft_positional_contrast`;
    - "fine_contrast": the same at a finer map, with one randomly chosen sub-cell for each cell of the last map;
    - "whitening": variance and covariance of the layer-normalized tokens of view 2, see
      :func:`~monai_anat.losses.token_whitening`.

    A method of this package, in 2D and 3D. It is built on ideas of SAM (pixel contrast, arXiv:2012.02383), PCL
    (positions choose pairs, arXiv:2106.09157), DenseCL (arXiv:2011.09157), VICRegL (arXiv:2210.01571), Adam (pruned
    negatives), POPAR and PEAC; the soft positional weight of negatives is its own.

    The negatives and the statistics of "whitening" are those of the joint batch, so micro-batches change them. At most
    one image per patient should be in a batch.

    Args:
        backbone: any backbone. "fine_contrast" needs at least two maps; backbones with one map, such as ViT, train
            without it.
        image_size: side of a view in pixels, a multiple of ``backbone.strides[-1]``; one number or one per axis.
        embedding_dim: width of the contrasted embeddings.
        temperature: temperature of the contrast.
        sigma: scale of the positional weights, in [0, 1] of the image; about one cell.
        order_weight: weight of "order"; 0 disables the term and its head, here and below.
        restoration_weight: weight of "restoration".
        coarse_weight: weight of "coarse_contrast".
        fine_weight: weight of "fine_contrast".
        whitening_weight: weight of "whitening".

    Raises:
        ValueError: if the cells do not tile the view, a weight is negative, or both contrast weights are 0.

    >>> from monai_anat.networks import SwinBackbone
    >>> from monai_anat.methods import RandPLACEViewsd
    >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    >>> method = PLACEMethod(backbone, image_size=16, embedding_dim=8)
    >>> views = RandPLACEViewsd(grid_size=4, cell_size=4, margin=1)
    >>> samples = [views.set_random_state(seed)({"image": torch.rand(1, 24, 24)}) for seed in range(2)]
    >>> batch = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
    >>> sorted(method(batch, Progress(0, 1, 0, 1)))
    ['coarse_contrast', 'fine_contrast', 'order', 'restoration', 'whitening']
    """

    views_name = "RandPLACEViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        image_size: int | tuple[int, ...] = 448,
        embedding_dim: int = 128,
        temperature: float = 0.2,
        sigma: float = 0.06,
        order_weight: float = 0.5,
        restoration_weight: float = 0.5,
        coarse_weight: float = 1.0,
        fine_weight: float = 1.0,
        whitening_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not coarse_weight and not fine_weight:
            raise ValueError(
                "coarse_weight or fine_weight must be positive, got 0 for both; order and restoration alone are "
                "POPARMethod"
            )
        self.fine_map = max(0, len(backbone.channels) - 3)  # two maps before the last, or the first
        pyramid = len(backbone.channels) > 1
        self.loss_weights = used_terms(
            order=order_weight,
            restoration=restoration_weight,
            coarse_contrast=coarse_weight,
            fine_contrast=fine_weight if pyramid else 0.0,
            whitening=whitening_weight,
        )
        self.grid = token_grid(backbone, image_size)
        self.image_size = tuple(cells * backbone.strides[-1] for cells in self.grid)
        features = backbone.num_features
        self.backbone = backbone
        self.teacher = nn.ModuleDict({"backbone": frozen_copy(backbone)})
        options = {"temperature": temperature, "sigma": sigma}
        if "order" in self.loss_weights:
            self.order_head = OrderHead(features, prod(self.grid))
        if "restoration" in self.loss_weights:
            self.restoration_head = RestorationHead(
                features, backbone.strides[-1], out_channels=backbone.in_channels, spatial_dims=backbone.spatial_dims
            )
        if "coarse_contrast" in self.loss_weights:
            self.coarse = CellContrast(features, embedding_dim, **options)
        if "fine_contrast" in self.loss_weights:
            self.fine = CellContrast(backbone.channels[self.fine_map], embedding_dim, **options)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the terms of ``view_1``, ``view_2``, ``target`` (B, C, H, W[, D]), their matches and positions.

        Args:
            batch: collated items of :class:`RandPLACEViewsd`; the contrasts divide by ``pair_count`` and
                ``match_count``, if given.
            progress: current position; its step selects the tokens of "whitening".

        Returns:
            The unweighted terms by name.

        Raises:
            KeyError: if a key is missing.
            ValueError: if the views or the matches do not fit the backbone.
        """
        view_1, view_2, target = self._views(batch)
        student_1, student_2 = self.backbone.forward_features(view_1), self.backbone.forward_features(view_2)
        with torch.no_grad():
            network: Any = self.teacher["backbone"]
            teacher_1, teacher_2 = network.forward_features(target), network.forward_features(view_2)
        terms = {}
        if "order" in self.loss_weights:
            order = self.get_cells(batch, ORDER, self.grid)
            terms["order"] = order_cross_entropy(self.order_head(to_tokens(student_1[-1])), order)
        if "restoration" in self.loss_weights:
            terms["restoration"] = restoration_mse(self.restoration_head(student_1[-1]), target)
        if "coarse_contrast" in self.loss_weights:
            maps = [to_tokens(maps[-1]) for maps in (student_1, student_2, teacher_1, teacher_2)]
            terms["coarse_contrast"] = self._contrast(self.coarse, batch, maps)
        if "fine_contrast" in self.loss_weights:
            terms["fine_contrast"] = self._fine(batch, student_1, student_2, teacher_1, teacher_2)
        if "whitening" in self.loss_weights:
            terms["whitening"] = self._whitening(to_tokens(student_2[-1]), progress.step)
        return terms

    def loss_denominators(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Count the matched cells of both directions, the denominators of the contrasts."""
        pairs, matches = (self.get_cells(batch, key, self.grid) for key in (CORRESPONDENCE, MATCH))
        return {PAIR_COUNT: (pairs >= 0).sum(), MATCH_COUNT: (matches >= 0).sum()}

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the teacher's backbone."""
        return {"encoder": self.teacher["backbone"]}

    def _views(self, batch: Mapping[str, Any]) -> tuple[Tensor, ...]:
        views = self.get_tensors(batch, VIEW_1, VIEW_2, TARGET)
        for key, view in zip((VIEW_1, VIEW_2, TARGET), views, strict=True):
            check_view(key, view, self.image_size, self.views_name)
        return views

    def _contrast(
        self,
        part: CellContrast,
        batch: Mapping[str, Any],
        maps: list[Tensor],
        shifts: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Average both directions; ``maps`` are tokens of student 1 and 2 and of teacher 1 and 2."""
        student_1, student_2, teacher_1, teacher_2 = maps
        position_1, position_2 = self.get_tensors(batch, POSITION_1, POSITION_2)
        if shifts is not None:
            position_1, position_2 = position_1 + shifts[0], position_2 + shifts[1]
        forth = self.get_cells(batch, CORRESPONDENCE, self.grid)
        back = inverse_match(self.get_cells(batch, MATCH, self.grid))
        to_2 = part(student_1, teacher_2, position_2, forth, batch.get(PAIR_COUNT))
        to_1 = part(student_2, teacher_1, position_1, back, batch.get(MATCH_COUNT))
        mean: Tensor = (to_2 + to_1) / 2
        return mean

    def _fine(self, batch: Mapping[str, Any], *stages: list[Tensor]) -> Tensor:
        """Contrast one sub-cell of each cell; matched cells have the same sub-cell in both views."""
        (own,) = self.get_tensors(batch, SUBCELLS)
        match = self.get_cells(batch, MATCH, self.grid)
        dims = len(self.grid)
        source = inverse_match(match)  # (B, N) cell of view 1 for each cell of view 2
        other = own.gather(1, source.clamp(min=0)[..., None].expand(-1, -1, dims))
        other = torch.where((source >= 0)[..., None], other, own)
        factor = self.backbone.strides[-1] // self.backbone.strides[self.fine_map]
        parts = [(draw * factor).long().clamp(max=factor - 1) for draw in (own, other)]
        maps = [
            select_subcells(maps[self.fine_map], part, self.grid)
            for maps, part in zip(stages, (parts[0], parts[1], parts[0], parts[1]), strict=True)
        ]
        shifts = []
        for part, key in zip(parts, (POSITION_1, POSITION_2), strict=True):
            centers = batch[key]
            span = (centers.amax(1) - centers.amin(1))[:, None]  # (B, 1, d)
            extent = span / torch.tensor([max(1, side - 1) for side in self.grid], device=span.device)
            shifts.append(((part + 0.5) / factor - 0.5) * extent)
        return self._contrast(self.fine, batch, maps, (shifts[0], shifts[1]))

    def _whitening(self, tokens: Tensor, step: int) -> Tensor:
        """Whiten evenly spaced tokens of the joint batch, others in every step."""
        cells, width = tokens.shape[1:]
        images = len(tokens) * get_rank_and_world_size()[1]
        wanted = min(cells, max(1, _WHITENED_TOKENS // images))
        chosen = (torch.arange(wanted, device=tokens.device) * cells // wanted + step) % cells
        rows = gather_rows(F.layer_norm(at_least_float32(tokens[:, chosen]), (width,), eps=1e-6)).flatten(0, 1)
        return token_whitening(rows, 0.04 if len(rows) >= 2 * width else 0.0)


def inverse_match(match: Tensor) -> Tensor:
    """Invert maps between the cells of two views.

    Args:
        match: cell of the other view (B, N) for each cell, or -1; no cell occurs twice.

    Returns:
        The inverse maps (B, N), -1 where no cell maps.

    >>> inverse_match(torch.tensor([[1, -1, 0]]))
    tensor([[ 2,  0, -1]])
    """
    batch, cells = match.shape
    inverse = torch.full((batch, cells + 1), -1, dtype=match.dtype, device=match.device)
    source = torch.arange(cells, device=match.device).expand(batch, -1)
    return inverse.scatter(1, torch.where(match >= 0, match, cells), source)[:, :cells]


def select_subcells(feature_map: Tensor, parts: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Select one token of a fine feature map within each cell of a coarser grid.

    Args:
        feature_map: fine map (B, D, h, w[, d]); each side is a multiple of the grid's.
        parts: position (B, N, d) of the token within each cell, in tokens.
        grid: cells per axis.

    Returns:
        Tokens (B, N, D), in the order of the cells.

    >>> fine = torch.arange(8.0).view(1, 1, 2, 4)
    >>> select_subcells(fine, torch.tensor([[[1, 0], [0, 1]]]), (1, 2)).flatten()
    tensor([4., 3.])
    """
    sides = feature_map.shape[2:]
    axes = torch.meshgrid(*(torch.arange(side, device=parts.device) for side in grid), indexing="ij")
    index = torch.zeros(parts.shape[:2], dtype=torch.long, device=parts.device)
    for axis, (cells, side, coordinate) in enumerate(zip(grid, sides, axes, strict=True)):
        index = index * side + coordinate.flatten() * (side // cells) + parts[..., axis]
    tokens = to_tokens(feature_map)  # (B, h * w, D)
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2]))


def _unit(embedding: Tensor) -> Tensor:
    """Scale embeddings (..., D) to unit length, in float32 even under autocast."""
    return F.normalize(at_least_float32(embedding), dim=-1, eps=1e-6)
