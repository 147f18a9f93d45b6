"""Swin tokens against the numbers of the published code (entries of swin.json)."""

from __future__ import annotations

import pytest
import torch

from monai_anat.networks import SwinBackbone
from monai_anat.networks.backbones.backbone import to_tokens

NAMES = [
    "swin_e32_224_eps1e-5_hfill",
    "swin_e32_224_eps1e-6_hfill",
    "swin_e32_224_eps1e-5_fill",
    "swin_e32_224_eps1e-6_fill",
    "swin_e32_224_eps1e-5_lowcontrast",
    "swin_e32_224_eps1e-6_lowcontrast",
    "swin_e32_448_eps1e-5_hfill",
    "swin_b_448_eps1e-5_hfill",
]


def _tokens(inputs, recipes):
    arch = inputs["arch"]
    backbone = SwinBackbone(
        in_channels=3,
        embed_dim=arch["embed_dim"],
        depths=arch["depths"],
        num_heads=arch["num_heads"],
        window_size=arch["window_size"],
        patch_size=arch["patch_size"],
        norm_eps=arch["layer_norm_eps"],
    ).eval()
    shapes = {name: tensor.shape for name, tensor in backbone.state_dict().items()}
    assert len(shapes) == inputs["weights"]["n"]
    backbone.load_state_dict(recipes.fill_state(shapes, inputs["weights"]["params"]), strict=True)
    image = recipes.build({"image": inputs["image"]})["image"]
    with torch.inference_mode():
        return to_tokens(backbone(image))


@pytest.mark.parametrize("name", NAMES)
def test_tokens_agree_with_the_published_code(name, reference, recipes, assert_agrees):
    entry = reference("swin")[name]
    tokens = _tokens(entry["inputs"], recipes)
    expected, tolerance = entry["expected"], entry["tolerance"]
    assert list(tokens.shape) == expected["shape"]
    assert_agrees(tokens.mean(), expected["mean"], tolerance)
    assert_agrees(tokens.std(), expected["std"], tolerance)
    assert_agrees(tokens.std(1).mean(), expected["std_over_tokens"], tolerance)
    assert_agrees(tokens.mean(1)[0, :8], expected["pooled_first8"], tolerance)
    picked = torch.stack([tokens[tuple(index)] for index in entry["inputs"]["entries"]])
    assert_agrees(picked, expected["entries"], tolerance)


def test_every_entry_is_covered(reference):
    assert set(reference("swin")) == set(NAMES)
