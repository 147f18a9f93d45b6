"""What every pre-training method is: networks and named loss terms, without optimizer, loop, device or logging."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from math import inf, prod
from typing import Any, Self, TypeVar

import torch
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from monai_anat.distributed import get_rank_and_world_size
from monai_anat.keys import VIEW_1, VIEW_2
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

Network = TypeVar("Network", bound=nn.Module)

#: parts of the names of learned offsets and embeddings that have two or more dimensions and still must not decay
_UNDECAYED = ("bias", "pos_embed", "position_embedding", "token")


class SSLMethod(nn.Module, ABC):
    """Networks and loss terms of one self-supervised method.

    The trainer calls the method itself (``method(batch, progress)``) and nothing else that makes gradients, so that a
    ``DistributedDataParallel`` around it sees every backward pass. It adds up the terms by ``loss_weights``.

    Attributes:
        loss_weights: the weight of each term by name; ``forward`` returns terms of these names.
        find_unused_parameters: True for methods of which some steps leave parameters out (phases or stages).
        views_name: what makes the batches; named where a key is missing.
    """

    loss_weights: dict[str, float]
    find_unused_parameters: bool = False
    views_name: str = "the method's views transform"

    @abstractmethod
    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the unweighted loss terms of a batch.

        Args:
            batch: tensors by the names of :mod:`monai_anat.keys`.
            progress: where training is.

        Returns:
            Scalars by name, each of which has a weight in ``loss_weights``.
        """

    @abstractmethod
    def export_networks(self) -> dict[str, nn.Module]:
        """Name the networks that are kept after pre-training: ``{"encoder": ...}`` at least."""

    def loss_denominators(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Count what the terms divide by, where it is not the number of samples.

        The trainer takes the counts of the whole local batch, averages them over processes and micro-batches and puts
        them into each micro-batch under these keys, so that the mean over all of them equals one joint batch.

        Args:
            batch: the batch of this process for one optimizer step.

        Returns:
            Scalars by key; none here.
        """
        return {}

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Split the trainable parameters into groups for an optimizer, each parameter in exactly one.

        Biases, one-dimensional parameters (those of the normalization layers) and learned tokens and position
        embeddings do not decay. An entry may also carry ``lr_scale``, ``scheduled=False`` (schedules leave it alone)
        and another ``optimizer`` than "main".

        Args:
            weight_decay: of the group that decays; with ``decayed=True`` a schedule may move it.

        Returns:
            Parameter groups for ``torch.optim``, without empty ones.
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
        """Move queues and centers, after a real optimizer step and only in training; nothing here.

        Args:
            progress: the step that was made.
        """

    def metrics(self) -> dict[str, Tensor]:
        """Measure what is to be watched beside the terms, such as how much of a codebook is used.

        The log reads it at the end of an epoch.

        Returns:
            Scalars by name; none here.
        """
        return {}

    def compile_networks(self, **options: Any) -> None:
        """Compile each network in place with ``torch.compile``; the names in the state dict stay.

        The loss terms are left alone: they are cheap, and the backbone and heads are where the time goes.

        Args:
            options: for ``torch.compile``.
        """
        for network in self._networks():
            network.compile(**options)

    def _networks(self) -> Iterator[nn.Module]:
        for child in self.children():
            yield from child.children() if isinstance(child, nn.ModuleDict | nn.ModuleList) else (child,)

    def get_tensors(self, batch: Mapping[str, Any], *keys: str) -> tuple[Tensor, ...]:
        """Read tensors from a batch.

        Args:
            batch: tensors by key.
            keys: which to read.

        Returns:
            The tensors in the order of the keys.

        Raises:
            KeyError: naming the missing keys, those that are there, and what makes them.
        """
        missing = [key for key in keys if key not in batch]
        if missing:
            raise KeyError(f"batch lacks {missing}; it holds {sorted(map(str, batch))}. {self.views_name} makes them")
        return tuple(batch[key] for key in keys)

    def get_view_pair(self, batch: Mapping[str, Any], at_least: int = 1) -> tuple[Tensor, Tensor]:
        """Read ``view_1`` and ``view_2``, two views of the same images row by row, from a batch.

        Args:
            batch: tensors by key.
            at_least: images that the terms need, counted over all processes.

        Returns:
            Both views, (B, C, H, W[, D]) each.

        Raises:
            KeyError: if a view is missing.
            ValueError: if the views differ in shape, or there are fewer images.
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
        """Read a map over the cells of a view, with one entry per token of the backbone.

        Args:
            batch: tensors by key.
            key: of the map, such as an order or a correspondence.
            grid: tokens per axis.

        Returns:
            The map (B, N).

        Raises:
            KeyError: if it is missing.
            ValueError: if it is of another length, naming both and the way out.
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
        """Send views through a network, in one concatenated forward wherever that is exact.

        Layers that normalize by the statistics of the batch (BatchNorm in training) tell one concatenated forward from
        several; with them the views go one by one.

        Args:
            network: any network of one input and one output.
            views: (B, ...) each, of one shape.

        Returns:
            One output per view.
        """
        if uses_batch_statistics(network):
            return tuple(network(view) for view in views)
        joint: Tensor = network(torch.cat(views))
        return joint.chunk(len(views))


class TeacherStudentMethod(SSLMethod):
    """A method whose student learns from a moving average of itself.

    The teacher is frozen, in evaluation mode whatever ``train`` says, no part of ``param_groups``, and moved by the
    handler ``TeacherEMA`` alone, which reads :meth:`student_teacher_pairs`. Run it under ``torch.no_grad()`` and only
    for what a term uses.

    Attributes:
        teacher: the teacher of each student module that has one, by the attribute that the student's is: the backbone,
            and the heads that the teacher uses.
    """

    teacher: nn.ModuleDict

    def student_teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pair each student module with its teacher."""
        return [(getattr(self, name), teacher) for name, teacher in self.teacher.items()]

    def train(self, mode: bool = True) -> Self:
        """Switch the student between training and evaluation; the teacher stays in evaluation."""
        super().train(mode)
        for _, teacher in self.student_teacher_pairs():
            teacher.eval()
        return self

    @staticmethod
    def teacher_of(student: Network) -> Network:
        """Copy a student module into a teacher: equal weights, frozen, in evaluation mode.

        Args:
            student: the module to copy; it stays as it is.

        Returns:
            The copy.
        """
        teacher = copy.deepcopy(student)
        return teacher.requires_grad_(False).eval()


def token_grid(backbone: Backbone, image_size: int | Sequence[int]) -> tuple[int, ...]:
    """Work out how many cells (final tokens) a backbone has per axis of a view.

    Args:
        backbone: its last stride is the side of a cell.
        image_size: side of the view in pixels, one for all axes or one each.

    Returns:
        Cells per axis, one number for each of ``backbone.spatial_dims``.

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
    """Raise unless a view (B, C, H, W[, D]) has the size that the heads were built for.

    Args:
        name: key of the view in the batch.
        view: the view.
        image_size: pixels per axis.
        views_name: the transform that makes the view.

    Raises:
        ValueError: naming both sizes and the way out.
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
    """Give the parameters of one module parameter groups of their own.

    Args:
        groups: what :meth:`SSLMethod.param_groups` makes.
        module: whose parameters are set apart.
        name: put in front of the names of their groups.
        entries: what their groups say otherwise: ``scheduled=False``, another ``optimizer``, ...

    Returns:
        Groups with the same parameters, without empty ones.

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
    """Average a feature map over all positions, in float32 also under autocast.

    Args:
        feature_map: (B, D, h, w[, d]).

    Returns:
        Embeddings (B, D), float32 or wider.

    >>> mean_token(torch.ones(1, 3, 2, 2))
    tensor([[1., 1., 1.]])
    """
    return at_least_float32(feature_map).flatten(2).mean(2)


def used_terms(**weights: float) -> dict[str, float]:
    """Keep the terms that count: a weight of 0 leaves a term, and the head that only it uses, away.

    Args:
        weights: the weight of each term by name.

    Returns:
        The positive ones, in the order given.

    Raises:
        ValueError: for a weight that is negative or not finite, or if none is positive.

    >>> used_terms(order=0.5, restoration=0.0)
    {'order': 0.5}
    """
    wrong = {name: weight for name, weight in weights.items() if not 0 <= weight < inf}
    if wrong or not any(weights.values()):
        raise ValueError(f"loss weights must be at least 0 and one must be positive, got {wrong or weights}")
    return {name: float(weight) for name, weight in weights.items() if weight > 0}


def uses_batch_statistics(network: nn.Module) -> bool:
    """Say whether a layer normalizes by the statistics of the batch at hand, so that views must not share a pass.

    Args:
        network: any network.

    Returns:
        True for a BatchNorm in training, or without running statistics.

    >>> norm = nn.BatchNorm1d(2)
    >>> uses_batch_statistics(norm.train()), uses_batch_statistics(norm.eval())
    (True, False)
    """
    return any(
        isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
        for module in network.modules()
    )
