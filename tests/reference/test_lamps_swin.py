"""The Swin of Lamps and ACE at the size it was built for, where its shift rule and the actual-size rule agree."""

from __future__ import annotations

import torch

from monai_anat.networks import SwinBackbone
from monai_anat.networks.backbones.backbone import to_tokens


def _tokens(entry, recipes):
    arch = entry["inputs"]["arch"]
    backbone = SwinBackbone(
        in_channels=3,
        embed_dim=arch["embed_dim"],
        depths=arch["depths"],
        num_heads=arch["num_heads"],
        norm_eps=arch["layer_norm_eps"],
    ).eval()
    shapes = {name: tensor.shape for name, tensor in backbone.state_dict().items()}
    backbone.load_state_dict(recipes.fill_state(shapes, "hfill"), strict=True)
    image = recipes.build({"image": entry["inputs"]["image"]})["image"]
    return backbone, image


def _check(tokens, entry, assert_agrees):
    expected, tolerance = entry["expected"], entry["tolerance"]
    assert list(tokens.shape) == expected["shape"]
    assert_agrees(tokens.mean(), expected["mean"], tolerance)
    assert_agrees(tokens.std(), expected["std"], tolerance)
    picked = torch.stack([tokens[tuple(index)] for index in entry["inputs"]["entries"]])
    assert_agrees(picked, expected["entries"], tolerance)


def test_tokens_at_448_agree(reference, recipes, assert_agrees):
    entry = reference("lamps_swin")["lamps_swin_448"]
    backbone, image = _tokens(entry, recipes)
    with torch.inference_mode():
        tokens = to_tokens(backbone(image))
    _check(tokens, entry, assert_agrees)
    assert_agrees(tokens.mean(1)[0, :8], entry["expected"]["pooled_first8"], entry["tolerance"])


def test_a_window_of_88_patches_agrees(reference, recipes, assert_agrees):
    """11x11 cells encoded alone: 88 patches pad to 91, 44 to 49, 22 to 28, 11 to 14."""
    entry = reference("lamps_swin")["lamps_swin_448_window_1_2"]
    backbone, image = _tokens(entry, recipes)
    row, col = entry["inputs"]["window_offset_cells"]
    mask_token = recipes.build({"mask_token": entry["inputs"]["mask_token"]})["mask_token"]
    with torch.inference_mode():
        patches = backbone.patch_embed(image)[:, row * 8 : (row + 11) * 8, col * 8 : (col + 11) * 8]
        window = backbone.forward_patches(patches)[-1].movedim(1, -1)  # (1, 11, 11, D)
    cells = mask_token.reshape(1, 1, 1, -1).repeat(1, 14, 14, 1)
    cells[:, row : row + 11, col : col + 11] = window
    _check(cells.flatten(1, 2), entry, assert_agrees)
    assert_agrees(window.flatten(1, 2).mean(1)[0, :8], entry["expected"]["pooled_first8"], entry["tolerance"])


def test_on_quadrants_the_actual_size_decides_the_shift(reference, recipes):
    """The recorded Swin keeps the shift for 448 pixels; SwinBackbone decides by the actual size."""
    entry = reference("lamps_swin")["lamps_swin_448_on_quadrant224"]
    backbone, image = _tokens(entry, recipes)
    expected = torch.tensor(entry["expected"]["entries"])
    with torch.inference_mode():
        tokens = to_tokens(backbone(image))
        picked = torch.stack([tokens[tuple(index)] for index in entry["inputs"]["entries"]])
        assert (picked - expected).abs().max() > 0.05
        # with the shift of the last stage forced, the recorded numbers come out
        for block in backbone.layers[3].blocks:
            forced = (block.attn.shift,) * 2
            block.attn._shift_for = lambda size, forced=forced: forced
        tokens = to_tokens(backbone(image))
    picked = torch.stack([tokens[tuple(index)] for index in entry["inputs"]["entries"]])
    torch.testing.assert_close(picked, expected, rtol=1e-4, atol=5e-5)
