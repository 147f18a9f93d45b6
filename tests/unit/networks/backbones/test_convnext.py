"""ConvNeXt: published sizes and names, and the arithmetic against slow loops."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from monai_anat.networks import ConvNeXtBackbone

# parameters of the official networks without their classifier (28,589,128 - 769,000 and 88,591,464 - 1,025,000)
SIZES = {
    27_820_128: {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768)},
    87_566_464: {},
}


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_the_published_ones(size):
    with torch.device("meta"):
        backbone = ConvNeXtBackbone(in_channels=3, **SIZES[size])
    assert sum(p.numel() for p in backbone.parameters()) == size
    assert backbone.strides == (4, 8, 16, 32)


def test_names_are_those_of_published_files():
    with torch.device("meta"):
        state = ConvNeXtBackbone().state_dict()
    expected = {
        "downsample_layers.0.0.weight": (128, 1, 4, 4),
        "downsample_layers.0.1.bias": (128,),
        "downsample_layers.1.0.weight": (128,),
        "downsample_layers.3.1.weight": (1024, 512, 2, 2),
        "stages.2.26.dwconv.weight": (512, 1, 7, 7),
        "stages.0.0.norm.weight": (128,),
        "stages.0.0.pwconv1.weight": (512, 128),
        "stages.0.0.pwconv2.weight": (128, 512),
        "stages.3.2.gamma": (1024,),
        "norm.bias": (1024,),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected
    assert len(state) == 4 * 4 + 36 * 9 + 2


def _small(**changed):
    torch.manual_seed(0)
    backbone = ConvNeXtBackbone(**{"in_channels": 2, "depths": (1, 2), "dims": (3, 5), "norm_eps": 1e-3, **changed})
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.normal_(std=0.5)
    return backbone.double().eval()


def _norm(vector, layer):
    mean = sum(vector) / len(vector)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in vector) / len(vector) + layer.eps)
    return [
        (v - mean) / deviation * w + b
        for v, w, b in zip(vector, layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


def _linear(vector, layer):
    rows = layer.weight.flatten(1).tolist()
    return [
        sum(w * v for w, v in zip(row, vector, strict=True)) + b
        for row, b in zip(rows, layer.bias.tolist(), strict=True)
    ]


def _patches(grid, height, width, side):
    """What a convolution of patches sees: position -> values in the order channel, row, column; zeros outside."""
    channels = len(next(iter(grid.values())))
    return {
        (row, col): [
            grid.get((row * side + r, col * side + c), [0.0] * channels)[channel]
            for channel, r, c in itertools.product(range(channels), range(side), range(side))
        ]
        for row, col in itertools.product(range(-(-height // side)), range(-(-width // side)))
    }


def _block(grid, block):
    kernel, bias = block.dwconv.weight[:, 0].tolist(), block.dwconv.bias.tolist()
    out = {}
    for (row, col), vector in grid.items():
        branch = list(bias)
        for r, c in itertools.product(range(7), range(7)):
            for channel, value in enumerate(grid.get((row + r - 3, col + c - 3), ())):
                branch[channel] += kernel[channel][r][c] * value
        hidden = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in _linear(_norm(branch, block.norm), block.pwconv1)]
        factors = [1.0] * len(vector) if block.gamma is None else block.gamma.tolist()
        branch = _linear(hidden, block.pwconv2)
        out[row, col] = [v + f * b for v, f, b in zip(vector, factors, branch, strict=True)]
    return out


def _slow(backbone, image):
    """The whole network by loops over positions and plain numbers: the definition, not an implementation."""
    height, width = image.shape[1:]
    grid = {(r, c): image[:, r, c].tolist() for r, c in itertools.product(range(height), range(width))}
    maps = []
    for number, (layers, blocks) in enumerate(zip(backbone.downsample_layers, backbone.stages, strict=True)):
        norm, convolution, side = (layers[1], layers[0], 4) if number == 0 else (layers[0], layers[1], 2)
        if number:
            grid = {at: _norm(v, norm) for at, v in grid.items()}
        grid = {at: _linear(v, convolution) for at, v in _patches(grid, height, width, side).items()}
        height, width = -(-height // side), -(-width // side)
        if number == 0:
            grid = {at: _norm(v, norm) for at, v in grid.items()}
        for block in blocks:
            grid = _block(grid, block)
        maps.append((grid, height, width))
    maps[-1] = ({at: _norm(v, backbone.norm) for at, v in grid.items()}, height, width)
    return [torch.tensor([[g[r, c] for c in range(w)] for r in range(h)]).movedim(-1, 0) for g, h, w in maps]


@pytest.mark.parametrize("layer_scale", [0.5, 0.0])
@pytest.mark.parametrize("size", [(16, 24), (13, 20)])
def test_all_maps_equal_slow_loops(size, layer_scale):
    backbone = _small(layer_scale=layer_scale)
    image = torch.randn(2, *size, dtype=torch.float64)
    with torch.no_grad():
        maps = backbone.forward_features(image[None])
        for got, expected in zip(maps, _slow(backbone, image), strict=True):
            torch.testing.assert_close(got[0], expected.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("eps", [1e-6, 1e-4])
def test_every_norm_has_the_epsilon(eps):
    norms = [m for m in _small(norm_eps=eps).modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 2 + 3 + 1
    assert {m.eps for m in norms} == {eps}


def test_blocks_begin_close_to_the_identity():
    block = ConvNeXtBackbone(depths=(1,), dims=(4,)).stages[0][0]
    assert torch.equal(block.gamma, torch.full((4,), 1e-6))
    x = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(block(x), x, rtol=0, atol=1e-4)
    assert ConvNeXtBackbone(depths=(1,), dims=(4,), layer_scale=0.0).stages[0][0].gamma is None


def test_drop_path_rises_from_zero_in_the_first_block_to_the_last():
    backbone = ConvNeXtBackbone(depths=(2, 3), dims=(4, 8), drop_path_rate=0.4)
    rates = [block.drop_path.drop_prob for stage in backbone.stages for block in stage]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"depths": (1, 1)}, "depths and dims must have one entry per stage, got 2 and 4"),
        ({"depths": (), "dims": ()}, "one entry per stage"),
        ({"depths": (0,), "dims": (4,)}, "at least 1, got depths="),
        ({"drop_path_rate": 1.0}, "drop_path_rate must be in"),
        ({"layer_scale": -1.0}, "layer_scale must be 0"),
    ],
)
def test_impossible_arguments_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        ConvNeXtBackbone(**changed)
