"""ACE: composition and decomposition of the tokens of a large and a small crop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from torch import Tensor, nn

from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import CROP_OFFSET, IMAGE, VIEW_1, VIEW_2
from monai_anat.losses.distillation import check_temperatures
from monai_anat.losses.matching import matching_cross_entropy
from monai_anat.methods.base import TeacherStudentMethod, check_view, token_grid, used_terms
from monai_anat.methods.contrast_views import check_area
from monai_anat.methods.parts import frozen_copy
from monai_anat.methods.self_distillation import SelfDistillation
from monai_anat.methods.views import RandViewsd
from monai_anat.networks.backbones.backbone import Backbone, to_tokens
from monai_anat.networks.heads.matching_heads import DenseHead, DownsamplingHead, UpsamplingHead, masked_mean
from monai_anat.precision import at_least_float32
from monai_anat.schedules import Progress
from monai_anat.transforms.appearance import Appearance, RandAppearance, change_appearance
from monai_anat.transforms.cell_matches import shifted_inside, soft_match_targets
from monai_anat.transforms.draws import check_prob
from monai_anat.transforms.geometry import per_axis
from monai_anat.transforms.local_contrast import equalize_regions, sharpen
from monai_anat.transforms.part_whole_crops import (
    PartWholeCropsDraw,
    check_part_whole_grid,
    cut_part_whole_crops,
    draw_part_whole_crops,
)
from monai_anat.transforms.resized_crops import draw_resized_crop_box, resized_crop

__all__ = ["ACEMethod", "RandACEViewsd"]

#: range of the amount of sharpening and of the clip limit of the equalization, as commonly set for photographs
_SHARPEN_AMOUNT, _EQUALIZE_CLIP = (0.2, 0.5), (1.0, 4.0)
#: radius of the soft targets in cells, on the grid of the large crop's parts and of the small crop's wholes
_DECOMPOSITION_RADIUS, _COMPOSITION_RADIUS = 2, 1
#: weight alpha of a match, in the decomposition and in the composition
_DECOMPOSITION_ALPHA, _COMPOSITION_ALPHA = 0.99, 0.9


class RandACEViewsd(RandViewsd):
    """Make the batch item of :class:`ACEMethod`: a large and a small crop, and the offset between them.

    A random part of the image is resampled to ``source_grid`` cells per side. The large crop covers
    ``scale * grid_size`` cells and is reduced to the size of the small crop, ``grid_size`` cells at full resolution. A
    token of the large crop then covers a block of whole tokens of the small one, see
    :func:`~monai_anat.transforms.draw_part_whole_crops`. Brightness and contrast, blur, sharpness and local contrast of
    each crop change independently. Student and teacher see the same images. There is no flip, because the heart lies on
    the left. ACE (arXiv:2501.10131).

    The item holds ``view_1`` (large) and ``view_2`` (small), (C, h, w) each and normalized, and ``crop_offset`` (2,),
    cells from the first cell of the large crop to the first cell of the small one (row, column).

    Differs from the released code: coordinates are (row, column) throughout (there, with a scale of 2, only 8.64 % of
    the pairs show the same anatomy).

    Args:
        keys: key of the image (C, H, W), uint8, uint16, or floating point in [0, 1].
        grid_size: tokens per side of a view, one number or one per axis; a multiple of the scale.
        cell_size: side of a cell in pixels, the last stride of the backbone.
        source_grid: cells per side of the resampled image.
        scale: cells per token of the large crop along rows and columns: (2, 2), (1, 2), (2, 1) or (1, 1).
        area: smallest and largest share of the image that is resampled.
        appearance: change of brightness, contrast and blur; up to 0.2, each with probability 0.5, by default.
            ``blur_sigma`` is in pixels, so scale it with the size of the views.
        sharpen_prob: probability of sharpening a crop.
        equalize_prob: probability of equalizing the local contrast of a crop (CLAHE).
        mean: mean of the gray levels in [0, 1], for normalization.
        std: standard deviation of the gray levels in [0, 1], for normalization.

    Raises:
        ValueError: if the grids do not fit each other, a probability is outside [0, 1], or (when called) the image is a
            volume.

    >>> views = RandACEViewsd(grid_size=4, cell_size=8, source_grid=10).set_random_state(0)
    >>> sample = views({"image": torch.rand(1, 90, 96)})
    >>> {key: tuple(value.shape) for key, value in sample.items()}
    {'view_1': (1, 32, 32), 'view_2': (1, 32, 32), 'crop_offset': (2,)}
    """

    takes_volumes = False

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        grid_size: int | Sequence[int] = 14,
        cell_size: int | Sequence[int] = 32,
        source_grid: int | Sequence[int] = 32,
        *,
        scale: Sequence[int] = (2, 2),
        area: tuple[float, float] = (0.85, 1.0),
        appearance: RandAppearance | None = None,
        sharpen_prob: float = 0.3,
        equalize_prob: float = 0.3,
        mean: float = CHEST_MEAN,
        std: float = CHEST_STD,
    ) -> None:
        super().__init__(keys, mean, std)
        _check_scale(scale)
        self.source_grid, self.grid_size = check_part_whole_grid(source_grid, grid_size, scale)
        self.cell_size = per_axis(cell_size, 2, "cell_size")
        check_area("area", area)
        check_prob(sharpen_prob=sharpen_prob, equalize_prob=equalize_prob)
        self.scale = tuple(scale)
        self.area = area
        self.appearance = RandAppearance(0.2, 0.2, jitter_prob=0.5) if appearance is None else appearance
        self.sharpen_prob = sharpen_prob
        self.equalize_prob = equalize_prob
        self.box = np.zeros((2, 0), np.int64)
        self.crops = PartWholeCropsDraw((), ())
        #: of each crop: change of appearance, amount of sharpening, clip limit of the equalization (0 for none)
        self.changes: list[tuple[Appearance, float, float]] = []

    def randomize(self, data: Sequence[int]) -> None:
        """Draw for an image of spatial shape ``data`` into ``box``, ``crops`` and ``changes``."""
        self.box = draw_resized_crop_box(self.R, data, self.area)
        self.crops = draw_part_whole_crops(self.R, self.source_grid, self.grid_size, self.scale)
        self.changes = []
        for _ in range(2):
            appearance = self.appearance.draw(self.R)
            sharpened, equalized = self.R.random_sample(2) < (self.sharpen_prob, self.equalize_prob)
            amount, clip = self.R.uniform(*_SHARPEN_AMOUNT), self.R.uniform(*_EQUALIZE_CLIP)
            self.changes.append((appearance, amount if sharpened else 0.0, clip if equalized else 0.0))

    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        """Draw and make both crops of one image and their offset."""
        self.randomize(tuple(pixels.shape[1:]))
        size = [g * c for g, c in zip(self.source_grid, self.cell_size, strict=True)]
        source = resized_crop(pixels, self.box, size, "bicubic")
        crops = cut_part_whole_crops(source, self.crops, self.grid_size, self.cell_size, self.scale)
        large, small = (self._change(crop, *change) for crop, change in zip(crops, self.changes, strict=True))
        offset = torch.tensor(self.crops.offset, dtype=torch.long)
        return {VIEW_1: self.normalize(large), VIEW_2: self.normalize(small), CROP_OFFSET: offset}

    def _change(self, crop: Tensor, appearance: Appearance, amount: float, clip: float) -> Tensor:
        crop = change_appearance(crop, appearance)
        crop = sharpen(crop, amount) if amount else crop
        return equalize_regions(crop, clip) if clip else crop


class ACEMethod(TeacherStudentMethod):
    r"""Anatomically consistent embeddings in composition and decomposition.

    View 1 is a large crop :math:`l` and view 2 a small crop :math:`s` of the same image. A token of the large crop
    covers a block of tokens of the small one (2 x 2). The teacher's dense head gives unit tokens :math:`t`. The
    student's dense head gives tokens that are up-sampled (:math:`u`, a token predicts its parts) or down-sampled
    (:math:`d`, parts predict their whole). The terms are

    - "decomposition": match each small token to its place among the parts of the large crop, :math:`z = t_s \cdot u_l /
      \tau`, with soft targets of radius 2 and a weighted cross-entropy with :math:`\alpha = 0.99`;
    - "composition": match each large token to its place among the wholes of the small crop, :math:`z = t_l \cdot d_s /
      \tau`, with soft targets of radius 1 and :math:`\alpha = 0.9`;
    - "global_consistency": :math:`[H(t_s, s_l) + H(t_l, s_s)] / 2`, self-distillation of the mean token of the overlap.

    ("ACE: Anatomically Consistent Embeddings in Composition and Decomposition", arXiv:2501.10131.) As in the paper,
    only these two directions are matched. 2D only.

    Differs from the released code: tokens are matched by their true overlap (there, rows and columns are exchanged and
    8.64 % of the pairs show the same anatomy); center and prototype head see the rows of the overlap alone; the
    student's predictions are scaled to unit length (``normalize_student=False`` gives the released scale); batch
    normalization of the dense head is over all processes, and the teacher uses running statistics.

    Args:
        backbone: any 2D backbone; 14 x 14 tokens of 32 pixels in the paper (Swin-B).
        image_size: side of a view in pixels, a multiple of ``backbone.strides[-1]``; one number or one per axis.
        scale: ``scale`` of :class:`RandACEViewsd`.
        num_prototypes: number of prototypes of the self-distillation; use fewer for a small run.
        head_features: width of the hidden layers of the prototype head.
        bottleneck_features: width of its last hidden layer, which is scaled to unit length.
        global_weight: weight of "global_consistency"; 0 disables the term and its heads.
        decomposition_weight: weight of "decomposition"; 0 disables the term and its heads.
        composition_weight: weight of "composition"; 0 disables the term and its heads.
        temperature: :math:`\tau` of the matching.
        normalize_student: scale up- and down-sampled tokens to unit length, so that no logit exceeds 1 / tau.
        student_temperature: temperature of the student in the self-distillation.
        teacher_temperature: temperature of the teacher in the self-distillation.
        center_momentum: weight of the old center of the teacher's scores.
        frozen_prototype_epochs: epochs at the start in which the prototypes get no gradient.

    Raises:
        ValueError: if the backbone is not 2D, the cells do not tile the view, the grid is not a multiple of the scale,
            a weight is negative, or a temperature is not positive.

    >>> from monai_anat.networks import SwinBackbone
    >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    >>> method = ACEMethod(backbone, image_size=16, num_prototypes=32, head_features=16, bottleneck_features=8)
    >>> views = {name: torch.rand(2, 1, 16, 16) for name in ("view_1", "view_2")}
    >>> sorted(method({**views, "crop_offset": torch.tensor([[0, 2], [2, 4]])}, Progress(0, 1, 0, 1)))
    ['composition', 'decomposition', 'global_consistency']
    """

    views_name = "RandACEViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        image_size: int | tuple[int, ...] = 448,
        scale: Sequence[int] = (2, 2),
        num_prototypes: int = 65536,
        head_features: int = 2048,
        bottleneck_features: int = 256,
        global_weight: float = 0.1,
        decomposition_weight: float = 0.5,
        composition_weight: float = 0.5,
        temperature: float = 0.07,
        normalize_student: bool = True,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        center_momentum: float = 0.9,
        frozen_prototype_epochs: int = 1,
    ) -> None:
        super().__init__()
        if backbone.spatial_dims != 2:
            raise ValueError(
                f"backbone must be 2D, got spatial_dims={backbone.spatial_dims}; ACE is for radiographs, "
                "PEACMethod and POPARMethod take volumes"
            )
        check_temperatures(temperature=temperature)
        self.loss_weights = used_terms(
            decomposition=decomposition_weight, composition=composition_weight, global_consistency=global_weight
        )
        self.grid = token_grid(backbone, image_size)
        self.image_size = tuple(cells * backbone.strides[-1] for cells in self.grid)
        self.scale = _check_scale(scale)
        if any(side % step for side, step in zip(self.grid, self.scale, strict=True)):
            raise ValueError(
                f"the view must have a multiple of scale={self.scale} tokens, got {self.grid} for "
                f"image_size={image_size} and strides[-1]={backbone.strides[-1]}; take an even number of cells"
            )
        self.temperature = temperature
        self.normalize_student = normalize_student
        self.backbone = backbone
        self.teacher = nn.ModuleDict({"backbone": frozen_copy(backbone)})
        self._add_matching_heads()
        if "global_consistency" in self.loss_weights:
            self.distillation = SelfDistillation(
                backbone.num_features,
                num_prototypes,
                hidden_features=head_features,
                bottleneck_features=bottleneck_features,
                student_temperature=student_temperature,
                teacher_temperature=teacher_temperature,
                center_momentum=center_momentum,
                frozen_epochs=frozen_prototype_epochs,
            )
            self.find_unused_parameters = frozen_prototype_epochs > 0

    def _add_matching_heads(self) -> None:
        features = self.backbone.num_features
        if {"decomposition", "composition"} & set(self.loss_weights):
            self.dense_head = DenseHead(features)
            self.teacher["dense_head"] = frozen_copy(self.dense_head)
        if "decomposition" in self.loss_weights:
            self.upsampling_head = UpsamplingHead(features, self.scale)
        if "composition" in self.loss_weights:
            self.downsampling_head = DownsamplingHead(features, self.scale)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the terms of ``view_1`` (large), ``view_2`` (small), (B, C, H, W) each, and ``crop_offset`` (B, 2).

        Args:
            batch: collated items of :class:`RandACEViewsd`. Samples without matching cells have targets of 0 and a
                mean token of 0.
            progress: current position; its epoch freezes the prototypes.

        Returns:
            The unweighted terms by name.

        Raises:
            KeyError: if a key is missing.
            ValueError: if the views or the offsets do not fit the backbone.
        """
        large, small, offset = self._inputs(batch)
        student_large, student_small = self.forward_together(self.backbone, large, small)  # (B, D, h, w) each
        with torch.no_grad():
            teacher_large, teacher_small = self.forward_together(self.teacher["backbone"], large, small)
        # small token i is part i + offset of the large crop;
        # large token i is whole i - offset / scale of the small crop
        to_large = offset
        to_small = torch.stack([-offset[:, axis] // step for axis, step in enumerate(self.scale)], 1)
        parts = [side * step for side, step in zip(self.grid, self.scale, strict=True)]
        wholes = [side // step for side, step in zip(self.grid, self.scale, strict=True)]
        terms = {}
        if "decomposition" in self.loss_weights:
            predicted = self.upsampling_head(self.dense_head(student_large))
            targets = soft_match_targets(to_large, self.grid, parts, _DECOMPOSITION_RADIUS)
            logits = self._logits(teacher_small, predicted)
            terms["decomposition"] = matching_cross_entropy(logits, targets, _DECOMPOSITION_ALPHA)
        if "composition" in self.loss_weights:
            predicted = self.downsampling_head(self.dense_head(student_small))
            targets = soft_match_targets(to_small, self.grid, wholes, _COMPOSITION_RADIUS)
            logits = self._logits(teacher_large, predicted)
            terms["composition"] = matching_cross_entropy(logits, targets, _COMPOSITION_ALPHA)
        if "global_consistency" in self.loss_weights:
            inside = shifted_inside(to_small, self.grid, wholes), shifted_inside(to_large, self.grid, parts)
            student, teacher = (student_large, student_small), (teacher_large, teacher_small)
            terms["global_consistency"] = self._global_term(student, teacher, inside, progress.epoch)
        return terms

    def after_step(self, progress: Progress) -> None:
        """Move the center of the teacher's scores."""
        if "global_consistency" in self.loss_weights:
            self.distillation.update_center()

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the student's backbone."""
        return {"encoder": self.backbone}

    def _inputs(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        large, small, offset = self.get_tensors(batch, VIEW_1, VIEW_2, CROP_OFFSET)
        check_view(VIEW_1, large, self.image_size, self.views_name)
        check_view(VIEW_2, small, self.image_size, self.views_name)
        if offset.shape != (len(large), 2):
            raise ValueError(
                f"{CROP_OFFSET} must be (B, 2), cells (row, column) from the large crop to the small one, got "
                f"{tuple(offset.shape)} for {len(large)} images; {self.views_name} makes it"
            )
        return large, small, offset

    def _logits(self, seen: Tensor, predicted: Tensor) -> Tensor:
        """Compute similarities (B, N, M) of the teacher's tokens and the student's predictions."""
        with torch.no_grad():
            tokens = to_tokens(self.teacher["dense_head"](seen))  # (B, N, D), unit length
        predictions = to_tokens(predicted)  # (B, M, D)
        predictions = at_least_float32(predictions)
        if self.normalize_student:
            predictions = F.normalize(predictions, dim=2)
        return tokens @ predictions.mT / self.temperature

    def _global_term(
        self,
        student: tuple[Tensor, Tensor],
        teacher: tuple[Tensor, Tensor],
        inside: tuple[Tensor, Tensor],
        epoch: int,
    ) -> Tensor:
        student_rows, teacher_rows = (
            torch.cat([masked_mean(to_tokens(m), mask) for m, mask in zip(maps, inside, strict=True)])  # (2B, D)
            for maps in (student, teacher)
        )
        pairs = [(1, 0), (0, 1)]  # each crop follows the other one
        loss: Tensor = self.distillation(student_rows.chunk(2), teacher_rows.chunk(2), pairs, epoch)
        return loss


def _check_scale(scale: Sequence[int]) -> tuple[int, int]:
    if len(scale) != 2 or any(step not in (1, 2) for step in scale):
        raise ValueError(f"scale must be two numbers of 1 or 2 (rows, columns), got {tuple(scale)}; ACE has (2, 2)")
    return scale[0], scale[1]
