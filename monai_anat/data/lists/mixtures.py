"""Mixtures of datalists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_anat.data.items import Item

__all__ = ["mix_datalists"]


def mix_datalists(
    sources: Mapping[str, Sequence[Mapping[str, Any]]],
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    length: int | None = None,
) -> list[Item]:
    """Mix lists by weights: short lists are repeated, long lists are subsampled.

    Args:
        sources: name -> items.
        weights: name -> share of an epoch, in any unit; by default the length of each list.
        seed: random seed of the items of a list that is subsampled or repeated in part.
        length: number of items of the mixture; by default that of all lists together.

    Returns:
        Items with ``source``, ordered by source. The sampler shuffles them.

    Raises:
        ValueError: if the names of weights and sources differ, a weight is not positive, or a list is empty.

    >>> parts = {"a": [{"image": "1"}], "b": [{"image": "2"}, {"image": "3"}, {"image": "4"}]}
    >>> [item["source"] for item in mix_datalists(parts, {"a": 1, "b": 1})]
    ['a', 'a', 'b', 'b']
    """
    shares = dict(weights) if weights is not None else {name: float(len(items)) for name, items in sources.items()}
    if set(shares) != set(sources) or min(shares.values(), default=1) <= 0:
        raise ValueError(f"weights must be positive and name the sources {sorted(sources)}, got {shares}")
    total = length if length is not None else sum(len(items) for items in sources.values())
    names = sorted(sources)
    bounds = np.rint(np.cumsum([0.0] + [shares[name] for name in names]) / sum(shares.values()) * total).astype(int)
    mixed: list[Item] = []
    for number, name in enumerate(names):
        items, wanted = sources[name], int(bounds[number + 1] - bounds[number])
        if not items:
            raise ValueError(f"every source must hold items, got none in {name!r}")
        whole, rest = divmod(wanted, len(items))
        extra = np.sort(np.random.default_rng((seed, number)).permutation(len(items))[:rest]).tolist()
        mixed += [{**items[i], "source": name} for i in [*list(range(len(items))) * whole, *extra]]
    return mixed
