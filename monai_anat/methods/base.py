"""Base classes of pre-training methods: networks and named loss terms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from math import inf, prod
from typing import Any, Self

import torch
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from monai_anat.distributed import get_rank_and_world_size
from monai_anat.keys import VIEW_1, VIEW_2
from monai_anat.methods.parts import MethodPart
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.precision import at_least_float32
from monai_anat.schedules import Progress

__all__ = [
    "SSLMethod",
    "TeacherStudentMethod",
    "check_view",
    "mean_token",
    "split_groups",
    "token_grid",
    "used_terms",
    "uses_batch_statistics",
]

#: substrings of the names of parameters that do not decay although they have two or more dimensions
_UNDECAYED = ("bias", "pos_embed", "position_embedding", "token")


class SSLMethod(nn.Module, ABC):
    """Networks and loss terms of one self-supervised method.

    A method has no optimizer, training loop, device or logging. The trainer computes gradients through
    ``method(batch, progress)`` alone, so that a ``DistributedDataParallel`` wrapper sees every backward pass. The loss
    is the sum of the terms weighted by ``loss_weights``.

    Attributes:
        loss_weights: weight of each term by name; ``forward`` returns terms of these names.
        find_unused_parameters: True if some steps use only part of the parameters (phases or stages).
        views_name: name of the views transform that makes the batches, for error messages.
    """

    loss_weights: dict[str, float]
    find_unused_parameters: bool = False
    views_name: str = "the method's views transform"

    @abstractmethod
    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the unweighted loss terms of a batch.

        Args:
            batch: tensors by the names of :mod:`monai_anat.keys`.
            progress: current position of training.

        Returns:
            Scalars by name; each name has a weight in ``loss_weights``.
        """

    @abstractmethod
    def export_networks(self) -> dict[str, nn.Module]:
        """Return the networks to keep after pre-training by name; at least ``{"encoder": ...}``."""

    def loss_denominators(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Count the denominators of terms that do not divide by the number of samples.

        The trainer counts over the whole local batch, averages the counts over processes and micro-batches, and puts
        them into each micro-batch under these keys. The mean over all micro-batches then equals one joint batch.

        Args:
            batch: the batch of this process for one optimizer step.

        Returns:
            Scalars by key; empty by default.
        """
        return {}

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Split the trainable parameters into optimizer groups; each parameter is in exactly one group.

        Biases, one-dimensional parameters (normalization layers), learned tokens and position embeddings do not decay.
        A group may also have ``lr_scale``, ``scheduled=False`` (excluded from schedules) and an ``optimizer`` other
        than "main".

        Args:
            weight_decay: weight decay of the group "decayed"; schedules of weight decay apply to it alone.

        Returns:
            Non-empty parameter groups for ``torch.optim``.
        """
        decayed: list[nn.Parameter] = []
        undecayed: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                leaf = name.rpartition(".")[2]
                spared = parameter.ndim <= 1 or any(part in leaf for part in _UNDECAYED)
                (undecayed if spared else decayed).append(parameter)
        groups: list[dict[str, Any]] = [
            {"name": "decayed", "params": decayed, "weight_decay": weight_decay, "decayed": True, "optimizer": "main"},
            {"name": "undecayed", "params": undecayed, "weight_decay": 0.0, "decayed": False, "optimizer": "main"},
        ]
        return [group for group in groups if group["params"]]

    def after_step(self, progress: Progress) -> None:
        """Update queues and centers after an optimizer step; does nothing by default.

        The trainer calls it in training only.

        Args:
            progress: position of the step that was made.
        """

    def metrics(self) -> dict[str, Tensor]:
        """Compute scalars to log beside the terms, such as the perplexity of a codebook.

        The log reads them at the end of each epoch.

        Returns:
            Scalars by name; empty by default.
        """
        return {}

    def compile_networks(self, **options: Any) -> None:
        """Compile each network in place with ``torch.compile``; names in the state dict do not change.

        Only backbone and heads are compiled, which take most of the time. The loss terms are not.

        Args:
            options: keyword arguments of ``torch.compile``.
        """
        for network in self._networks():
            network.compile(**options)

    def _networks(self) -> Iterator[nn.Module]:
        for child in self.children():
            inner = isinstance(child, nn.ModuleDict | nn.ModuleList | MethodPart)
            yield from child.children() if inner else (child,)

    def get_tensors(self, batch: Mapping[str, Any], *keys: str) -> tuple[Tensor, ...]:
        """Read tensors from a batch.

        Args:
            batch: tensors by key.
            keys: keys to read.

        Returns:
            The tensors in the order of the keys.

        Raises:
            KeyError: if keys are missing; the message lists the keys of the batch and the transform that makes them.
        """
        missing = [key for key in keys if key not in batch]
        if missing:
            raise KeyError(f"batch lacks {missing}; it holds {sorted(map(str, batch))}. {self.views_name} makes them")
        return tuple(batch[key] for key in keys)

    def get_view_pair(self, batch: Mapping[str, Any], at_least: int = 1) -> tuple[Tensor, Tensor]:
        """Read ``view_1`` and ``view_2``, two views of the same images row by row, from a batch.

        Args:
            batch: tensors by key.
            at_least: smallest number of images that the terms need, over all processes.

        Returns:
            Both views, (B, C, H, W[, D]) each.

        Raises:
            KeyError: if a view is missing.
            ValueError: if the views differ in shape, or the batch holds fewer images.
        """
        view_1, view_2 = self.get_tensors(batch, VIEW_1, VIEW_2)
        if view_1.shape != view_2.shape:
            raise ValueError(
                f"view_1 and view_2 must have one shape, got {tuple(view_1.shape)} and {tuple(view_2.shape)}; "
                f"{self.views_name} makes both of its image_size"
            )
        images = len(view_1) * get_rank_and_world_size()[1]
        if images < at_least:
            raise ValueError(
                f"the batch must hold at least {at_least} images, since the terms are statistics over it, got "
                f"{images}; set batch_size (and micro_batch_size) to {at_least} or more: 32 at least to learn from, "
                "256 in the papers"
            )
        return view_1, view_2

    def get_cells(self, batch: Mapping[str, Any], key: str, grid: Sequence[int]) -> Tensor:
        """Read an order or a correspondence, with one entry per token of the backbone.

        Args:
            batch: tensors by key.
            key: key of the entry.
            grid: tokens per axis.

        Returns:
            The entry (B, N).

        Raises:
            KeyError: if the key is missing.
            ValueError: if its length is not the number of tokens.
        """
        (cells,) = self.get_tensors(batch, key)
        if cells.ndim != 2 or cells.shape[1] != prod(grid):
            shape = " x ".join(map(str, grid))
            raise ValueError(
                f"{key} must be (B, {prod(grid)}), one entry for each of the backbone's {shape} tokens, got "
                f"{tuple(cells.shape)}; give {self.views_name} cell_size = strides[-1] of the backbone and its "
                f"grid_size "
                f"({shape})"
            )
        return cells

    @staticmethod
    def forward_together(network: nn.Module, *views: Tensor) -> tuple[Tensor, ...]:
        """Send views through a network, in one concatenated forward pass where that is exact.

        Layers that normalize by the statistics of the batch (BatchNorm in training) give other results for concatenated
        views. Networks with such layers get one view at a time.

        Args:
            network: any network with one input and one output.
            views: (B, ...) each, of equal shape.

        Returns:
            One output per view.
        """
        if uses_batch_statistics(network):
            return tuple(network(view) for view in views)
        joint: Tensor = network(torch.cat(views))
        return joint.chunk(len(views))


class TeacherStudentMethod(SSLMethod):
    """A method with a student and its moving average, the teacher.

    The teacher is frozen, always in evaluation mode and absent from ``param_groups``. The handler ``TeacherEMA`` alone
    updates it, by :meth:`student_teacher_pairs`. Run it under ``torch.no_grad()``, and only where a term needs it.

    Attributes:
        teacher: teachers by the attribute name of their student module, such as ``backbone``. Parts of the method
            (:class:`~monai_anat.methods.parts.MethodPart`) hold the teachers of their own heads.
    """

    teacher: nn.ModuleDict

    def student_teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pair each student module with its teacher, those of the method's parts included."""
        pairs = [(getattr(self, name), teacher) for name, teacher in self.teacher.items()]
        parts = [part for part in self.children() if isinstance(part, MethodPart)]
        return pairs + [pair for part in parts for pair in part.student_teacher_pairs()]

    def train(self, mode: bool = True) -> Self:
        """Switch the student between training and evaluation; the teacher stays in evaluation mode.

        Args:
            mode: True for training.

        Returns:
            The method itself.
        """
        super().train(mode)
        for _, teacher in self.student_teacher_pairs():
            teacher.eval()
        return self


def token_grid(backbone: Backbone, image_size: int | Sequence[int]) -> tuple[int, ...]:
    """Compute the number of cells (final tokens) per axis of a view.

    Args:
        backbone: backbone; its last stride is the side of a cell in pixels.
        image_size: side of the view in pixels, one number or one per axis.

    Returns:
        Cells along each of the ``backbone.spatial_dims`` axes.

    Raises:
        ValueError: if the cells do not tile the view.
    """
    cell = backbone.strides[-1]
    sides: tuple[int, ...] = ensure_tuple_rep(image_size, backbone.spatial_dims)
    if any(side < cell or side % cell for side in sides):
        nearest = tuple(max(1, round(side / cell)) * cell for side in sides)
        raise ValueError(
            f"image_size must be a multiple of the backbone's last stride, got image_size={image_size} and "
            f"strides[-1]={cell}; nearest is {nearest[0] if len(set(nearest)) == 1 else nearest}"
        )
    return tuple(side // cell for side in sides)


def check_view(name: str, view: Tensor, image_size: Sequence[int], views_name: str) -> None:
    """Check that a view has the size that the heads were built for.

    Args:
        name: key of the view in the batch.
        view: the view (B, C, H, W[, D]).
        image_size: expected pixels per axis.
        views_name: name of the transform that makes the view.

    Raises:
        ValueError: if the sizes differ.
    """
    if tuple(view.shape[2:]) != tuple(image_size):
        sides = " x ".join(map(str, image_size))
        raise ValueError(
            f"{name} must be (B, C, {sides.replace(' x ', ', ')}), got {tuple(view.shape)}; build the method with the "
            f"views' image_size, or {views_name} with grid_size x cell_size = {sides}"
        )


def split_groups(
    groups: Sequence[dict[str, Any]], module: nn.Module, name: str, **entries: Any
) -> list[dict[str, Any]]:
    """Move the parameters of one module into separate parameter groups.

    Args:
        groups: parameter groups of :meth:`SSLMethod.param_groups`.
        module: module to separate.
        name: prefix of the names of its groups.
        entries: entries to replace in its groups, such as ``scheduled=False`` or ``optimizer="adversary"``.

    Returns:
        Non-empty groups with the same parameters.

    >>> head = nn.Linear(1, 1)
    >>> groups = [{"name": "decayed", "params": [head.weight, nn.Parameter(torch.ones(1))]}]
    >>> [(group["name"], len(group["params"])) for group in split_groups(groups, head, "head")]
    [('decayed', 1), ('head_decayed', 1)]
    """
    own = {id(parameter) for parameter in module.parameters()}
    split = []
    for group in groups:
        rest = [parameter for parameter in group["params"] if id(parameter) not in own]
        apart = [parameter for parameter in group["params"] if id(parameter) in own]
        split += [{**group, "params": rest}, {**group, "params": apart, "name": f"{name}_{group['name']}", **entries}]
    return [group for group in split if group["params"]]


def mean_token(feature_map: Tensor) -> Tensor:
    """Average a feature map over all positions, in float32 even under autocast.

    Args:
        feature_map: feature map (B, D, h, w[, d]).

    Returns:
        Embeddings (B, D), float32 or wider.

    >>> mean_token(torch.ones(1, 3, 2, 2))
    tensor([[1., 1., 1.]])
    """
    return at_least_float32(feature_map).flatten(2).mean(2)


def used_terms(**weights: float) -> dict[str, float]:
    """Select the loss terms with a positive weight; a weight of 0 disables a term and the head that only it uses.

    Args:
        weights: weight of each term by name.

    Returns:
        The positive weights, in the order given.

    Raises:
        ValueError: if a weight is negative or not finite, or no weight is positive.

    >>> used_terms(order=0.5, restoration=0.0)
    {'order': 0.5}
    """
    wrong = {name: weight for name, weight in weights.items() if not 0 <= weight < inf}
    if wrong or not any(weights.values()):
        raise ValueError(f"loss weights must be at least 0 and one must be positive, got {wrong or weights}")
    return {name: float(weight) for name, weight in weights.items() if weight > 0}


def uses_batch_statistics(network: nn.Module) -> bool:
    """Check whether a network normalizes by batch statistics, so that views must not share a forward pass.

    Args:
        network: any network.

    Returns:
        True if it holds a BatchNorm in training mode or without running statistics.

    >>> norm = nn.BatchNorm1d(2)
    >>> uses_batch_statistics(norm.train()), uses_batch_statistics(norm.eval())
    (True, False)
    """
    return any(
        isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
        for module in network.modules()
    )
