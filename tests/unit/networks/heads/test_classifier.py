"""The classifier: mean of the last map, heads, frozen backbones, class activation maps."""

from __future__ import annotations

import pytest
import torch
from monai.visualize import CAM, GradCAM
from torch import nn

from monai_anat.networks import EncoderClassifier, ResNetBackbone, SwinBackbone


def _backbone():
    torch.manual_seed(0)
    return SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)


def test_logits_are_the_head_on_the_mean_of_the_last_map():
    network = EncoderClassifier(_backbone(), 3).eval()
    image = torch.randn(2, 1, 32, 48)
    embedding = network.backbone(image).mean((2, 3))
    torch.testing.assert_close(network(image), embedding @ network.head.weight.T + network.head.bias)


def test_hidden_layers_are_normalized_and_rectified_but_the_first():
    network = EncoderClassifier(_backbone(), 5, hidden=(32, 16, 8))
    kinds = [type(layer) for layer in network.head]
    assert kinds == [nn.Linear, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert [layer.out_features for layer in network.head if isinstance(layer, nn.Linear)] == [32, 16, 8, 5]
    norms = [layer for layer in network.head if isinstance(layer, nn.BatchNorm1d)]
    assert all(norm.eps == 1e-6 and not norm.affine for norm in norms)


def test_a_frozen_backbone_stays_as_it_is_while_the_head_learns():
    torch.manual_seed(0)
    network = EncoderClassifier(ResNetBackbone(depth=18), 2, frozen=True).train()
    before = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    weight = network.head.weight.clone()
    network(torch.randn(4, 1, 32, 32)).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in network.backbone.state_dict().items())
    assert not torch.equal(network.head.weight, weight)
    assert network.norm.num_batches_tracked == 1
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad} == {"head"}


def test_without_freezing_every_parameter_learns():
    network = EncoderClassifier(_backbone(), 2, dropout=0.1).train()
    network(torch.randn(2, 1, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    assert not any(p.grad is None for p in network.backbone.parameters())


@pytest.mark.parametrize("frozen", [False, True])
def test_class_activation_maps_are_read_at_the_backbone(frozen):
    network = EncoderClassifier(_backbone(), 3, frozen=frozen).eval()
    image = torch.randn(1, 1, 32, 32, requires_grad=True)
    heat = GradCAM(network, "backbone", postprocessing=lambda x: x)(image, class_idx=1)
    assert heat.shape == (1, 1, 32, 32)
    expected = (network.backbone(image) * network.head.weight[1][:, None, None]).sum(1, keepdim=True)
    cam = CAM(network, "backbone", fc_layers="head", upsampler=lambda x, y: x, postprocessing=lambda x: x)
    got = cam.compute_map(image, class_idx=torch.tensor([1])) - network.head.bias[1]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_impossible_sizes_are_named():
    with pytest.raises(ValueError, match="must be at least 1, got num_classes=0"):
        EncoderClassifier(_backbone(), 0)
    with pytest.raises(ValueError, match=r"hidden=\(8, 0\)"):
        EncoderClassifier(_backbone(), 2, hidden=(8, 0))
