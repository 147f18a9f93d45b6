"""Adam-v2: localizability, composability and decomposability of anatomical structures."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from torch import Tensor, nn

from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import IMAGE, LOCAL_VIEWS, PARTS, PHASE, VIEW_1, VIEW_2
from monai_anat.losses.multi_view import distinct_pairs
from monai_anat.losses.part_whole import composition_distance, decomposition_distance
from monai_anat.methods.base import TeacherStudentMethod, mean_token, used_terms
from monai_anat.methods.multi_crop import embed_crops, embed_views
from monai_anat.methods.parts import frozen_copy
from monai_anat.methods.self_distillation import SelfDistillation
from monai_anat.methods.views import RandViewsd
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.heads.part_whole_heads import CompositionHead, DecompositionHead
from monai_anat.schedules import Progress
from monai_anat.transforms.appearance import Appearance, RandAppearance, change_appearance
from monai_anat.transforms.draws import draw_boxes
from monai_anat.transforms.part_whole import draw_concentric_boxes, part_boxes
from monai_anat.transforms.resized_crops import draw_resized_crop_box, resized_crop

__all__ = ["AdamV2Method", "RandAdamV2Viewsd"]

#: crops around the center of a structure, the large one first: share of the structure, ratio of width to height
CONCENTRIC_AREAS = ((0.8, 1.0), (0.05, 0.1), *((tenth / 10, tenth / 10 + 0.1) for tenth in range(1, 8)))
CONCENTRIC_RATIOS = ((3 / 4, 4 / 3), *((2 / 3, 1.0), (1.0, 3 / 2)) * 4)
#: crops anywhere in a structure: share of the structure in a large and in a small crop, number of small crops
LARGE_AREA, SMALL_AREA, SMALL_CROPS = (0.8, 1.0), (0.05, 0.4), 8


@dataclass(frozen=True, eq=False)
class StructureView:
    """Draw of one view.

    Attributes:
        key: key of the view in the batch item.
        box: corner and sides (2, d) of the crop in pixels of the image.
        size: side of the view in pixels.
        appearance: change of brightness, contrast, blur and angle.
    """

    key: str
    box: npt.NDArray[np.int64]
    size: int
    appearance: Appearance


class RandAdamV2Viewsd(RandViewsd):
    """Make the batch item of :class:`AdamV2Method`: crops of one anatomical structure, in later stages also its parts.

    A structure of granularity g has 1 / 2^g of the sides of the image. Adam-v2 (Hosseinzadeh Taher et al., CVPR 2024,
    arXiv:2404.15672) has two kinds of stages, each from coarse to fine:

    - "L": the structure is a square anywhere in the image. The item holds ``view_1`` and ``view_2`` (C, H, W), crops of
      80 to 100 % of its area, and ``local_views`` (8, C, h, w), crops of 5 to 40 %.
    - "LCD": the structure has the aspect ratio of the image and lies at least ``border`` pixels from the edges where it
      fits. ``view_1`` is the whole structure. ``view_2`` (80 to 100 %) and ``local_views`` (8 fixed bands of area, from
      5-10 % to 70-80 %) lie around its center. ``parts`` (P, C, H, W) tile it row by row.

    Each view is resampled by cubic interpolation, changed in contrast, brightness, blur and angle by itself, and
    normalized. There is no flip, because the heart lies on the left. The stage is the sample's ``phase``, which
    ``SeededDataset(phase=StagePhase(stage_epochs))`` sets; samples without a phase are in stage 0.

    Args:
        keys: key of the image (C, H, W), uint8, uint16, or floating point in [0, 1].
        image_size: side of large views and of parts in pixels.
        local_size: side of small views in pixels.
        stages: kind and granularity of each stage.
        border: width of the frame in pixels that structures of "LCD" stages avoid where they fit inside it.
        parts_per_side: parts along each axis; 2 gives four parts.
        brightness: largest change of the factor of brightness.
        contrast: largest change of the factor of contrast.
        blur_sigma: smallest and largest standard deviation of the blur in pixels of the view.
        angles: largest rotation to either side in stages "L" and "LCD", in degrees.
        mean: mean of the gray levels in [0, 1], for normalization.
        std: standard deviation of the gray levels in [0, 1], for normalization.

    Raises:
        ValueError: if a kind of stage is unknown or a number is out of range; when called, if the image is a volume or
            smaller than its parts, or the phase is not a stage.

    >>> views = RandAdamV2Viewsd(image_size=32, local_size=16, stages=[("L", 0), ("LCD", 0)]).set_random_state(0)
    >>> sample = views({"image": torch.rand(1, 48, 40), "phase": 1})
    >>> {name: tuple(sample[name].shape) for name in ("view_1", "local_views", "parts")}
    {'view_1': (1, 32, 32), 'local_views': (8, 1, 16, 16), 'parts': (4, 1, 32, 32)}
    """

    takes_volumes = False

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        image_size: int = 224,
        local_size: int = 96,
        *,
        stages: Sequence[tuple[str, int]] = (("L", 0), ("L", 1), ("L", 2), ("LCD", 0), ("LCD", 1), ("LCD", 2)),
        border: int = 50,
        parts_per_side: int = 2,
        brightness: float = 0.4,
        contrast: float = 0.4,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        angles: tuple[float, float] = (30.0, 10.0),
        mean: float = CHEST_MEAN,
        std: float = CHEST_STD,
    ) -> None:
        super().__init__(keys, mean, std)
        if not stages or any(kind not in ("L", "LCD") or granularity < 0 for kind, granularity in stages):
            raise ValueError(
                f'stages must be pairs of "L" or "LCD" and a granularity of at least 0, got {stages}; '
                '[("L", 0), ("LCD", 0)] has one of each kind'
            )
        if min(image_size, local_size, parts_per_side - 1) < 1 or border < 0:
            raise ValueError(
                "image_size and local_size must be at least 1, parts_per_side at least 2 and border at least 0, got "
                f"{image_size=}, {local_size=}, {parts_per_side=} and {border=}"
            )
        self.image_size = image_size
        self.local_size = local_size
        self.stages = tuple((kind, int(granularity)) for kind, granularity in stages)
        self.border = border
        self.parts_per_side = parts_per_side
        self.changes = {
            (kind, blur): RandAppearance(brightness, contrast, 0.8, blur_sigma, blur, angle=angle)
            for kind, angle in zip(("L", "LCD"), angles, strict=True)
            for blur in (0.1, 0.5, 1.0)
        }
        self.phase = 0
        self.drawn: list[StructureView] = []

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Make the views of a sample's stage.

        Args:
            data: the sample, with its ``phase`` if there are stages; it is not changed.

        Returns:
            The views, and nothing else of the sample.

        Raises:
            KeyError: if the sample has no image.
            ValueError: if the image does not have the shape that the views need, or the phase is not a stage.
        """
        self.phase = int(data.get(PHASE, 0))
        if not 0 <= self.phase < len(self.stages):
            raise ValueError(
                f"phase must be one of the {len(self.stages)} stages, got {self.phase}; "
                "stage_epochs must have one number for each of the stages of RandAdamV2Viewsd"
            )
        return super().__call__(data)

    def randomize(self, data: Sequence[int]) -> None:
        """Draw the views of an image of spatial shape ``data`` into ``drawn``."""
        kind, granularity = self.stages[self.phase]
        least = self.parts_per_side * 2**granularity
        if min(data) < least:
            raise ValueError(
                f"image must have at least {least} pixels per side for structures of granularity {granularity} and "
                f"their parts, got {tuple(data)}; load it larger, or remove the stage"
            )
        self.drawn = self._crops(data, granularity) if kind == "L" else self._part_whole(data, granularity)

    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        """Draw and make the views of one image."""
        self.randomize(tuple(pixels.shape[1:]))
        made: dict[str, list[Tensor]] = {}
        for view in self.drawn:
            seen = change_appearance(resized_crop(pixels, view.box, view.size, "bicubic"), view.appearance)
            made.setdefault(view.key, []).append(self.normalize(seen))
        return {key: torch.stack(seen) if key in (LOCAL_VIEWS, PARTS) else seen[0] for key, seen in made.items()}

    def _crops(self, shape: Sequence[int], granularity: int) -> list[StructureView]:
        """Views of a stage "L": crops anywhere in a square structure."""
        side = min(shape) // 2**granularity
        (structure,) = draw_boxes(self.R, shape, np.array([[side, side]]))
        areas = [LARGE_AREA] * 2 + [SMALL_AREA] * SMALL_CROPS
        boxes = _inside(structure, np.stack([draw_resized_crop_box(self.R, structure[1], area) for area in areas]))
        return [
            self._view("L", VIEW_1, boxes[0], blur=1.0),
            self._view("L", VIEW_2, boxes[1], blur=0.1),
            *(self._view("L", LOCAL_VIEWS, box, blur=0.5) for box in boxes[2:]),
        ]

    def _part_whole(self, shape: Sequence[int], granularity: int) -> list[StructureView]:
        """Views of a stage "LCD": a whole structure, crops around its center, and its parts."""
        (whole,) = draw_boxes(self.R, shape, np.asarray([shape]) // 2**granularity, margin=self.border)
        crop, *small = _inside(whole, draw_concentric_boxes(self.R, whole[1], CONCENTRIC_AREAS, CONCENTRIC_RATIOS))
        parts = _inside(whole, part_boxes(whole[1], self.parts_per_side))
        return [
            self._view("LCD", VIEW_1, whole, blur=0.1),
            self._view("LCD", VIEW_2, crop, blur=1.0),
            *(self._view("LCD", LOCAL_VIEWS, box, blur=0.5) for box in small),
            *(self._view("LCD", PARTS, box, blur=0.1) for box in parts),
        ]

    def _view(self, kind: str, key: str, box: npt.NDArray[np.int64], blur: float) -> StructureView:
        size = self.local_size if key == LOCAL_VIEWS else self.image_size
        return StructureView(key, box, size, self.changes[kind, blur].draw(self.R))


def _inside(structure: npt.NDArray[np.int64], boxes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Convert boxes (n, 2, d) within a structure (2, d) to boxes of the image."""
    moved: npt.NDArray[np.int64] = boxes + np.stack([structure[0], np.zeros_like(structure[0])])
    return moved


class AdamV2Method(TeacherStudentMethod):
    r"""Localizability, composability and decomposability of anatomical structures.

    Hosseinzadeh Taher, Gotway, Liang, "Representing Part-Whole Hierarchies in Foundation Models by Learning
    Localizability, Composability, and Decomposability from Anatomy via Self-Supervision", CVPR 2024,
    arXiv:2404.15672. With embeddings :math:`f_s, f_t` of student and teacher (the mean token) and unit vectors
    :math:`n(x) = x / \lVert x \rVert`, the terms are

    - "localizability": the student's prototype scores of a crop follow the teacher's scores of the structure, see
      :func:`~monai_anat.losses.multi_view_distillation`. In the first stages (batches without ``parts``) both large
      views are targets of all other views. In later stages the whole is the target of the nine crops around its center.
    - "composability": :math:`\lVert n(C(f_s(p_1), .., f_s(p_P))) - n(f_t(w)) \rVert^2`.
    - "decomposability": the mean over the parts i of :math:`\lVert n(D(f_s(w))_i) - n(f_t(p_i)) \rVert^2`.

    :class:`RandAdamV2Viewsd` adds ``parts`` to the batches of later stages; the last two terms need them.

    Differs from the released code: every predicted part is scaled to unit length by itself, and squares are summed
    over the width of an embedding, see :func:`~monai_anat.losses.decomposition_distance`; the teacher sees the whole
    once and not twice; the teacher is in evaluation mode, so use ``TeacherEMA(average_statistics=True)`` with batch
    normalization.

    Args:
        backbone: 2D backbone that takes images of several sizes; ResNet-50 and ConvNeXt-B in the paper.
        num_parts: parts P of a structure, the square of the views' ``parts_per_side``.
        num_prototypes: number of prototypes K; ln K is the chance level of "localizability".
        head_features: width of the hidden layers of the prototype head.
        bottleneck_features: width of its last hidden layer, which is scaled to unit length.
        student_temperature: temperature of the student's assignment to prototypes.
        teacher_temperature: temperature of the teacher's assignment to prototypes.
        center_momentum: weight of the old center of the teacher's scores.
        frozen_prototype_epochs: epochs at the start in which the prototypes get no gradient.
        localizability_weight: weight of "localizability"; 0 disables the term and its head.
        composability_weight: weight of "composability"; 0 disables the term and its head.
        decomposability_weight: weight of "decomposability"; 0 disables the term and its head.
        reduction: "sum" of the squares over the width of an embedding, or their "mean". The mean is the released form;
            with it, the two part terms are about 1e-4 of the first term and hardly affect the backbone.

    Raises:
        ValueError: if the backbone is 3D, a weight is negative, or a number is out of range.

    >>> from monai_anat.networks import ConvNeXtBackbone
    >>> method = AdamV2Method(ConvNeXtBackbone(depths=(1, 1), dims=(8, 16)), num_prototypes=32, head_features=16)
    >>> image = torch.rand(2, 1, 32, 32)
    >>> batch = {"view_1": image, "view_2": image, "local_views": torch.rand(2, 8, 1, 16, 16)}
    >>> sorted(method(batch, Progress(0, 2, 0, 2)))
    ['localizability']
    >>> sorted(method({**batch, "parts": torch.rand(2, 4, 1, 32, 32)}, Progress(1, 2, 1, 2, stage=1)))
    ['composability', 'decomposability', 'localizability']
    """

    views_name = "RandAdamV2Viewsd"
    find_unused_parameters = True

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_parts: int = 4,
        num_prototypes: int = 65536,
        head_features: int = 2048,
        bottleneck_features: int = 256,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        center_momentum: float = 0.9,
        frozen_prototype_epochs: int = 1,
        localizability_weight: float = 1.0,
        composability_weight: float = 1.0,
        decomposability_weight: float = 1.0,
        reduction: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__()
        if backbone.spatial_dims != 2:
            raise ValueError(
                f"AdamV2Method is 2D only, got a backbone with spatial_dims={backbone.spatial_dims}; AdamMethod, "
                "LampsMethod and PEACMethod learn from volumes"
            )
        self.loss_weights = used_terms(
            localizability=localizability_weight,
            composability=composability_weight,
            decomposability=decomposability_weight,
        )
        if reduction not in ("sum", "mean"):
            raise ValueError(f'reduction must be "sum" or "mean" (over the width of an embedding), got {reduction!r}')
        self.num_parts = num_parts
        self.reduction: Literal["sum", "mean"] = reduction
        features = backbone.num_features
        self.backbone = backbone
        self.teacher = nn.ModuleDict({"backbone": frozen_copy(backbone)})
        if "localizability" in self.loss_weights:
            self.localizability = SelfDistillation(
                features,
                num_prototypes,
                hidden_features=head_features,
                bottleneck_features=bottleneck_features,
                student_temperature=student_temperature,
                teacher_temperature=teacher_temperature,
                center_momentum=center_momentum,
                frozen_epochs=frozen_prototype_epochs,
            )
        if "composability" in self.loss_weights:
            self.composition_head = CompositionHead(features, num_parts)
        if "decomposability" in self.loss_weights:
            self.decomposition_head = DecompositionHead(features, num_parts)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the terms of ``view_1``, ``view_2`` (B, C, H, W), ``local_views`` and, in later stages, ``parts``.

        Args:
            batch: collated items of :class:`RandAdamV2Viewsd`.
            progress: current position; its epoch freezes the prototypes.

        Returns:
            The unweighted terms by name.

        Raises:
            KeyError: if a key is missing.
            ValueError: if the parts do not fit the method, or the batch gives no term.
        """
        view_1, view_2, local_views = self.get_tensors(batch, VIEW_1, VIEW_2, LOCAL_VIEWS)
        if PARTS in batch:
            return self._part_whole_terms(view_1, view_2, local_views, self._parts(batch, view_1), progress.epoch)
        if "localizability" not in self.loss_weights:
            raise ValueError(
                "a batch without parts has only the term localizability, which has weight 0; use stages of the kind "
                '"LCD" alone in RandAdamV2Viewsd, or a positive localizability_weight'
            )
        student, teacher = embed_views(self.backbone, self.teacher["backbone"], view_1, view_2, local_views)
        pairs = distinct_pairs(2, len(student))
        return {"localizability": self.localizability(student, teacher, pairs, progress.epoch)}

    def after_step(self, progress: Progress) -> None:
        """Move the center of the teacher's scores."""
        if "localizability" in self.loss_weights:
            self.localizability.update_center()

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the teacher's backbone, as the authors do, and the heads between parts and wholes."""
        heads = ("composition_head", "decomposition_head")
        return {"encoder": self.teacher["backbone"]} | {
            name: getattr(self, name) for name in heads if hasattr(self, name)
        }

    def _parts(self, batch: Mapping[str, Any], whole: Tensor) -> tuple[Tensor, ...]:
        parts: Tensor = batch[PARTS]
        if parts.ndim != 5 or parts.shape[1] != self.num_parts or parts.shape[2:] != whole.shape[1:]:
            raise ValueError(
                f"parts must be (B, {self.num_parts}, C, H, W), of the size of view_1 {tuple(whole.shape)}, got "
                f"{tuple(parts.shape)}; build the method with num_parts = the square of RandAdamV2Viewsd's "
                "parts_per_side"
            )
        return parts.unbind(1)

    def _part_whole_terms(
        self, whole: Tensor, crop: Tensor, local_views: Tensor, parts: Sequence[Tensor], epoch: int
    ) -> dict[str, Tensor]:
        """Compute the terms of the later stages."""
        terms, used = {}, self.loss_weights
        learned: dict[str, Tensor] = {"whole": whole} if "decomposability" in used else {}
        learned |= {"crop": crop} if "localizability" in used else {}
        learned |= {f"part {i}": part for i, part in enumerate(parts)} if "composability" in used else {}
        student = dict(zip(learned, self._embeddings(self.backbone, *learned.values()), strict=True))
        with torch.no_grad():
            taught = (whole, *parts) if "decomposability" in used else (whole,)
            whole_teacher, *parts_teacher = self._embeddings(self.teacher["backbone"], *taught)
        if "localizability" in used:
            crops = [student["crop"], *embed_crops(self.backbone, local_views)]
            pairs = [(0, number) for number in range(len(crops))]  # the whole is not one of the crops
            terms["localizability"] = self.localizability(crops, [whole_teacher], pairs, epoch)
        if "composability" in used:
            composed = self.composition_head(torch.stack([student[f"part {i}"] for i in range(len(parts))], 1))
            terms["composability"] = composition_distance(composed, whole_teacher, self.reduction)
        if "decomposability" in used:
            decomposed = self.decomposition_head(student["whole"])
            terms["decomposability"] = decomposition_distance(decomposed, torch.stack(parts_teacher, 1), self.reduction)
        return terms

    def _embeddings(self, network: nn.Module, *views: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(mean_token, self.forward_together(network, *views)))
