"""Adapters: the outputs of the wrapped networks, other encoders by their output, and errors."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
import torch
from monai.networks.nets import (
    UNETR,
    BasicUNet,
    DenseNet,
    DynUNet,
    EfficientNetBN,
    ResNet,
    SegResNet,
    SwinUNETR,
    UNet,
    ViT,
)
from torch import nn

from monai_anat.networks import SwinBackbone, as_backbone, save_encoder
from monai_anat.networks.backbones.backbone import to_tokens


def _vit(**changed):
    return ViT(**{"in_channels": 1, "img_size": (32, 48), "patch_size": (8, 8), "spatial_dims": 2} | changed).eval()


SMALL_VIT = {"hidden_size": 24, "mlp_dim": 48, "num_layers": 4, "num_heads": 3}


def test_a_backbone_is_itself():
    backbone = SwinBackbone(embed_dim=8, depths=(1,), num_heads=(1,))
    assert as_backbone(backbone) is backbone


def test_swin_maps_are_monais():
    network = SwinUNETR(1, 2, spatial_dims=2, feature_size=12, depths=(1, 1, 1, 1)).eval()
    image = torch.randn(1, 1, 64, 64)
    maps = as_backbone(network).forward_features(image)
    for ours, theirs in zip(maps, network.swinViT(image), strict=True):
        assert torch.equal(ours, theirs)


def test_vit_maps_are_monais_tokens():
    network = _vit(**SMALL_VIT)
    backbone = as_backbone(network, image_size=(32, 48))
    image = torch.randn(2, 1, 32, 48)
    tokens, hidden = network(image)
    maps = backbone.forward_features(image)
    assert backbone.strides == (8, 8, 8, 8)
    torch.testing.assert_close(to_tokens(maps[-1]), tokens)
    torch.testing.assert_close(to_tokens(maps[0]), hidden[0])
    assert maps[0].shape == (2, 24, 4, 6)


def test_resnet_leaves_the_classifier_away():
    network = ResNet("basic", [1, 1, 1, 1], [8, 16, 24, 32], spatial_dims=2, n_input_channels=1).eval()
    image = torch.randn(1, 1, 64, 64)
    backbone = as_backbone(network)
    torch.testing.assert_close(network.fc(backbone(image).mean((2, 3))), network(image))


def test_probing_leaves_no_trace():
    network = ResNet("basic", [1, 1, 1, 1], [8, 16, 24, 32], spatial_dims=2, n_input_channels=1).train()
    network.layer1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    as_backbone(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training and not network.layer1.training


def test_3d():
    network = SwinUNETR(2, 2, spatial_dims=3, feature_size=12, depths=(1, 1, 1, 1))
    backbone = as_backbone(network)
    assert (backbone.spatial_dims, backbone.in_channels, backbone.num_features) == (3, 2, 192)


def test_weights_are_shared():
    network = UNETR(1, 2, 32, 8, 24, 48, 3, spatial_dims=2)
    parameter = next(as_backbone(network).parameters())
    assert parameter is next(network.vit.parameters())


def test_what_cannot_be_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"MONAI's UNet nests one in the other; use BasicUNet"):
        as_backbone(UNet(spatial_dims=2, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,)))
    with pytest.raises(ValueError, match="proj_type='conv'"):
        as_backbone(_vit(proj_type="perceptron", **SMALL_VIT))
    with pytest.raises(ValueError, match=r"does not take an image of size.*image_size"):
        as_backbone(_vit(**SMALL_VIT))
    with pytest.raises(TypeError, match=r"AdaptedBackbone.*state_dict"):
        save_encoder(
            as_backbone(SwinUNETR(1, 2, spatial_dims=2, feature_size=12)), tmp_path, image_size=64, mean=0, std=1
        )
    with pytest.raises(TypeError, match="got Linear"):
        as_backbone(nn.Linear(1, 1))


def test_strides_that_differ_between_axes_are_named():
    network = _vit(img_size=(32, 32), patch_size=(8, 16), **SMALL_VIT)
    with pytest.raises(ValueError, match="image_size"):
        as_backbone(network, image_size=32)


class Encoder(nn.Module):
    """Two maps, strides 2 and 8; subclasses return them as other libraries do."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 4, 1)

    def maps(self, x):
        fine = self.fine(x)
        return fine, self.coarse(fine)


class Pair(Encoder):
    def forward(self, x):
        return self.maps(x)


class CoarseFirst(Encoder):
    def forward(self, x):
        fine, coarse = self.maps(x)
        return {"pooled": coarse.mean((2, 3)), "high": coarse, "low": fine, "nothing": None}


class FeatureMaps(Encoder):
    def forward(self, x):
        return SimpleNamespace(feature_maps=self.maps(x), hidden_states=None)


class Tokens(Encoder):
    """As a Hugging Face ViT: a class token and four registers before the tokens, positions for one size only."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(image_size=24)

    def forward(self, x):
        if x.shape[-1] != 24:
            raise ValueError("Input image size doesn't match model (24*24).")
        tokens = self.maps(x)[1].flatten(2).transpose(1, 2)
        tokens = torch.cat([torch.zeros(len(x), 5, 6), tokens], dim=1)
        return SimpleNamespace(last_hidden_state=tokens, pooler_output=tokens[:, 0], hidden_states=None)


@pytest.mark.parametrize("kind", [Pair, CoarseFirst, FeatureMaps, Tokens])
def test_other_encoders_are_read_by_what_they_return(kind):
    network = kind().eval()
    backbone = as_backbone(network)
    image = torch.rand(2, 3, 24, 24)
    expected = network.maps(image)[kind is Tokens :]
    assert backbone.in_channels == 3
    assert backbone.strides == (2, 8)[kind is Tokens :]
    for found, wanted in zip(backbone.forward_features(image), expected, strict=True):
        assert torch.equal(found, wanted)


def test_tokens_that_fill_no_grid_are_named():
    class Odd(Tokens):
        def forward(self, x):
            return super().forward(x).last_hidden_state[:, :-1]

    with pytest.raises(ValueError, match=r"5\) before them, got 13 tokens of a \(24, 24\) image"):
        as_backbone(Odd())
    with pytest.raises(ValueError, match=r"Input image size doesn't match .*; give the size that it was built for"):
        as_backbone(Tokens(), image_size=32)


def test_vectors_alone_are_no_maps():
    class Classifier(Encoder):
        def forward(self, x):
            return self.maps(x)[1].mean((2, 3))

    with pytest.raises(TypeError, match=r"got Classifier; take the encoder's part of it"):
        as_backbone(Classifier())
    network = Classifier()
    network.features = Pair()
    with pytest.raises(TypeError, match=r"got Classifier; pass network\.features"):
        as_backbone(network)
    assert as_backbone(network.features).strides == (2, 8)


class TorchXRayVisionDenseNet(nn.Module):
    """Layers in ``features``, logits as output, as torchvision's and torchxrayvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.features = DenseNet(2, 1, 2, init_features=8, growth_rate=4, block_config=(2, 2, 2)).features
        self.classifier = nn.Linear(16, 5)

    def forward(self, x):
        return self.classifier(torch.relu(self.features(x)).mean((2, 3)))


ENCODERS = {
    "densenet": (lambda: DenseNet(2, 1, 2, init_features=8, growth_rate=4, block_config=(2, 2, 2)), (2, 4, 8, 16)),
    "torchxrayvision": (TorchXRayVisionDenseNet, (2, 4, 8, 16)),
    "densenet, features": (lambda: TorchXRayVisionDenseNet().features, (2, 4, 8, 16)),
    "densenet, 3D": (lambda: DenseNet(3, 1, 2, init_features=8, growth_rate=4, block_config=(2, 2)), (2, 4, 8)),
    "efficientnet": (
        lambda: EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=1),
        (2, 4, 8, 16, 32),
    ),
    "segresnet": (lambda: SegResNet(2, 8, 1, 2), (2, 4, 8)),
    "basic unet": (lambda: BasicUNet(2, 1, 2, features=(8, 8, 16, 16, 32, 8)), (2, 4, 8, 16)),
    "dynunet": (lambda: DynUNet(2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 16]), (2, 4)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_of_monai_and_torchxrayvision(name):
    build, strides = ENCODERS[name]
    network = build().eval()
    backbone = as_backbone(network)
    assert backbone.strides == strides
    image = torch.randn(2, 1, *[64] * backbone.spatial_dims)
    maps = backbone.forward_features(image)
    assert [m.shape[1] for m in maps] == list(backbone.channels)
    given = {id(parameter) for parameter in network.parameters()}
    assert {id(parameter) for parameter in backbone.parameters()} <= given
    sum(m.square().mean() for m in backbone.train().forward_features(image)).backward()
    assert all(p.grad is not None for p in backbone.parameters())
    assert torch.equal(pickle.loads(pickle.dumps(backbone.eval()))(image), backbone(image))


def test_last_maps_are_what_the_networks_compute_with():
    image = torch.randn(2, 1, 64, 64)
    network = ENCODERS["torchxrayvision"][0]().eval()
    torch.testing.assert_close(network.classifier(as_backbone(network)(image).mean((2, 3))), network(image))
    network = ENCODERS["densenet"][0]().eval()
    torch.testing.assert_close(network.class_layers(as_backbone(network)(image)), network(image))
    network = ENCODERS["efficientnet"][0]().eval()
    torch.testing.assert_close(network._fc(as_backbone(network)(image).mean((2, 3))), network(image))
    network = ENCODERS["segresnet"][0]().eval()
    assert torch.equal(as_backbone(network)(image), network.encode(image)[0])
