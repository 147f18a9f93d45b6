"""PLACE against recorded numbers: soft positional contrast with its gradient, and whitening."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from monai_anat.losses import soft_positional_contrast, token_whitening


@pytest.mark.parametrize(
    ("sigma", "name"), [(0.06, "loss_sigma_006"), (0.3, "loss_sigma_03"), (1e-6, "loss_all_negatives")]
)
def test_soft_positional_contrast(
    sigma: float,
    name: str,
    recipes: SimpleNamespace,
    reference: Callable[..., Any],
    assert_agrees: Callable[..., None],
) -> None:
    entry = reference("place")["soft_contrast_4x7"]
    tensors, match = recipes.build(entry["inputs"]), torch.tensor(entry["inputs"]["match"])
    raw = tensors["query"].requires_grad_()
    query, key = F.normalize(raw, dim=1), F.normalize(tensors["key"], dim=1)
    loss = soft_positional_contrast(query, key, tensors["position_key"], match, 0.2, sigma)
    assert_agrees(loss, entry["expected"][name], entry["tolerance"])
    if sigma == 0.06:
        loss.backward()
        assert_agrees(raw.grad.norm(), entry["expected"]["gradient_query_norm"], entry["tolerance"])


def test_whitening(recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]) -> None:
    entry = reference("place")["token_whitening_6x4"]
    tokens, expected = recipes.build(entry["inputs"])["tokens"], entry["expected"]
    assert_agrees(token_whitening(tokens, 0.0), expected["variance"], entry["tolerance"])
    assert_agrees(token_whitening(tokens), expected["loss"], entry["tolerance"])
