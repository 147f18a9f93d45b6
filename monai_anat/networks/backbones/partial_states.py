"""Errors for weights that MONAI would load in part without a message."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from torch import nn

__all__ = ["refuse_partial_states"]

_SHOWN = 5


def refuse_partial_states(network: nn.Module) -> None:
    """Make ``monai.networks.utils.copy_model_state`` fail where it would leave tensors of a network random.

    ``monai.bundle.load`` copies the tensors that fit and keeps the initial values of all others. A classifier built
    for other classes would then have a random head. Loading by ``load_state_dict`` is not affected.

    Args:
        network: a complete network.

    >>> network = nn.Linear(2, 2)
    >>> refuse_partial_states(network)
    >>> network.load_state_dict(network.state_dict())
    <All keys matched successfully>
    """
    network.register_load_state_dict_pre_hook(_check)


def _check(network: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """``copy_model_state`` hands on its own tensors, of one storage with the network's, for all that did not fit."""
    if not _is_copying():
        return
    own = {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}
    kept = [name for name, tensor in own.items() if name in state and state[name].data_ptr() == tensor.data_ptr()]
    if kept:
        shown = ", ".join(kept[:_SHOWN]) + (", ..." if len(kept) > _SHOWN else "")
        raise ValueError(
            f"the weights do not fit this network: {len(kept)} of {len(own)} tensors would keep random values "
            f"({shown}). Build the network as the weights were trained, with the same classes, or load the encoder "
            "alone (finetune_model_path)"
        )


def _is_copying() -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "copy_model_state":
            return True
        frame = frame.f_back
    return False
