"""Pre-norm transformer block: formula, permutation equivariance, and stochastic depth."""

from __future__ import annotations

import torch
from torch import nn

from monai_anat.networks.backbones.prenorm_block import PreNormBlock, initialize_linear


def block(**options: float) -> PreNormBlock:
    torch.manual_seed(0)
    return PreNormBlock(24, num_heads=3, **options)  # type: ignore[arg-type]


def test_attention_is_softmax_of_scaled_products() -> None:
    attention = block().attn
    x = torch.randn(2, 5, 24)
    query, key, value = attention.qkv(x).reshape(2, 5, 3, 3, 8).permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1)
    torch.testing.assert_close(attention(x), attention.proj((weights @ value).transpose(1, 2).reshape(2, 5, 24)))


def test_it_adds_attention_then_the_perceptron_of_what_was_normalized() -> None:
    network, x = block(), torch.randn(2, 5, 24)
    for norm in (network.norm1, network.norm2):
        nn.init.normal_(norm.weight)
    middle = x + network.attn(network.norm1(x))
    expected = middle + network.mlp(network.norm2(middle))
    torch.testing.assert_close(network(x), expected)


def test_the_perceptron_has_the_names_of_published_files() -> None:
    assert set(block().mlp.state_dict()) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}


def test_tokens_have_no_order() -> None:
    network, x, order = block(), torch.randn(2, 5, 24), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(network(x[:, order]), network(x)[:, order])


def test_stochastic_depth_leaves_a_sample_as_it_is_in_training_only() -> None:
    network, x = block(drop_path_rate=0.999999), torch.randn(2, 5, 24)
    assert torch.equal(network.train()(x), x)
    assert not torch.allclose(network.eval()(x), x)


def test_linear_layers_start_small_and_others_as_they_are() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64, bias=False), nn.LayerNorm(64)).apply(initialize_linear)
    assert 0.018 < network[0].weight.std().item() < 0.022
    assert not network[0].bias.any()
    assert 0.018 < network[1].weight.std().item() < 0.022
    assert bool((network[2].weight == 1).all())
