"""Examples of restored views, for reports."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable
from numpy.typing import NDArray

from monai_anat.files import replace_file
from monai_anat.keys import ORDER, TARGET, VIEW_1
from monai_anat.methods.base import SSLMethod
from monai_anat.seeding import sample_seed

__all__ = ["load_restorations", "save_restorations"]

_TRIES = 64


def save_restorations(
    path: str | os.PathLike[str],
    method: SSLMethod,
    views: Randomizable,
    items: Sequence[Mapping[str, Any]],
    *,
    count: int = 3,
    seed: int = 0,
) -> Path:
    """Restore a few shuffled and a few distorted views, and write inputs, outputs and targets.

    Args:
        path: an ``.npz`` file.
        method: POPAR, PEAC or another method with ``backbone`` and ``restoration_head``; its mode is restored.
        views: the method's transform, such as ``RandPEACViewsd``.
        items: loaded images, the input of ``views``.
        count: number of views of each kind.
        seed: random seed of the views.

    Returns:
        The path.

    Raises:
        TypeError: if the method has no restoration head.
    """
    if not hasattr(method, "restoration_head"):
        raise TypeError(
            f"method must have a restoration_head, got {type(method).__name__}; restoration_weight may be 0"
        )
    chosen: dict[str, list[Mapping[str, torch.Tensor]]] = {"shuffled": [], "distorted": []}
    for number in range(_TRIES):
        views.set_random_state(seed=sample_seed(seed, 0, number))
        sample = views(dict(items[number % len(items)]))  # type: ignore[operator]  # MONAI's base is not callable
        plain = bool((sample[ORDER] == torch.arange(len(sample[ORDER]))).all())
        kind = chosen["distorted" if plain else "shuffled"]
        if len(kind) < count:
            kind.append(sample)
        if all(len(kind) == count for kind in chosen.values()):
            break
    samples = [sample for kind in chosen.values() for sample in kind]
    inputs, targets = (torch.stack([torch.as_tensor(sample[key]) for sample in samples]) for key in (VIEW_1, TARGET))
    restored = _restore(method, inputs)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    names = [name for name, kind in chosen.items() for _ in kind]
    arrays = {"inputs": inputs, "restored": restored, "targets": targets}
    halves: dict[str, Any] = {key: value.numpy().astype(np.float16) for key, value in arrays.items()}
    with replace_file(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, names=np.asarray(names), **halves)
    return target


def load_restorations(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read what :func:`save_restorations` wrote.

    Returns:
        ``inputs``, ``restored``, ``targets``, (N, C, H, W) each, and ``names`` (N,).
    """
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@torch.no_grad()
def _restore(method: Any, inputs: torch.Tensor) -> torch.Tensor:
    device = next(method.parameters()).device
    training = method.training
    method.eval()
    restored: torch.Tensor = method.restoration_head(method.backbone(inputs.to(device))).float().cpu()
    method.train(training)
    return restored
