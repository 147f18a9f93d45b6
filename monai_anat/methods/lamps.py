"""Lamps: consistency, coherence and hierarchy of anatomy, one objective at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from monai_anat.keys import (
    AUGMENTED_1,
    AUGMENTED_2,
    CORRESPONDENCE,
    ORDER,
    PAIR_COUNT,
    QUADRANTS,
    VIEW_1,
    VIEW_2,
    WINDOWS,
)
from monai_anat.losses.consistency import matched_consistency
from monai_anat.losses.distillation import DistillationCenter, check_temperatures, self_distillation
from monai_anat.losses.ordering import order_cross_entropy
from monai_anat.losses.smooth import smooth_l1
from monai_anat.methods.base import TeacherStudentMethod, check_view, token_grid, used_terms
from monai_anat.methods.lamps_views import OBJECTIVES, check_objectives
from monai_anat.networks.backbones.backbone import Backbone, to_tokens
from monai_anat.networks.heads.context_decoder import ContextDecoder
from monai_anat.networks.heads.order import OrderHead
from monai_anat.networks.heads.part_whole_heads import CompositionHead, DecompositionHead
from monai_anat.networks.heads.projection import ProjectionHead
from monai_anat.networks.heads.prototypes import PrototypeHead
from monai_anat.precision import at_least_float32
from monai_anat.schedules import Progress, TurnPhase
from monai_anat.transforms.geometry import join_cells, per_axis, split_cells
from monai_anat.transforms.windows import crop_windows, window_cells

__all__ = ["LampsMethod"]

#: the loss terms of each objective
TERMS = {
    "consistency": ("distillation", "local_consistency"),
    "extrapolation": ("extrapolation",),
    "order": ("order", "order_consistency"),
    "hierarchy": ("composition", "decomposition"),
}


class LampsMethod(TeacherStudentMethod):
    r"""Learning anatomy from multiple perspectives: consistency, coherence and hierarchy, which take turns.

    A student :math:`s` learns from its moving average :math:`t`, which always sees the clean views. With tokens
    :math:`z`, their mean :math:`\bar z` and views 1 and 2, the objectives and their terms are

    - consistency: "distillation", the self-distillation (DINO) of :math:`\bar z` of augmented view 1 by view 2 and the
      reverse, averaged; "local_consistency", :math:`m(s_1, t_2) + m(s_2, t_1)` with :math:`m` the mean squared
      difference of the local embeddings of matched cells;
    - extrapolation: the student sees a window of ``kept`` cells and the context decoder says what is around it;
      "extrapolation" is the smooth L1 distance to the teacher's tokens of the missing cells;
    - order: the student sees the cells in the order :math:`p`; "order" is the cross-entropy of their places,
      "order_consistency" the mean squared difference of :math:`z^s_j` and :math:`z^t_{p_j}`;
    - hierarchy: "composition", the smooth L1 distance of the whole that is composed of the student's quadrants to the
      teacher's :math:`\bar z`; "decomposition", that of the quadrants decomposed from the student's
      :math:`\bar z` of the augmented view to the teacher's

    ("Lamps: Learning Anatomy from Multiple Perspectives via Self-supervision in Chest Radiographs", arXiv 2512.22872).
    One objective per epoch or per step (``alternate``); the batch must have been made for it, see
    :class:`RandLampsViewsd`. In 3D, quadrants are octants.

    Differs from the released code: the target of the order objective is the teacher's map in the shuffled order (there,
    all tokens of a sample have one and the same target, the standard deviation of the targets is 0); consistency takes
    part (there, it is commented out: ``objectives=("extrapolation", "order", "hierarchy")``); extrapolation averages
    over the missing cells alone (the released value has ``extrapolation_weight=75 / 196``); the window is cut out
    of the image, which for Swin is the same as dropping the other patches after their embedding. A ViT, whose patches
    are embedded with their places, does drop them there.

    Args:
        backbone: any backbone of the contract; 14 x 14 tokens of 32 pixels in the paper (Swin-B, ``norm_eps=1e-6``).
        image_size: side of a view in pixels, a multiple of ``backbone.strides[-1]``; one number or one per axis.
        objectives: which take part, in the order in which they take turns; one may come more than once.
        alternate: "epoch" or "step" for one objective at a time; "none" for the sum of all in every step.
        kept: cells per side of the window that the student is shown for extrapolation.
        local_dim: width of the local head and its embeddings.
        num_prototypes: of the self-distillation; its head has hidden layers of ``prototype_hidden``.
        prototype_hidden: see ``num_prototypes``.
        decoder_depth: blocks of the context decoder.
        decoder_heads: its attention heads.
        student_temperature: of the self-distillation.
        teacher_temperature: of the self-distillation.
        center_momentum: weight of the old center of the self-distillation.
        frozen_prototype_epochs: first epochs of the run in which the prototypes stay as they are.
        distillation_weight: of "distillation". A weight of 0 leaves the term and its head away, here and below.
        local_weight: of "local_consistency".
        extrapolation_weight: of "extrapolation".
        order_weight: of "order".
        order_consistency_weight: of "order_consistency".
        composition_weight: of "composition".
        decomposition_weight: of "decomposition".

    Raises:
        ValueError: if the cells do not tile the view, an objective or ``alternate`` is unknown, an objective has no
            term left, the window leaves no cell missing, or quadrants meet an odd grid.

    >>> from monai_anat.networks import SwinBackbone
    >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    >>> method = LampsMethod(backbone, image_size=16, objectives=("order", "extrapolation"), kept=2, decoder_heads=2)
    >>> batch = {"view_1": torch.rand(2, 1, 16, 16), "view_2": torch.rand(2, 1, 16, 16)}
    >>> batch["order"] = torch.arange(16).repeat(2, 1)
    >>> sorted(method(batch, Progress(epoch=0, max_epochs=2, step=0, max_steps=2)))
    ['order', 'order_consistency']
    """

    views_name = "RandLampsViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        image_size: int | tuple[int, ...] = 448,
        objectives: Sequence[str] = OBJECTIVES,
        alternate: Literal["epoch", "step", "none"] = "epoch",
        kept: int | Sequence[int] = 11,
        local_dim: int = 512,
        num_prototypes: int = 65536,
        prototype_hidden: int = 2048,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        center_momentum: float = 0.9,
        frozen_prototype_epochs: int = 1,
        distillation_weight: float = 0.1,
        local_weight: float = 1.0,
        extrapolation_weight: float = 1.0,
        order_weight: float = 0.1,
        order_consistency_weight: float = 1.0,
        composition_weight: float = 1.0,
        decomposition_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if alternate not in ("epoch", "step", "none"):
            raise ValueError(f'alternate must be "epoch", "step" or "none" (all at once), got {alternate!r}')
        self.grid = token_grid(backbone, image_size)
        check_objectives(objectives, self.grid, kept)
        self.loss_weights = _weights_of(
            objectives,
            distillation=distillation_weight,
            local_consistency=local_weight,
            extrapolation=extrapolation_weight,
            order=order_weight,
            order_consistency=order_consistency_weight,
            composition=composition_weight,
            decomposition=decomposition_weight,
        )
        self.image_size = tuple(cells * backbone.strides[-1] for cells in self.grid)
        self.objectives = tuple(objectives)
        self.alternate = alternate
        self.kept = per_axis(kept, len(self.grid), "kept")
        self.temperatures = (student_temperature, teacher_temperature)
        self.frozen_prototype_epochs = frozen_prototype_epochs if "distillation" in self.loss_weights else 0
        self.find_unused_parameters = alternate != "none" or self.frozen_prototype_epochs > 0
        self.backbone = backbone
        self.teacher = nn.ModuleDict({"backbone": self.teacher_of(backbone)})
        features = backbone.num_features
        if "distillation" in self.loss_weights:
            self._add_distillation(num_prototypes, prototype_hidden, center_momentum)
        if "local_consistency" in self.loss_weights:
            self.local_head = ProjectionHead(features, local_dim)
            self.teacher["local_head"] = self.teacher_of(self.local_head)
        if "extrapolation" in self.loss_weights:
            self.decoder = ContextDecoder(features, self.grid, depth=decoder_depth, num_heads=decoder_heads)
        self._add_simple_heads(features, 2 ** len(self.grid))

    def _add_distillation(self, num_prototypes: int, hidden_features: int, center_momentum: float) -> None:
        """The head of the self-distillation, its teacher and its center."""
        student, teacher = self.temperatures
        check_temperatures(student_temperature=student, teacher_temperature=teacher)
        self.prototype_head = PrototypeHead(self.backbone.num_features, num_prototypes, hidden_features=hidden_features)
        self.teacher["prototype_head"] = self.teacher_of(self.prototype_head)
        self.center = DistillationCenter(num_prototypes, center_momentum)

    def _add_simple_heads(self, features: int, parts: int) -> None:
        """The heads without arguments of their own; the student alone has them."""
        if "order" in self.loss_weights:
            self.order_head = OrderHead(features, prod(self.grid))
        if "composition" in self.loss_weights:
            self.composition_head = CompositionHead(
                features, parts, hidden_features=(features, features), layer_norm=True
            )
        if "decomposition" in self.loss_weights:
            self.decomposition_head = DecompositionHead(
                features, parts, hidden_features=(parts * features,), layer_norm=True
            )

    def current_objectives(self, progress: Progress) -> tuple[str, ...]:
        """Name the objectives of a step: the one whose turn it is, or all."""
        if self.alternate == "none":
            return tuple(dict.fromkeys(self.objectives))
        count = progress.epoch if self.alternate == "epoch" else progress.step
        return (self.objectives[TurnPhase(len(self.objectives))(count)],)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the terms of the objectives whose turn it is.

        Args:
            batch: what :class:`RandLampsViewsd` makes for them, collated; with ``pair_count`` "local_consistency"
            divides
                by it.
            progress: its epoch or step says whose turn it is.

        Returns:
            The unweighted terms by name.

        Raises:
            KeyError: if a key is missing, as when the views were made for another objective.
            ValueError: if what is in the batch does not fit the backbone.
        """
        objectives = self.current_objectives(progress)
        views = self._pair(batch, VIEW_1, VIEW_2)  # (2B, C, H, W[, D]): view 1 of all, then view 2 of all
        with torch.no_grad():
            teacher = to_tokens(self.teacher["backbone"](views))  # (2B, N, D)
        terms: dict[str, Tensor] = {}
        augmented = None
        if "consistency" in objectives or ("hierarchy" in objectives and "decomposition" in self.loss_weights):
            augmented = self._student_tokens(self._pair(batch, AUGMENTED_1, AUGMENTED_2))
        if "consistency" in objectives and augmented is not None:
            frozen = progress.epoch < self.frozen_prototype_epochs
            terms |= self._consistency(batch, augmented, teacher, frozen)
        if "extrapolation" in objectives:
            terms["extrapolation"] = self._extrapolation(batch, views, teacher)
        if "order" in objectives:
            terms |= self._order(batch, views, teacher)
        if "hierarchy" in objectives:
            terms |= self._hierarchy(batch, augmented, teacher)
        return terms

    def loss_denominators(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Count the matched cells of the batch, by which "local_consistency" divides."""
        if "local_consistency" not in self.loss_weights or CORRESPONDENCE not in batch:
            return {}
        return {PAIR_COUNT: (self.get_cells(batch, CORRESPONDENCE, self.grid) >= 0).sum()}

    def after_step(self, progress: Progress) -> None:
        """Move the center of the self-distillation, if this step saw any."""
        if "distillation" in self.loss_weights:
            self.center.update()

    def export_networks(self) -> dict[str, nn.Module]:
        """Keep the student's backbone, and its heads between quadrants and wholes."""
        heads = ("composition_head", "decomposition_head")
        return {"encoder": self.backbone} | {name: getattr(self, name) for name in heads if hasattr(self, name)}

    # ------------------------------------------------------------------ objectives

    def _consistency(
        self, batch: Mapping[str, Any], student: Tensor, teacher: Tensor, frozen_prototypes: bool
    ) -> dict[str, Tensor]:
        terms = {}
        if "distillation" in self.loss_weights:
            logits = self.prototype_head(_mean(student), frozen_prototypes)  # (2B, K)
            with torch.no_grad():
                targets = self.teacher["prototype_head"](_mean(teacher))
            crossed = torch.cat(targets.chunk(2)[::-1])  # each view learns from the other
            terms["distillation"] = self_distillation(logits, crossed, self.center.center, *self.temperatures)
            self.center.observe(targets)
        if "local_consistency" in self.loss_weights:
            correspondence, count = self.get_cells(batch, CORRESPONDENCE, self.grid), batch.get(PAIR_COUNT)
            s1, s2 = self.local_head(student).chunk(2)
            with torch.no_grad():
                t1, t2 = self.teacher["local_head"](teacher).chunk(2)
            # the correspondence leads from view 1 to view 2, so view 1 stands first in both directions
            to_2 = matched_consistency(s1, t2, correspondence, count)
            terms["local_consistency"] = to_2 + matched_consistency(t1, s2, correspondence, count)
        return terms

    def _extrapolation(self, batch: Mapping[str, Any], views: Tensor, teacher: Tensor) -> Tensor:
        (windows,) = self.get_tensors(batch, WINDOWS)
        if windows.shape != (len(views) // 2, 2, len(self.grid)):
            raise ValueError(
                f"{WINDOWS} must be {(len(views) // 2, 2, len(self.grid))}, the first kept cell of both views, got "
                f"{tuple(windows.shape)}; {self.views_name} makes it"
            )
        offsets = windows.transpose(0, 1).flatten(0, 1)  # (2B, d)
        cells = window_cells(offsets, self.kept, self.grid)
        if self.backbone.supports_visible:  # whose patches know their places in the view
            shown = self.backbone.forward_visible(views, cells)  # (2B, K, D)
        else:
            shown = self._student_tokens(crop_windows(views, offsets, self.kept, self.backbone.strides[-1]))
        missing = torch.ones(teacher.shape[:2], dtype=torch.bool, device=views.device).scatter(1, cells, False)
        return smooth_l1(self.decoder(shown, cells), teacher, missing)

    def _order(self, batch: Mapping[str, Any], views: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        order = self.get_cells(batch, ORDER, self.grid).repeat(2, 1)  # both views of an image are shuffled alike
        cells = split_cells(views, self.backbone.strides[-1], len(self.grid))  # (2B, N, C, h, w[, d])
        shuffled = cells[torch.arange(len(views), device=views.device)[:, None], order]
        student = self._student_tokens(join_cells(shuffled, self.grid))
        terms = {}
        if "order" in self.loss_weights:
            terms["order"] = order_cross_entropy(self.order_head(student), order)
        if "order_consistency" in self.loss_weights:
            # position j of the student shows what the teacher sees at order[j]
            terms["order_consistency"] = matched_consistency(student, teacher, order)
        return terms

    def _hierarchy(self, batch: Mapping[str, Any], augmented: Tensor | None, teacher: Tensor) -> dict[str, Tensor]:
        (quadrants,) = self.get_tensors(batch, QUADRANTS)
        count, halves = 2 ** len(self.grid), tuple(side // 2 for side in self.image_size)
        if quadrants.ndim != len(self.grid) + 3 or quadrants.shape[1] != 2 * count:
            raise ValueError(
                f"{QUADRANTS} must be (B, {2 * count}, C, {', '.join(map(str, halves))}), got "
                f"{tuple(quadrants.shape)}; {self.views_name} makes them"
            )
        check_view(QUADRANTS, quadrants.flatten(0, 1), halves, self.views_name)
        parts = quadrants.unflatten(1, (2, count)).transpose(0, 1).flatten(0, 2)  # (2B * 2^d, C, h, w[, d])
        terms = {}
        if "composition" in self.loss_weights:
            student = _mean(to_tokens(self.backbone(parts))).unflatten(0, (-1, count))  # (2B, 2^d, D)
            terms["composition"] = smooth_l1(self.composition_head(student), _mean(teacher))
        if "decomposition" in self.loss_weights and augmented is not None:
            with torch.no_grad():
                targets = _mean(to_tokens(self.teacher["backbone"](parts))).unflatten(0, (-1, count))
            terms["decomposition"] = smooth_l1(self.decomposition_head(_mean(augmented)), targets)
        return terms

    # ------------------------------------------------------------------ batches and networks

    def _student_tokens(self, images: Tensor) -> Tensor:
        """The student's tokens (2B, N, D) of two views of each image (2B, C, ...)."""
        return to_tokens(torch.cat(self.forward_together(self.backbone, *images.chunk(2))))

    def _pair(self, batch: Mapping[str, Any], *keys: str) -> Tensor:
        views = self.get_tensors(batch, *keys)
        for key, view in zip(keys, views, strict=True):
            check_view(key, view, self.image_size, self.views_name)
        return torch.cat(views)


def _weights_of(objectives: Sequence[str], **weights: float) -> dict[str, float]:
    """The weights of the terms that the objectives have; each objective must keep one."""
    taking_part = {term for objective in objectives for term in TERMS[objective]}
    used = used_terms(**{term: weight for term, weight in weights.items() if term in taking_part})
    for objective in objectives:
        if not set(TERMS[objective]) & set(used):
            raise ValueError(f"objective {objective!r} has no term left, its weights are 0; leave it out")
    return used


def _mean(tokens: Tensor) -> Tensor:
    """Average tokens (B, N, D) over all cells, in float32 also under autocast."""
    return at_least_float32(tokens).mean(1)
