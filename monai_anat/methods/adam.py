"""Adam: tell anatomical structures apart, from the whole image down to small cells, by momentum contrast."""

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
from monai_anat.methods.contrast_views import ViewDraw, alter_view, check_area, cut_view
from monai_anat.methods.momentum_contrast import MomentumContrastMethod
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

    The stage, which ``SeededDataset`` writes into the sample as its ``phase`` (0 without one), says how fine the cells
    are. One cell is chosen uniformly; each view is a random crop of it resampled to ``image_size``, with brightness,
    contrast, sharpness and angle of its own. No flip: the heart is on the left. The sample gets ``view_1`` and
    ``view_2``, (C, H, W[, D]) each and normalized. Adam, sections 2 and 3 (Hosseinzadeh Taher et al., MICCAI DART
    2023, arXiv:2309.15358).

    Differs from the released code: saturation and hue are left out, since they do nothing on gray images; rotations
    are interpolated, not by the nearest pixel; what they bring into view is black, as there, before normalization.

    Args:
        keys: the key of the image: (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        image_size: side of a view in pixels, one number or one per axis.
        levels: the level of each stage: a number of bisections, or (rows, columns[, depth]).
        area: smallest and largest share of the cell that a view shows.
        ratio: smallest and largest ratio of width (and depth) to height of what it shows.
        mean: of the gray levels in [0, 1], for normalization.
        std: of the gray levels in [0, 1].
        appearance: the change of appearance; the paper's by default.

    Raises:
        ValueError: for no levels, or (when called) if the sample is of a further stage or the cells have fewer pixels
            than a view.

    >>> sample = RandAdamViewsd(image_size=16).set_random_state(0)({"image": torch.rand(1, 64, 64), "phase": 2})
    >>> sorted(sample), tuple(sample["view_1"].shape)
    (['phase', 'view_1', 'view_2'], (1, 16, 16))
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
        """Draw for an image of spatial shape ``data``, at the level of ``stage``; kept as ``draws``."""
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
        """Replace the image of a sample by the views of its stage.

        Args:
            data: the sample, with its ``phase`` if there are stages; it stays as it is.

        Returns:
            The sample's other entries and the views.
        """
        self.stage = int(data.get(PHASE, 0))
        return super().__call__(data)

    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        """Draw, and make ``view_1`` and ``view_2`` of one image."""
        self.randomize(tuple(pixels.shape[1:]))
        return {
            name: self.normalize(alter_view(cut_view(pixels, draw, self.image_size), draw))
            for name, draw in zip((VIEW_1, VIEW_2), self.draws, strict=True)
        }


class AdamMethod(MomentumContrastMethod):
    r"""Contrast anatomical cells from coarse to fine, without the negatives that show the same anatomy.

    With query :math:`q` (student, view 1), key :math:`k` (teacher, view 2) and the queue :math:`n_j` of earlier keys,
    all of unit length, the term "contrast" is

    .. math:: -\log \frac{e^{q k / \tau}}{e^{q k / \tau} + \sum_{j: q n_j < \theta} e^{q n_j / \tau}}

    averaged over the batch (Hosseinzadeh Taher et al., "Towards Foundation Models Learned from Anatomy in Medical
    Imaging via Self-Supervision", MICCAI DART 2023, arXiv:2309.15358). At level 0, the whole image, nothing is pruned
    (MoCo v2, arXiv:2003.04297). The levels are the stages of one run (``SSLTrainer(stage_epochs=...)``), each of which
    goes on with both encoders and the queue.

    Differs from the released code: the teacher moves and keys enter the queue in training only (there, validation moves
    both); pruning is one masked cross-entropy (4 times faster for 64 queries and 65,536 keys, with the same result);
    a stage starts to prune when its own keys fill the queue; the teacher is in evaluation mode, so no statistics of a
    batch betray the positive key and keys need not be shuffled between devices. With batch normalization, let
    ``TeacherEMA(average_statistics=True)`` move it: statistics that are copied make old keys useless.

    Args:
        backbone: any backbone of the contract, 2D or 3D; ResNet-50 in the paper.
        levels: the level of each stage, as :class:`RandAdamViewsd` has them.
        embedding_dim: width D of the contrasted embeddings.
        hidden_dim: width of the projection's hidden layer; that of the backbone if not given.
        queue_size: keys K that are kept; a multiple of the batch over all processes.
        temperature: :math:`\tau`.
        prune_threshold: :math:`\theta`, cosine from which on a key of the queue is no negative; None never prunes.
        reset_queue: where a stage changes the level, wait with pruning until the queue holds keys of that level only;
            False prunes from the first step, against the keys of the stage before too.

    Raises:
        ValueError: for no levels, a negative one, or a temperature that is not positive.

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
        super().__init__(
            backbone,
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
        #: keys of this stage's level that entered the queue
        self.register_buffer("level_keys", torch.zeros((), dtype=torch.long))

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute "contrast" of ``view_1`` and ``view_2`` (B, C, H, W[, D]); in training, remember the keys.

        Args:
            batch: what :class:`RandAdamViewsd` makes, collated.
            progress: its stage says which level the views are of.

        Returns:
            The one term.

        Raises:
            KeyError: if a view is missing.
            ValueError: if the run has more stages than the method has levels, or the views differ in shape.
        """
        view_1, view_2 = self.get_view_pair(batch)
        return {"contrast": self.contrast(self.backbone(view_1), view_2, self._threshold(progress))}

    def after_step(self, progress: Progress) -> None:
        """Enqueue the keys of the step, those of all processes."""
        if progress.of_stage.step == 0:
            self.level_keys.zero_()
        self.level_keys += self.queue.update()

    def export_networks(self) -> dict[str, nn.Module]:
        """Keep the student's backbone; the paper's embedding (Eve) is the mean of its last map."""
        return {"encoder": self.backbone}

    def _threshold(self, progress: Progress) -> float | Tensor | None:
        """The cosine from which on negatives are pruned at this step, decided on the device."""
        level = _level_of(self.levels, progress.stage, "the run")
        whole = set(bisection_grid(level, self.backbone.spatial_dims)) == {1}
        if whole or self.prune_threshold is None or not self.reset_queue:
            return None if whole else self.prune_threshold
        if progress.of_stage.step == 0:
            return None
        full = self.level_keys >= len(self.queue.keys)
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
