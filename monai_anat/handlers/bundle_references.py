"""References between the entries of a bundle configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["reachable_ids", "references_in", "uses"]

#: ``@train#trainer`` or ``@train::trainer``, also inside expressions
_REFERENCE = re.compile(r"@((?:\w+)(?:(?:#|::)\w+)*)")


def references_in(value: Any) -> Iterator[str]:
    """Yield the ids that a part of a configuration refers to, in the form ``train#trainer``.

    Args:
        value: an entry with everything inside it.

    >>> sorted(references_in({"lr": "@rate", "run": ["$@train::trainer.run()"], "text": "a@b"}))
    ['rate', 'train#trainer']
    """
    if isinstance(value, Mapping):
        for part in value.values():
            yield from references_in(part)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from references_in(part)
    elif isinstance(value, str) and value.startswith(("@", "$")):
        for match in _REFERENCE.finditer(value):
            yield match[1].replace("::", "#")


def reachable_ids(config: Mapping[str, Any], roots: Sequence[str]) -> set[str]:
    """Collect the ids that are evaluated when some entries run.

    An entry is evaluated with everything inside it, and with what its references name.

    Args:
        config: the merged configuration.
        roots: ids that run; those that do not exist are ignored.

    Returns:
        The roots and all ids that they refer to, directly or not.

    >>> sorted(reachable_ids({"run": ["$@a"], "a": {"b": "@c"}, "c": 1, "d": "@c"}, ["run"]))
    ['a', 'c', 'run']
    """
    reached: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += references_in(_entry(config, name))
    return reached


def uses(reached: set[str], name: str) -> bool:
    """Whether an entry is one of the reached ones, is inside one, or contains one.

    Args:
        reached: result of :func:`reachable_ids`.
        name: id of the entry, ``train#trainer``.

    >>> uses({"train#trainer"}, "train#trainer#seed"), uses({"train#trainer"}, "train"), uses({"a"}, "b")
    (True, True, False)
    """
    return any(name == other or name.startswith(f"{other}#") or other.startswith(f"{name}#") for other in reached)


def _entry(config: Any, name: str) -> Any:
    """Look up ``train#handlers#0``; ``@train#dataset.data`` names the part that exists, the rest is an attribute."""
    for key in name.split("#"):
        if isinstance(config, Mapping) and key in config:
            config = config[key]
        elif isinstance(config, Sequence) and not isinstance(config, str) and key.isdigit() and int(key) < len(config):
            config = config[int(key)]
        else:
            return None
    return config
