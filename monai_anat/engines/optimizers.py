"""Optimizers by name, layer-wise adaptive rate scaling (LARS), and gradient clipping per tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from monai_anat.methods.base import SSLMethod

__all__ = ["LARS", "build_optimizers", "clip_each_tensor"]


class LARS(Optimizer):
    r"""SGD with layer-wise adaptive rate scaling (LARS; You et al., arXiv:1708.03888), for Barlow Twins and MLVICX.

    For a weight :math:`w` with gradient :math:`g`, :math:`d = g + \lambda w` is scaled by
    :math:`\eta \lVert w \rVert / \lVert d \rVert` (1 if either norm is 0) before momentum is applied.
    One-dimensional parameters get neither weight decay nor scaling.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        weight_decay: weight decay :math:`\lambda`.
        momentum: momentum of the velocity, in [0, 1).
        eta: trust coefficient :math:`\eta`.

    >>> weight = nn.Parameter(torch.ones(2, 2)); weight.grad = torch.ones(2, 2)
    >>> LARS([weight], lr=1.0, eta=0.1).step()
    >>> round(weight[0, 0].item(), 4)
    0.9
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.2,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        eta: float = 0.001,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "eta": eta})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the parameters without host synchronization.

        Args:
            closure: function that computes the loss again.

        Returns:
            The result of ``closure``, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, direction: Tensor, group: Mapping[str, Any]) -> None:
        if parameter.ndim > 1:
            direction = direction.add(parameter, alpha=group["weight_decay"])
            weight_norm, direction_norm = parameter.norm(), direction.norm()
            ratio = group["eta"] * weight_norm / direction_norm
            usable = (weight_norm > 0) & (direction_norm > 0)
            direction = direction * torch.where(usable, ratio, torch.ones_like(ratio))
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        velocity = state["momentum"].mul_(group["momentum"]).add_(direction)
        parameter.add_(velocity, alpha=-group["lr"])


_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "lars": LARS,
    "sgd": torch.optim.SGD,
}


def build_optimizers(
    method: SSLMethod,
    name: str = "adamw",
    *,
    lr: float,
    weight_decay: float = 0.0,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    **options: Any,
) -> dict[str, Optimizer]:
    """Build one optimizer for each optimizer name among the method's parameter groups.

    Adam, AdamW and SGD are the fused versions, which skip a non-finite step without host synchronization.

    Args:
        method: method with ``param_groups(weight_decay)``. A group's ``optimizer`` entry names its optimizer ("main" if
            absent); a method with an adversary names a second one.
        name: "adamw", "adam", "sgd" or "lars".
        lr: learning rate; a schedule of the trainer overrides it.
        weight_decay: weight decay of the groups that decay.
        others: settings of optimizers other than "main": ``{"adversary": {"name": "adam", "lr": 2e-4}}``, with any
            options. Name and rate default to those of "main"; an optimizer that is not listed has all settings of
            "main".
        options: arguments of the optimizer's class (``betas``, ``momentum``, ...).

    Returns:
        The optimizers by name.

    Raises:
        ValueError: if a name or option is unknown, or if no parameter group names an optimizer of ``others``.
    """
    grouped: dict[str, list[dict[str, Any]]] = {}
    for group in method.param_groups(weight_decay):
        grouped.setdefault(group.get("optimizer", "main"), []).append(dict(group))
    settings: dict[str, Mapping[str, Any]] = {key: {"name": name, "lr": lr, **options} for key in grouped}
    for key, own in (others or {}).items():
        if key not in grouped:
            raise ValueError(
                f"others must name optimizers of the method's parameter groups, {sorted(grouped)}, got {key!r}"
            )
        settings[key] = {"name": name, "lr": lr, **own}
    return {key: _build(groups, **settings[key]) for key, groups in grouped.items()}


def _build(groups: list[dict[str, Any]], name: str, lr: float, **options: Any) -> Optimizer:
    if name not in _OPTIMIZERS:
        raise ValueError(f"name must be one of {sorted(_OPTIMIZERS)}, got {name!r}")
    if name == "sgd":
        options.setdefault("momentum", 0.9)
    if name != "lars":
        options.setdefault("fused", True)
    try:
        return _OPTIMIZERS[name](groups, lr=lr, **options)
    except TypeError as error:
        raise ValueError(f"optimizer {name!r} does not take these options: {sorted(options)} ({error})") from error


def clip_each_tensor(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Clip the gradient of every parameter tensor by its own norm instead of the global norm (Lamps, ACE, Adam-v2).

    Args:
        parameters: parameters; those without a gradient are ignored.
        max_norm: limit of the Euclidean norm of each gradient.

    Returns:
        The global norm before clipping, a scalar tensor.

    >>> weight = nn.Parameter(torch.zeros(4)); weight.grad = torch.ones(4)
    >>> clip_each_tensor([weight], 1.0).item(), round(weight.grad.norm().item(), 4)
    (2.0, 1.0)
    """
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not grads:
        return torch.zeros(())
    norms = torch._foreach_norm(grads)
    scales = [torch.clamp(max_norm / (norm + 1e-6), max=1.0) for norm in norms]
    torch._foreach_mul_(grads, scales)
    total: Tensor = torch.linalg.vector_norm(torch.stack(list(norms)))
    return total
