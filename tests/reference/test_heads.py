"""The projection MLP of PEAC against the numbers of the published code."""

from __future__ import annotations

import torch

from monai_anat.networks import ProjectionHead


def test_projection_agrees_with_the_published_code(reference, recipes, assert_agrees):
    entry = reference("peac")["peac_mlp_reduced"]
    tensors = recipes.build(entry["inputs"])
    first, *hidden, last = entry["inputs"]["dims"]
    head = ProjectionHead(first, last, hidden)
    head.load_state_dict(tensors["weights"], strict=True)
    with torch.no_grad():
        out = head(tensors["x"])
    expected, tolerance = entry["expected"], entry["tolerance"]
    assert_agrees(out.mean(), expected["mean"], tolerance)
    assert_agrees(out.std(), expected["std"], tolerance)
    assert_agrees(out.flatten()[:8], expected["first8"], tolerance)
    assert_agrees(out.flatten()[-4:], expected["last4"], tolerance)
