"""ViT: the position embedding, published names, independence of the class token."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from monai_anat.networks import ViTBackbone
from monai_anat.networks.backbones.backbone import to_tokens
from monai_anat.networks.backbones.positions import sincos_positions


def _small(**changed):
    torch.manual_seed(0)
    return ViTBackbone(**{"image_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 3, **changed})


def test_the_defaults_are_vit_b():
    with torch.device("meta"):
        backbone = ViTBackbone(in_channels=3, class_token=True)
    assert sum(p.numel() for p in backbone.parameters()) == 85_798_656  # ViT-B/16 without its classifier


def test_names_are_those_of_published_files():
    names = set(_small(depth=1, class_token=True).state_dict())
    block = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]
    expected = {"cls_token", "pos_embed"}
    for module in ["patch_embed.proj", *(f"blocks.0.{m}" for m in block), "norm"]:
        expected |= {f"{module}.weight", f"{module}.bias"}
    assert names == expected


def test_positions_at_the_built_size_are_the_parameter_itself():
    backbone = _small()
    assert backbone.position_embedding((4, 4)) is backbone.pos_embed


@pytest.mark.parametrize("class_token", [False, True])
def test_positions_elsewhere_are_resampled(class_token):
    backbone = _small(class_token=class_token)
    learned = backbone.pos_embed[:, int(class_token) :].reshape(1, 4, 4, 24).permute(0, 3, 1, 2)
    expected = F.interpolate(learned, size=(6, 5), mode="bicubic").flatten(2).transpose(1, 2)
    torch.testing.assert_close(backbone.position_embedding((6, 5)), expected)


@pytest.mark.parametrize(("dims", "grid"), [(2, (7, 3)), (3, (5, 6, 2))])
def test_constant_positions_stay_constant(dims, grid):
    backbone = _small(spatial_dims=dims)
    with torch.no_grad():
        backbone.pos_embed.fill_(0.5)
    torch.testing.assert_close(backbone.position_embedding(grid), torch.full((1, torch.Size(grid).numel(), 24), 0.5))


@pytest.mark.parametrize("class_token", [False, True])
def test_fixed_positions_are_sines_and_cosines_and_do_not_learn(class_token):
    backbone = _small(image_size=(16, 24), embed_dim=8, num_heads=2, class_token=class_token)
    backbone.fix_positions()
    assert torch.equal(backbone.position_embedding((2, 3))[0], sincos_positions(8, (2, 3)))
    assert not backbone.pos_embed[0, : int(class_token)].any()
    assert not backbone.pos_embed.requires_grad


def test_without_positions_shuffled_patches_give_shuffled_tokens():
    backbone = _small(class_token=True).eval()
    with torch.no_grad():
        backbone.pos_embed.zero_()
    patches = torch.randn(16, 8, 8)
    order = torch.randperm(16)

    def image(cells):
        return cells.reshape(4, 4, 8, 8).transpose(1, 2).reshape(1, 1, 32, 32)

    tokens = to_tokens(backbone(image(patches)))
    torch.testing.assert_close(to_tokens(backbone(image(patches[order]))), tokens[:, order])


def test_maps_come_from_evenly_spaced_depths():
    assert _small(depth=12).level_ends == [3, 6, 9, 12]
    assert _small(depth=3).level_ends == [1, 2, 3]
    assert _small(depth=6).level_ends == [1, 3, 4, 6]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_size": 450, "patch_size": 32}, "image_size must be a multiple of patch_size.*nearest is 448"),
        ({"image_size": (32, 32, 32)}, "image_size must have 2 entries"),
        ({"num_heads": 5}, "num_heads must divide embed_dim"),
        ({"depth": 0}, "depth.*at least 1"),
        ({"drop_path_rate": -0.1}, "drop_path_rate"),
    ],
)
def test_impossible_arguments_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        _small(**changed)


@pytest.mark.parametrize("class_token", [False, True])
def test_all_patches_visible_are_the_map_in_their_order(class_token):
    backbone = _small(class_token=class_token).eval()
    image = torch.randn(2, 1, 32, 32)
    order = torch.stack([torch.randperm(16), torch.randperm(16)])
    with torch.no_grad():
        expected = to_tokens(backbone(image))
        tokens = backbone.forward_visible(image, order)
    torch.testing.assert_close(tokens, expected.gather(1, order[:, :, None].expand_as(expected)), rtol=1e-4, atol=1e-5)


def test_patches_that_are_not_visible_have_no_say():
    backbone = _small().eval()
    image, visible = torch.randn(1, 1, 32, 32), torch.tensor([[0, 5, 10]])  # on the diagonal, so the last row is hidden
    changed = image.clone()
    changed[..., 24:, :] += 1
    with torch.no_grad():
        tokens = backbone.forward_visible(image, visible)
        assert tokens.shape == (1, 3, 24)
        assert torch.equal(tokens, backbone.forward_visible(changed, visible))
        changed[..., 0, 0] += 1
        assert not torch.allclose(tokens[:, 2], backbone.forward_visible(changed, visible)[:, 2])


def test_maps_come_from_the_patches():
    backbone = _small(class_token=True)
    image = torch.randn(2, 1, 32, 40)
    for one, two in zip(backbone(image), backbone.forward_patches(backbone.patch_embed(image))[-1], strict=True):
        assert torch.equal(one, two)
