"""MLVICX' files have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (["online/encoder.0.weight", "online/projetion.l1.0.weight"], "mlvicx"),
        (["encoder.0.weight", "cbt1.ca.fc.0.weight"], "mlvicx"),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
