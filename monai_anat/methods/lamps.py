"""Lamps: consistency, coherence and hierarchy of anatomy."""

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
from monai_anat.losses.ordering import order_cross_entropy
from monai_anat.losses.smooth import smooth_l1
from monai_anat.methods.base import TeacherStudentMethod, check_view, token_grid, used_terms
from monai_anat.methods.lamps_views import OBJECTIVES, check_objectives
from monai_anat.methods.parts import frozen_copy
from monai_anat.methods.self_distillation import SelfDistillation
from monai_anat.networks.backbones.backbone import Backbone, to_tokens
from monai_anat.networks.heads.context_decoder import ContextDecoder
from monai_anat.networks.heads.order import OrderHead
from monai_anat.networks.heads.part_whole_heads import CompositionHead, DecompositionHead
from monai_anat.networks.heads.projection import ProjectionHead
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
    r"""Learning anatomy from multiple perspectives, with objectives that alternate.

    A student :math:`s` learns from its moving average :math:`t`, which always sees the clean views. With tokens
    :math:`z`, their mean :math:`\bar z` and views 1 and 2, the objectives and their terms are

    - consistency: "distillation", the mean of the self-distillation (DINO) of :math:`\bar z` of augmented view 1 with
      view 2 as target, and of augmented view 2 with view 1 as target; "local_consistency", :math:`m(s_1, t_2) +
      m(s_2, t_1)` with the mean squared difference :math:`m` of the local embeddings of matched cells;
    - extrapolation: the student sees a window of ``kept`` cells and a context decoder predicts the others;
      "extrapolation" is the smooth L1 distance to the teacher's tokens of the missing cells;
    - order: the student sees the cells in the order :math:`p`; "order" is the cross-entropy of their original
      positions, "order_consistency" the mean squared difference of :math:`z^s_j` and :math:`z^t_{p_j}`;
    - hierarchy: "composition", the smooth L1 distance between the whole composed of the student's quadrants and the
      teacher's :math:`\bar z`; "decomposition", the smooth L1 distance between the quadrants decomposed from the
      student's :math:`\bar z` of the augmented view and the teacher's quadrants

    ("Lamps: Learning Anatomy from Multiple Perspectives via Self-supervision in Chest Radiographs", arXiv 2512.22872).
    ``alternate`` selects one objective per epoch or per step. The batch must have been made for that objective, see
    :class:`RandLampsViewsd`. In 3D, quadrants are octants.

    Differs from the released code: the target of the order objective is the teacher's map in the shuffled order (there,
    all tokens of a sample have the same target; the standard deviation of the targets is 0); consistency is included
    (there, it is commented out: ``objectives=("extrapolation", "order", "hierarchy")``); extrapolation averages over
    the missing cells alone (``extrapolation_weight=75 / 196`` gives the released value); the window is cut out of the
    image, which for Swin is the same as dropping the other patches after their embedding. A ViT embeds patches with
    their positions and therefore drops the others after the embedding.

    Args:
        backbone: any backbone; 14 x 14 tokens of 32 pixels in the paper (Swin-B, ``norm_eps=1e-6``).
        image_size: side of a view in pixels, a multiple of ``backbone.strides[-1]``; one number or one per axis.
        objectives: objectives in the order of their turns; an objective may occur more than once.
        alternate: "epoch" or "step" for one objective at a time; "none" for the sum of all objectives in every step.
        kept: cells per side of the window that the student sees for extrapolation.
        local_dim: width of the local head and its embeddings.
        num_prototypes: number of prototypes of the self-distillation.
        prototype_hidden: width of the hidden layers of the prototype head.
        decoder_depth: blocks of the context decoder.
        decoder_heads: attention heads of the context decoder.
        student_temperature: temperature of the student in the self-distillation.
        teacher_temperature: temperature of the teacher in the self-distillation.
        center_momentum: weight of the old center of the teacher's scores.
        frozen_prototype_epochs: epochs at the start in which the prototypes get no gradient.
        distillation_weight: weight of "distillation"; 0 disables the term and its head, here and below.
        local_weight: weight of "local_consistency".
        extrapolation_weight: weight of "extrapolation".
        order_weight: weight of "order".
        order_consistency_weight: weight of "order_consistency".
        composition_weight: weight of "composition".
        decomposition_weight: weight of "decomposition".

    Raises:
        ValueError: if the cells do not tile the view, an objective or ``alternate`` is unknown, an objective has no
            term, the window leaves no cell missing, or a grid with quadrants is odd.

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
        self.find_unused_parameters = alternate != "none"
        self.backbone = backbone
        self.teacher = nn.ModuleDict({"backbone": frozen_copy(backbone)})
        features = backbone.num_features
        if "distillation" in self.loss_weights:
            self.find_unused_parameters |= frozen_prototype_epochs > 0
            self.distillation = SelfDistillation(
                features,
                num_prototypes,
                hidden_features=prototype_hidden,
                student_temperature=student_temperature,
                teacher_temperature=teacher_temperature,
                center_momentum=center_momentum,
                frozen_epochs=frozen_prototype_epochs,
            )
        self._add_heads(local_dim, decoder_depth, decoder_heads)

    def _add_heads(self, local_dim: int, decoder_depth: int, decoder_heads: int) -> None:
        """Add the heads of the other terms."""
        features, parts = self.backbone.num_features, 2 ** len(self.grid)
        if "local_consistency" in self.loss_weights:
            self.local_head = ProjectionHead(features, local_dim)
            self.teacher["local_head"] = frozen_copy(self.local_head)
        if "extrapolation" in self.loss_weights:
            self.decoder = ContextDecoder(features, self.grid, depth=decoder_depth, num_heads=decoder_heads)
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
        """Return the objectives of a step, which are all of them if they do not alternate.

        Args:
            progress: current position of training.

        Returns:
            Names of objectives.
        """
        if self.alternate == "none":
            return tuple(dict.fromkeys(self.objectives))
        count = progress.epoch if self.alternate == "epoch" else progress.step
        return (self.objectives[TurnPhase(len(self.objectives))(count)],)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the terms of the current objectives.

        Args:
            batch: collated items of :class:`RandLampsViewsd`; "local_consistency" divides by ``pair_count``, if given.
            progress: current position; its epoch or step selects the objective.

        Returns:
            The unweighted terms by name.

        Raises:
            KeyError: if a key is missing, for example because the views were made for another objective.
            ValueError: if the batch does not fit the backbone.
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
            terms |= self._consistency(batch, augmented, teacher, progress.epoch)
        if "extrapolation" in objectives:
            terms["extrapolation"] = self._extrapolation(batch, views, teacher)
        if "order" in objectives:
            terms |= self._order(batch, views, teacher)
        if "hierarchy" in objectives:
            terms |= self._hierarchy(batch, augmented, teacher)
        return terms

    def loss_denominators(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Count the matched cells of the batch, the denominator of "local_consistency"."""
        if "local_consistency" not in self.loss_weights or CORRESPONDENCE not in batch:
            return {}
        return {PAIR_COUNT: (self.get_cells(batch, CORRESPONDENCE, self.grid) >= 0).sum()}

    def after_step(self, progress: Progress) -> None:
        """Move the center of the self-distillation."""
        if "distillation" in self.loss_weights:
            self.distillation.update_center()

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the student's backbone and its heads between quadrants and wholes."""
        heads = ("composition_head", "decomposition_head")
        return {"encoder": self.backbone} | {name: getattr(self, name) for name in heads if hasattr(self, name)}

    # ------------------------------------------------------------------ objectives

    def _consistency(self, batch: Mapping[str, Any], student: Tensor, teacher: Tensor, epoch: int) -> dict[str, Tensor]:
        terms = {}
        if "distillation" in self.loss_weights:
            scores, targets = self.distillation.scores(_mean(student), _mean(teacher), epoch)  # (2B, K)
            crossed = torch.cat(targets.chunk(2)[::-1])  # each view follows the other one
            terms["distillation"] = self.distillation.compare(scores, crossed)
        if "local_consistency" in self.loss_weights:
            correspondence, count = self.get_cells(batch, CORRESPONDENCE, self.grid), batch.get(PAIR_COUNT)
            s1, s2 = self.local_head(student).chunk(2)
            with torch.no_grad():
                t1, t2 = self.teacher["local_head"](teacher).chunk(2)
            # the correspondence maps view 1 to view 2, so view 1 is the first argument in both directions
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
        if self.backbone.supports_visible:  # patches are embedded with their positions
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
        """Compute the student's tokens (2B, N, D) of two views of each image (2B, C, ...)."""
        return to_tokens(torch.cat(self.forward_together(self.backbone, *images.chunk(2))))

    def _pair(self, batch: Mapping[str, Any], *keys: str) -> Tensor:
        views = self.get_tensors(batch, *keys)
        for key, view in zip(keys, views, strict=True):
            check_view(key, view, self.image_size, self.views_name)
        return torch.cat(views)


def _weights_of(objectives: Sequence[str], **weights: float) -> dict[str, float]:
    """Select the weights of the objectives' terms; each objective needs at least one."""
    included = {term for objective in objectives for term in TERMS[objective]}
    used = used_terms(**{term: weight for term, weight in weights.items() if term in included})
    for objective in objectives:
        if not set(TERMS[objective]) & set(used):
            raise ValueError(f"objective {objective!r} has no term left, its weights are 0; remove it from objectives")
    return used


def _mean(tokens: Tensor) -> Tensor:
    """Average tokens (B, N, D) over all cells, in float32 even under autocast."""
    return at_least_float32(tokens).mean(1)
