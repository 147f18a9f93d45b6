"""Part-whole heads: composition of a structure from its parts, and decomposition into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from torch import Tensor, nn

__all__ = ["CompositionHead", "DecompositionHead"]

Head = TypeVar("Head", bound=nn.Module)


class CompositionHead(nn.Sequential):
    """Predict the embedding of a whole from those of its parts.

    Linear(P D, D), ReLU, Linear(D, D) on the concatenated parts: the composability head of Adam-v2 (Hosseinzadeh Taher
    et al., CVPR 2024, arXiv:2404.15672), with the parameter names of the published files, ``0`` and ``2``. The composer
    of Lamps (arXiv:2512.22872) has ``hidden_features=(D, D)`` and ``layer_norm=True``; in its published files the names
    start with ``composer.layer``.

    Args:
        in_features: width D of an embedding.
        num_parts: number of parts P.
        hidden_features: width of each hidden layer. Defaults to one layer of D.
        layer_norm: apply LayerNorm before each ReLU. The first Linear then has no bias.

    Raises:
        ValueError: if a width is below 1, or there are fewer than two parts.

    Example:
        >>> import torch
        >>> CompositionHead(32)(torch.zeros(2, 4, 32)).shape
        torch.Size([2, 32])
    """

    def __init__(
        self,
        in_features: int,
        num_parts: int = 4,
        *,
        hidden_features: Sequence[int] | None = None,
        layer_norm: bool = False,
    ) -> None:
        hidden = (in_features,) if hidden_features is None else tuple(hidden_features)
        _check(in_features, num_parts, hidden)
        super().__init__(*_layers((num_parts * in_features, *hidden, in_features), layer_norm))
        self.in_features = in_features
        self.num_parts = num_parts

    @classmethod
    def of_weights(cls, weights: Mapping[str, Tensor]) -> CompositionHead:
        """Build a head from its state dict and load it.

        Args:
            weights: state dict of such a head, of any widths.

        Returns:
            The head, in evaluation mode.

        Raises:
            ValueError: if the state dict belongs to another module.
        """
        widths, layer_norm = _widths(weights)
        head = cls(widths[-1], max(2, widths[0] // widths[-1]), hidden_features=widths[1:-1], layer_norm=layer_norm)
        return _filled(head, weights)

    def forward(self, parts: Tensor) -> Tensor:
        """Predict the whole (B, D) from its parts (B, P, D), which always have the same order."""
        whole = parts.flatten(1)  # (B, P * D)
        for layer in self:
            whole = layer(whole)
        return whole


class DecompositionHead(nn.Sequential):
    """Predict the embeddings of the parts from that of the whole.

    Linear(D, D), ReLU, Linear(D, P D), split into P: the decomposability head of Adam-v2 (Hosseinzadeh Taher et al.,
    CVPR 2024, arXiv:2404.15672), with the parameter names of the published files, ``0`` and ``2``. The decomposer of
    Lamps (arXiv:2512.22872) has ``hidden_features=(P * D,)`` and ``layer_norm=True``; in its published files the names
    start with ``decomposer.layer``.

    Args:
        in_features: width D of an embedding.
        num_parts: number of parts P.
        hidden_features: width of each hidden layer. Defaults to one layer of D.
        layer_norm: apply LayerNorm before each ReLU. The first Linear then has no bias.

    Raises:
        ValueError: if a width is below 1, or there are fewer than two parts.

    Example:
        >>> import torch
        >>> DecompositionHead(32)(torch.zeros(2, 32)).shape
        torch.Size([2, 4, 32])
    """

    def __init__(
        self,
        in_features: int,
        num_parts: int = 4,
        *,
        hidden_features: Sequence[int] | None = None,
        layer_norm: bool = False,
    ) -> None:
        hidden = (in_features,) if hidden_features is None else tuple(hidden_features)
        _check(in_features, num_parts, hidden)
        super().__init__(*_layers((in_features, *hidden, num_parts * in_features), layer_norm))
        self.in_features = in_features
        self.num_parts = num_parts

    @classmethod
    def of_weights(cls, weights: Mapping[str, Tensor]) -> DecompositionHead:
        """Build a head from its state dict and load it.

        Args:
            weights: state dict of such a head, of any widths.

        Returns:
            The head, in evaluation mode.

        Raises:
            ValueError: if the state dict belongs to another module.
        """
        widths, layer_norm = _widths(weights)
        head = cls(widths[0], max(2, widths[-1] // widths[0]), hidden_features=widths[1:-1], layer_norm=layer_norm)
        return _filled(head, weights)

    def forward(self, whole: Tensor) -> Tensor:
        """Predict the parts (B, P, D) of a whole (B, D)."""
        flat = whole
        for layer in self:
            flat = layer(flat)
        return flat.reshape(-1, self.num_parts, self.in_features)


def _layers(widths: Sequence[int], layer_norm: bool) -> list[nn.Module]:
    """Linear, [LayerNorm,] ReLU for every hidden width, then a Linear."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers.append(nn.Linear(before, after, bias=bool(layers) or not layer_norm))
        layers += [nn.LayerNorm(after), nn.ReLU(inplace=True)] if layer_norm else [nn.ReLU(inplace=True)]
    return [*layers, nn.Linear(widths[-2], widths[-1])]


def _widths(weights: Mapping[str, Tensor]) -> tuple[tuple[int, ...], bool]:
    """Read the widths from input to output, and whether hidden layers are normalized."""
    linear = [tensor for name, tensor in weights.items() if name.endswith("weight") and tensor.ndim == 2]
    if len(linear) < 2:
        raise ValueError(f"weights must be those of two linear layers or more, got {sorted(weights)}")
    layer_norm = any(name.endswith("weight") and tensor.ndim == 1 for name, tensor in weights.items())
    return (linear[0].shape[1], *(tensor.shape[0] for tensor in linear)), layer_norm


def _filled(head: Head, weights: Mapping[str, Tensor]) -> Head:
    try:
        head.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ValueError(f"weights must be those of a {type(head).__name__}: {error}") from error
    return head.eval()


def _check(in_features: int, num_parts: int, hidden: Sequence[int]) -> None:
    if in_features < 1 or num_parts < 2:
        raise ValueError(
            f"in_features must be at least 1 and num_parts at least 2, got in_features={in_features} and "
            f"num_parts={num_parts}; a structure cut into 2 x 2 has 4 parts"
        )
    if not hidden or min(hidden) < 1:
        raise ValueError(f"hidden_features must name one width or more, each at least 1, got {tuple(hidden)}")
