"""Adam: momentum contrast of anatomical structures from coarse to fine."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from torch import Tensor, nn

from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import IMAGE, PHASE, VIEW_1, VIEW_2
from monai_anat.methods.base import TeacherStudentMethod
from monai_anat.methods.contrast_views import ViewDraw, alter_view, check_area, cut_view
from monai_anat.methods.momentum_contrast import MomentumContrast
from monai_anat.methods.parts import frozen_copy
from monai_anat.methods.views import RandViewsd
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.schedules import Progress
from monai_anat.transforms.anatomy_cells import anatomy_cell_boxes, bisection_grid
from monai_anat.transforms.appearance import RandAppearance
from monai_anat.transforms.geometry import per_axis
from monai_anat.transforms.resized_crops import draw_resized_crop_box

__all__ = ["AdamMethod", "RandAdamViewsd"]

#: a level of the anatomy decomposer: the number of bisections, or the grid as (rows, columns[, depth])
Level = int | Sequence[int]

LEVELS: tuple[Level, ...] = (0, 2, 4)


class RandAdamViewsd(RandViewsd):
    """Make the batch item of :class:`AdamMethod`: two views of one anatomical cell of the image.

    The stage sets the size of the cells. ``SeededDataset`` writes it into the sample as ``phase``; samples without a
    phase are in stage 0. One cell is drawn uniformly. Each view is a random crop of it, resampled to ``image_size`` and
    changed in brightness, contrast, blur and angle by itself. There is no flip, because the heart lies on the left. The
    item holds ``view_1`` and ``view_2``, (C, H, W[, D]) each and normalized. Adam, sections 2 and 3 (Hosseinzadeh Taher
    et al., MICCAI DART 2023, arXiv:2309.15358).

    Differs from the released code: saturation and hue are left out, since they have no effect on gray images; rotations
    are interpolated linearly and not by the nearest pixel. As there, corners that a rotation uncovers are black before
    normalization.

    Args:
        keys: key of the image (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        image_size: side of a view in pixels, one number or one per axis.
        levels: level of each stage, a number of bisections or a grid (rows, columns[, depth]).
        area: smallest and largest share of the cell in a view.
        ratio: smallest and largest ratio of width (and depth) to height of a crop.
        mean: mean of the gray levels in [0, 1], for normalization.
        std: standard deviation of the gray levels in [0, 1], for normalization.
        appearance: change of appearance; that of the paper by default.

    Raises:
        ValueError: if there are no levels; when called, if the stage of the sample has no level, or a cell has fewer
            pixels than a view.

    >>> sample = RandAdamViewsd(image_size=16).set_random_state(0)({"image": torch.rand(1, 64, 64), "phase": 2})
    >>> sorted(sample), tuple(sample["view_1"].shape)
    (['view_1', 'view_2'], (1, 16, 16))
    """

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        image_size: int | Sequence[int] = 224,
        levels: Sequence[Level] = LEVELS,
        *,
        area: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        mean: float = CHEST_MEAN,
        std: float = CHEST_STD,
        appearance: RandAppearance | None = None,
    ) -> None:
        super().__init__(keys, mean, std)
        check_area("area", area)
        self.image_size = image_size
        self.levels = _checked(levels)
        self.area = area
        self.ratio = ratio
        self.appearance = RandAppearance(angle=30.0) if appearance is None else appearance
        self.stage = 0
        self.draws: tuple[ViewDraw, ...] = ()

    def randomize(self, data: Sequence[int]) -> None:
        """Draw two views of a cell of an image of spatial shape ``data`` into ``draws``."""
        cells = anatomy_cell_boxes(data, _level_of(self.levels, self.stage, "the sample"))
        cell = cells[self.R.randint(len(cells))]
        size = per_axis(self.image_size, len(data), "image_size")
        if any(side < least for side, least in zip(cell[1], size, strict=True)):
            raise ValueError(
                f"a cell must have at least the pixels of a view, {size}, got cells of {tuple(cell[1].tolist())} at "
                f"level {self.levels[self.stage]} of an image of {tuple(data)}; load larger images, take a lower "
                "level, or a smaller image_size"
            )
        self.draws = tuple(self._draw_view(cell) for _ in range(2))

    def _draw_view(self, cell: npt.NDArray[np.int64]) -> ViewDraw:
        box = draw_resized_crop_box(self.R, cell[1].tolist(), self.area, self.ratio)
        box[0] += cell[0]
        return ViewDraw(box, appearance=self.appearance.draw(self.R))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Make the views of a sample's stage.

        Args:
            data: the sample, with its ``phase`` if there are stages; it is not changed.

        Returns:
            The views, and nothing else of the sample.
        """
        self.stage = int(data.get(PHASE, 0))
        return super().__call__(data)

    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        """Draw and make ``view_1`` and ``view_2`` of one image."""
        self.randomize(tuple(pixels.shape[1:]))
        return {
            name: self.normalize(alter_view(cut_view(pixels, draw, self.image_size), draw))
            for name, draw in zip((VIEW_1, VIEW_2), self.draws, strict=True)
        }


class AdamMethod(TeacherStudentMethod):
    r"""Momentum contrast of anatomical cells from coarse to fine, without negatives that show the same anatomy.

    With query :math:`q` (student, view 1), key :math:`k` (teacher, view 2) and the queue :math:`n_j` of earlier keys,
    all of unit length, the term "contrast" is

    .. math:: -\log \frac{e^{q k / \tau}}{e^{q k / \tau} + \sum_{j: q n_j < \theta} e^{q n_j / \tau}}

    averaged over the batch (Hosseinzadeh Taher et al., "Towards Foundation Models Learned from Anatomy in Medical
    Imaging via Self-Supervision", MICCAI DART 2023, arXiv:2309.15358). At level 0, the whole image, nothing is pruned
    (MoCo v2, arXiv:2003.04297). The levels are the stages of one run (``SSLTrainer(stage_epochs=...)``). Each stage
    continues with both encoders and the queue.

    Differs from the released code: the teacher moves and keys enter the queue in training only (there, validation also
    changes both); pruning is one masked cross-entropy (4 times faster for 64 queries and 65,536 keys, with the same
    result); a stage starts to prune when its own keys fill the queue; the teacher is in evaluation mode, so batch
    statistics do not reveal the positive key and keys need not be shuffled between devices. With batch normalization,
    use ``TeacherEMA(average_statistics=True)``: copied statistics make old keys useless.

    Args:
        backbone: any backbone, 2D or 3D; ResNet-50 in the paper.
        levels: level of each stage, as in :class:`RandAdamViewsd`.
        embedding_dim: width of the contrasted embeddings.
        hidden_dim: width of the projection's hidden layer; the channels of the backbone if None.
        queue_size: number of keys in the queue, a multiple of the batch size over all processes.
        temperature: :math:`\tau`.
        prune_threshold: :math:`\theta`, cosine from which on a key of the queue is left out of the negatives; None
            disables pruning.
        reset_queue: start to prune when the queue holds keys of the current level only; False prunes from the first
            step of a stage, against keys of the previous stage as well.

    Raises:
        ValueError: if there are no levels, a level is negative, or the temperature is not positive.

    >>> from monai_anat.networks import ResNetBackbone
    >>> method = AdamMethod(ResNetBackbone(depth=18), queue_size=16)
    >>> view = torch.rand(4, 1, 32, 32)
    >>> sorted(method({"view_1": view, "view_2": view}, Progress(0, 1, 0, 1)))
    ['contrast']
    """

    views_name = "RandAdamViewsd"
    level_keys: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        levels: Sequence[Level] = LEVELS,
        embedding_dim: int = 128,
        hidden_dim: int | None = None,
        queue_size: int = 65536,
        temperature: float = 0.2,
        prune_threshold: float | None = 0.8,
        reset_queue: bool = True,
    ) -> None:
        super().__init__()
        self.contrast = MomentumContrast(
            backbone.num_features,
            embedding_dim=embedding_dim,
            hidden_dim=hidden_dim,
            queue_size=queue_size,
            temperature=temperature,
        )
        self.loss_weights = {"contrast": 1.0}
        self.levels = _checked(levels)
        self.prune_threshold = prune_threshold
        self.reset_queue = reset_queue
        self.backbone = backbone
        self.teacher = nn.ModuleDict({"backbone": frozen_copy(backbone)})
        #: number of keys of the current stage that entered the queue
        self.register_buffer("level_keys", torch.zeros((), dtype=torch.long))

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute "contrast" of ``view_1`` and ``view_2`` (B, C, H, W[, D]).

        Args:
            batch: collated items of :class:`RandAdamViewsd`.
            progress: current position; its stage selects the level.

        Returns:
            The unweighted term.

        Raises:
            KeyError: if a view is missing.
            ValueError: if the run has more stages than the method has levels, or the views differ in shape.
        """
        view_1, view_2 = self.get_view_pair(batch)
        student_map = self.backbone(view_1)
        with torch.no_grad():
            teacher_map = self.teacher["backbone"](view_2)
        return {"contrast": self.contrast(student_map, teacher_map, self._threshold(progress))}

    def after_step(self, progress: Progress) -> None:
        """Put the keys of the step into the queue."""
        if progress.of_stage.step == 0:
            self.level_keys.zero_()
        self.level_keys += self.contrast.enqueue()

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the student's backbone; the paper's embedding (Eve) is the mean of its last map."""
        return {"encoder": self.backbone}

    def _threshold(self, progress: Progress) -> float | Tensor | None:
        """Select the cosine from which on negatives are pruned at this step, without a device synchronization."""
        level = _level_of(self.levels, progress.stage, "the run")
        whole = set(bisection_grid(level, self.backbone.spatial_dims)) == {1}
        if whole or self.prune_threshold is None or not self.reset_queue:
            return None if whole else self.prune_threshold
        if progress.of_stage.step == 0:
            return None
        full = self.level_keys >= len(self.contrast.queue.keys)
        return torch.where(full, self.prune_threshold, inf)


def _checked(levels: Sequence[Level]) -> tuple[Level, ...]:
    if not levels:
        raise ValueError("levels must name the level of each stage, got none; Adam has (0, 2, 4)")
    for level in levels:
        bisection_grid(level, 2 if isinstance(level, int) else len(level))
    return tuple(levels)


def _level_of(levels: Sequence[Level], stage: int, what: str) -> Level:
    if not 0 <= stage < len(levels):
        raise ValueError(
            f"levels must name the level of each stage, got {list(levels)} and {what} is in stage {stage} (from 0 on); "
            "stage_epochs must have one number for each level"
        )
    return levels[stage]
