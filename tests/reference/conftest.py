"""Inputs and expected values of the reference entries (``tests/reference/*.json``).

An entry stores recipes instead of arrays: deterministic formulas that any language can repeat. ``recipes.build``
turns them into tensors, ``reference`` reads a file, ``assert_agrees`` compares with the entry's own tolerance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

HERE = Path(__file__).parent


def fill(shape: Sequence[int], seed: float, scale: float = 1.0, offset: float = 0.0) -> Tensor:
    """A sinusoid of the flat index."""
    i = np.arange(int(np.prod(shape)), dtype=np.float64)
    values = np.sin(12.9898 * (i + 1) + 78.233 * seed) * scale + offset
    return torch.from_numpy(values.reshape(tuple(shape)).astype(np.float32))


def hfill(shape: Sequence[int], seed: float, scale: float = 1.0, offset: float = 0.0) -> Tensor:
    """Uniform-looking values in [-scale, scale] + offset."""
    i = np.arange(int(np.prod(shape)), dtype=np.float64)
    s = np.sin(12.9898 * (i + 1) + 78.233 * seed) * 43758.5453
    values = (2.0 * (s - np.floor(s)) - 1.0) * scale + offset
    return torch.from_numpy(values.reshape(tuple(shape)).astype(np.float32))


FILLS: dict[str, Callable[..., Tensor]] = {"fill": fill, "hfill": hfill}


def permutation(seed: float | None, n: int = 196) -> Tensor:
    """The order that sorts ``fill``; no seed (null in JSON) is the identity."""
    if seed is None:
        return torch.arange(n)
    return torch.from_numpy(np.argsort(fill((n,), seed).numpy(), kind="stable").copy())


def fill_state(shapes: Mapping[str, Sequence[int]], fn: str) -> dict[str, Tensor]:
    """A state dict; the k-th key in plain string order gets seed k."""
    state = {}
    for k, name in enumerate(sorted(shapes)):
        shape, leaf = tuple(shapes[name]), name.split(".")[-1]
        if leaf in ("bias", "relative_position_bias_table"):
            state[name] = FILLS[fn](shape, k, 0.02)
        elif len(shape) >= 2:
            state[name] = FILLS[fn](shape, k, float(np.prod(shape) / shape[0]) ** -0.5)
        else:  # one-dimensional normalization weight
            state[name] = FILLS[fn](shape, k, 0.05, 1.0)
    return state


def build(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of one entry by name; recipes are evaluated in the order in which they stand."""
    tensors: dict[str, Any] = {}
    helpers = {
        "l2norm": lambda v: F.normalize(v, dim=1),
        "sigmoid": torch.sigmoid,
        "rows": lambda v, n: v[torch.arange(n) % len(v)],
        "put": lambda a, b: torch.cat([b, a[len(b) :]]),
    }
    for name, recipe in inputs.items():
        if not isinstance(recipe, dict):
            continue
        if "fn" in recipe:
            fn = FILLS[recipe["fn"]]
            value = fn(tuple(recipe["shape"]), recipe["seed"], recipe.get("scale", 1.0), recipe.get("offset", 0.0))
            for step in recipe.get("post", []):
                value = F.relu(value) if step.startswith("relu") else F.normalize(value, dim=int(step.split(":")[1]))
            tensors[name] = value
        elif "expr" in recipe:  # the files are part of this repository
            tensors[name] = eval(recipe["expr"], dict(helpers, **tensors))
        elif "perm_seeds" in recipe:
            tensors[name] = torch.stack([permutation(s, recipe["n"]) for s in recipe["perm_seeds"]])
        elif "params" in recipe and "keys" in recipe and len(recipe["keys"]) == recipe.get("n", len(recipe["keys"])):
            tensors[name] = fill_state(recipe["keys"], recipe["params"])
    return tensors


@pytest.fixture(scope="session")
def recipes() -> SimpleNamespace:
    """The input recipes: fill, hfill, permutation, fill_state, build."""
    return SimpleNamespace(fill=fill, hfill=hfill, permutation=permutation, fill_state=fill_state, build=build)


@pytest.fixture(scope="session")
def reference() -> Callable[[str], dict[str, dict[str, Any]]]:
    """``reference("peac")`` is {entry name: entry} of ``peac.json``."""

    def read(stem: str) -> dict[str, dict[str, Any]]:
        content = json.loads((HERE / f"{stem}.json").read_text(encoding="utf-8"))
        entries = content if isinstance(content, list) else content["entries"]
        return {entry["name"]: entry for entry in entries}

    return read


@pytest.fixture(scope="session")
def assert_agrees() -> Callable[..., None]:
    """``assert_agrees(value, expected, tolerance)``: |v - e| <= atol + rtol |e|; integers are equal."""

    def check(value: Any, expected: Any, tolerance: Mapping[str, float] | None = None) -> None:
        v = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else np.asarray(value)
        e = np.asarray(expected)
        assert v.shape == e.shape, f"shape {v.shape}, expected {e.shape}"
        if tolerance is None or np.issubdtype(e.dtype, np.integer):
            np.testing.assert_array_equal(v, e)
        else:
            np.testing.assert_allclose(v, e, rtol=tolerance["rtol"], atol=tolerance["atol"])

    return check
