"""Decoders: any backbone, any size, a batch of one; nothing shifted against the image."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_anat.networks import EncoderDecoder, ResNetBackbone, SwinBackbone, UPerNetDecoder, ViTBackbone
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.heads.decoders import ResidualUNetDecoder

BACKBONES = {
    "swin": lambda: SwinBackbone(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)),
    "swin_3_stages": lambda: SwinBackbone(embed_dim=16, depths=(1, 1, 1), num_heads=(1, 1, 2), patch_size=2),
    "vit": lambda: ViTBackbone(image_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=3),
    "resnet": lambda: ResNetBackbone(depth=18),
}


@pytest.fixture(params=BACKBONES)
def backbone(request):
    torch.manual_seed(0)
    return BACKBONES[request.param]()


@pytest.mark.parametrize("size", [(64, 64), (50, 71)])
def test_upernet_gives_logits_of_the_images_size(backbone, size):
    network = EncoderDecoder(backbone, UPerNetDecoder(backbone.channels, 3, features=16)).eval()
    assert network(torch.randn(2, 1, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("decoder", [UPerNetDecoder, ResidualUNetDecoder])
def test_3d(decoder):
    backbone = SwinBackbone(spatial_dims=3, embed_dim=8, depths=(1, 1, 1), num_heads=(1, 1, 1), window_size=4)
    extra = {"strides": backbone.strides} if decoder is ResidualUNetDecoder else {"features": 8}
    network = EncoderDecoder(backbone, decoder(backbone.channels, 2, spatial_dims=3, **extra))
    assert network(torch.randn(1, 1, 32, 33, 40)).shape == (1, 2, 32, 33, 40)


@pytest.mark.parametrize("name", ["swin", "swin_3_stages", "resnet"])
def test_unet_gives_logits_of_the_images_size(name):
    backbone = BACKBONES[name]()
    decoder = ResidualUNetDecoder(backbone.channels, 3, strides=backbone.strides)
    assert EncoderDecoder(backbone, decoder).eval()(torch.randn(1, 1, 100, 71)).shape == (1, 3, 100, 71)


def test_a_batch_of_one_trains_and_reaches_every_parameter(backbone):
    decoder = UPerNetDecoder(backbone.channels, 2, features=16)
    network = EncoderDecoder(backbone, decoder).train()
    network(torch.randn(1, 1, 64, 64)).square().mean().backward()
    assert [name for name, p in network.decoder.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("channels", [(4,), (4, 6), (12, 20, 28), (8, 8, 8, 8)])
def test_group_norm_trains_on_one_pooled_cell_for_any_channels(channels):
    maps = [torch.randn(1, c, 1, 1) for c in channels]
    UPerNetDecoder(channels, 2, features=4).train()(maps).sum().backward()


def test_batch_norm_as_published_is_an_argument():
    decoder = UPerNetDecoder((8, 16), 2, features=16, norm="batch")
    assert any(isinstance(m, nn.BatchNorm2d) for m in decoder.modules())
    assert decoder([torch.randn(2, 8, 8, 8), torch.randn(2, 16, 4, 4)]).shape == (2, 2, 8, 8)


def test_smoothing_is_independent_unless_shared():
    apart, shared = (UPerNetDecoder((8, 16, 32, 64), 2, features=16, share_smoothing=s) for s in (False, True))
    assert (len(apart.smoothing), len(shared.smoothing)) == (3, 1)
    # one map alone is the coarsest, which is not smoothed: no parameter without a gradient
    assert len(UPerNetDecoder((8,), 2, features=16, share_smoothing=True).smoothing) == 0
    maps = [torch.randn(2, c, 16 // 2**s, 16 // 2**s) for s, c in enumerate((8, 16, 32, 64))]
    assert shared(maps).shape == apart(maps).shape


def test_shared_smoothing_equals_equal_smoothing():
    torch.manual_seed(0)
    shared = UPerNetDecoder((8, 16, 32), 2, features=16, share_smoothing=True).eval()
    apart = UPerNetDecoder((8, 16, 32), 2, features=16).eval()
    state = shared.state_dict()
    state |= {name.replace("smoothing.0", "smoothing.1"): v for name, v in state.items() if "smoothing.0" in name}
    apart.load_state_dict(state, strict=True)
    maps = [torch.randn(2, c, 16 // 2**s, 16 // 2**s) for s, c in enumerate((8, 16, 32))]
    torch.testing.assert_close(apart(maps), shared(maps))


def test_pooling_covers_the_bins():
    decoder = UPerNetDecoder((8, 32), 2, features=16)
    assert decoder.pool_bins == (1, 2, 4, 6)
    assert decoder.bottleneck[0].in_channels == 32 + 4 * 8
    assert decoder.bottleneck[0].out_channels == 32


class _Echo(Backbone):
    """Average over patches, the image padded to whole patches."""

    def __init__(self, stride):
        super().__init__({}, spatial_dims=2, in_channels=1, channels=(1,), strides=(stride,))

    def forward_features(self, x):
        return [nn.functional.avg_pool2d(x, self.strides[0], ceil_mode=True, count_include_pad=False)]


class _Pass(nn.Module):
    def forward(self, features):
        return features[0]


def test_logits_are_not_shifted_against_an_image_that_fills_no_whole_patch():
    """The map of a ramp, grown again, is the ramp: its slope is not stretched by the padding."""
    ramp = torch.arange(42.0).expand(1, 1, 42, 42)
    logits = EncoderDecoder(_Echo(4), _Pass())(ramp)
    torch.testing.assert_close(logits[..., 2:34], ramp[..., 2:34])


def test_errors_name_the_way_out():
    backbone = BACKBONES["vit"]()
    with pytest.raises(ValueError, match=r"decoder must be built with in_channels=\(24, 24, 24, 24\)"):
        EncoderDecoder(backbone, UPerNetDecoder((8, 16), 2))
    with pytest.raises(ValueError, match=r"strides must double.*UPerNetDecoder takes any strides"):
        ResidualUNetDecoder(backbone.channels, 2, strides=backbone.strides)
    with pytest.raises(ValueError, match="features must be 2 maps"):
        UPerNetDecoder((8, 16), 2)([torch.zeros(1, 8, 4, 4)])
    with pytest.raises(ValueError, match="pool_bins"):
        UPerNetDecoder((8, 16), 2, pool_bins=(0,))
    with pytest.raises(ValueError, match="in_channels must name"):
        UPerNetDecoder((), 2)
    with pytest.raises(ValueError, match="spatial_dims"):
        UPerNetDecoder((8,), 2, spatial_dims=1)
