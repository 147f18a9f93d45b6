"""Swin: geometry of windows and cells, sizes, determinism, the mask cache, agreement with MONAI's block."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets.swin_unetr import PatchMergingV2, SwinTransformerBlock, compute_mask
from torch import nn

from monai_anat.networks import SwinBackbone
from monai_anat.networks.backbones import swin as swin_module
from monai_anat.networks.backbones.backbone import to_tokens


def _small(**changed):
    torch.manual_seed(0)
    return SwinBackbone(**{"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8), **changed})


def test_the_defaults_are_swin_b():
    with torch.device("meta"):
        backbone = SwinBackbone(in_channels=3)
    assert sum(p.numel() for p in backbone.parameters()) == 86_743_224  # 86.74 M
    assert backbone.channels == (128, 256, 512, 1024)
    assert backbone.strides == (4, 8, 16, 32)
    assert len(backbone.state_dict()) == 327  # no constant among them


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_every_norm_has_the_epsilon(eps):
    norms = [m for m in _small(norm_eps=eps).modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 1 + 8 * 2 + 3 + 1
    assert {m.eps for m in norms} == {eps}


@pytest.mark.parametrize(("size", "sides"), [(112, (28, 14, 7, 4)), (224, (56, 28, 14, 7)), (448, (112, 56, 28, 14))])
def test_sides_of_the_stages(size, sides):
    with torch.inference_mode():
        maps = _small(depths=(1, 1, 2, 2)).eval().forward_features(torch.rand(1, 1, size, size))
    assert tuple(m.shape[-1] for m in maps) == sides


def test_a_grid_of_88_patches_is_padded_to_whole_windows():
    backbone = _small(depths=(2, 2, 1, 2)).eval()
    with torch.inference_mode():
        maps = backbone.forward_patches(torch.randn(1, 88, 88, 16))
    assert [m.shape[-1] for m in maps] == [88, 44, 22, 11]


def test_a_bright_cell_moves_the_response_row_major():
    backbone = _small(depths=(1, 1, 1, 1)).eval()
    response = []
    with torch.inference_mode():
        empty = to_tokens(backbone(torch.zeros(1, 1, 448, 448)))
        for row, col in ((5, 8), (5, 9), (6, 8)):
            image = torch.zeros(1, 1, 448, 448)
            image[..., row * 32 : row * 32 + 32, col * 32 : col * 32 + 32] = 5
            response.append((to_tokens(backbone(image)) - empty).norm(dim=-1).argmax().item())
    assert response[0] == 5 * 14 + 8
    assert response[1] - response[0] == 1
    assert response[2] - response[0] == 14


def _monai_block(ours, dims, window, shift, heads, channels):
    block = SwinTransformerBlock(channels, heads, (window,) * dims, (shift,) * dims, qkv_bias=True)
    renamed = {name.replace("fc1", "linear1").replace("fc2", "linear2"): v for name, v in ours.state_dict().items()}
    renamed["attn.relative_position_index"] = block.attn.relative_position_index
    block.load_state_dict(renamed, strict=True)
    return block


@pytest.mark.parametrize("size", [(8, 12), (9, 14), (8, 8, 12), (5, 9, 8)])
@pytest.mark.parametrize("shifted", [False, True])
def test_a_block_of_monai_with_the_same_weights_agrees(size, shifted):
    dims, window, heads, channels = len(size), 4, 2, 8
    backbone = _small(spatial_dims=dims, embed_dim=channels, depths=(2,), num_heads=(heads,), window_size=window)
    ours = backbone.layers[0].blocks[int(shifted)]
    with torch.no_grad():
        for p in ours.parameters():
            p.normal_(std=0.5)
    shift = window // 2 if shifted else 0
    theirs = _monai_block(ours, dims, window, shift, heads, channels)
    padded = [-(-side // window) * window for side in size]
    mask = compute_mask(padded, (window,) * dims, (shift,) * dims, "cpu") if shifted else None
    x = torch.randn(2, *size, channels)
    torch.testing.assert_close(ours(x), theirs(x, mask), rtol=1e-4, atol=1e-4)


def test_merging_agrees_with_monai_in_2d():
    ours = _small().layers[0].downsample
    theirs = PatchMergingV2(16, spatial_dims=2)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, 6, 9, 16)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("dims", [2, 3])
def test_merging_concatenates_neighbors_with_the_first_axis_fastest(dims):
    merging = _small(spatial_dims=dims, embed_dim=1, num_heads=(1, 1, 1, 1)).layers[0].downsample
    merging.norm, merging.reduction = nn.Identity(), nn.Identity()
    x = torch.arange(2**dims).reshape(1, *[2] * dims, 1)
    neighbors = [x[(0, *offset[::-1], 0)].item() for offset in torch.cartesian_prod(*[torch.arange(2)] * dims).tolist()]
    assert merging(x).flatten().tolist() == neighbors


@pytest.mark.parametrize("size", [(7, 7), (6, 5), (7, 12)])
def test_a_map_no_larger_than_the_window_is_not_shifted(size):
    backbone = _small(depths=(2,), num_heads=(1,))
    attention = backbone.layers[0].blocks[1].attn
    assert attention.shift == 3
    assert attention._shift_for(size) == [0, 0]
    assert attention._shift_for((8, 14)) == [3, 3]


def test_in_3d_every_axis_decides_for_itself():
    attention = _small(spatial_dims=3, depths=(2,), num_heads=(1,)).layers[0].blocks[1].attn
    assert attention._shift_for((7, 14, 14)) == [0, 3, 3]


def test_a_map_smaller_than_the_window_keeps_relative_positions():
    """Padded up to the window by hand, the same numbers come out: the window was not shrunk."""
    attention = _small(depths=(1,), num_heads=(2,)).layers[0].blocks[0].attn
    nn.init.normal_(attention.relative_position_bias_table)
    x = torch.randn(1, 4, 5, 16)
    padded = nn.functional.pad(x, (0, 0, 0, 2, 0, 3))
    torch.testing.assert_close(attention(x), attention(padded)[:, :4, :5])


def test_the_shift_mask_keeps_apart_what_the_roll_joined():
    mask = swin_module._build_shift_mask((14, 14), 7, (3, 3), torch.device("cpu"))
    rows, cols = torch.meshgrid(torch.arange(14), torch.arange(14), indexing="ij")
    original = torch.stack([rows, cols], -1).roll((-3, -3), (0, 1)).reshape(2, 7, 2, 7, 2).transpose(1, 2)
    windows = original.reshape(4, 49, 2)
    # positions belong together if they were neighbors before the roll: less than a window apart
    near = ((windows[:, :, None] - windows[:, None]).abs() < 7).all(-1)
    assert torch.equal(mask[:, 0] == 0, near)
    assert set(mask.unique().tolist()) == {0.0, -100}


def test_masks_are_built_once_and_are_not_in_the_state(monkeypatch):
    backbone = _small().eval()
    image = torch.rand(1, 1, 224, 224)
    monkeypatch.setattr(swin_module, "_shift_masks", {})
    with torch.inference_mode():
        expected = backbone(image)
    masks = dict(swin_module._shift_masks)
    assert len(masks) == 3  # the last stage, 7x7, is not shifted
    assert not any(mask.is_inference() for mask in masks.values())

    def refuse(*_):
        raise RuntimeError("a mask was built again")

    monkeypatch.setattr(swin_module, "_build_shift_mask", refuse)
    with torch.no_grad():
        assert torch.equal(backbone(image), expected)
    backbone(image).sum().backward()  # a mask that inference built takes part in training
    monkeypatch.undo()
    assert not any("mask" in key or "index" in key for key in backbone.state_dict())


def test_the_cache_of_masks_is_bounded(monkeypatch):
    monkeypatch.setattr(swin_module, "_shift_masks", {})
    monkeypatch.setattr(swin_module, "MASK_CACHE_SIZE", 2)
    for side in (14, 21, 28, 35):
        swin_module._shift_mask((side, side), 7, (3, 3), torch.device("cpu"))
    assert len(swin_module._shift_masks) <= 2


def test_gradients_repeat_bit_for_bit_with_many_heads_and_two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        backbone = _small(embed_dim=64, depths=(2, 2), num_heads=(16, 32)).train()
        image = torch.randn(4, 1, 56, 56)
        runs = []
        for _ in range(3):
            backbone.zero_grad()
            backbone(image).square().sum().backward()
            runs.append([p.grad.clone() for p in backbone.parameters()])
    finally:
        torch.set_num_threads(threads)
    for again in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], again, strict=True))


def test_the_relative_bias_gathers_by_index_select():
    """``table[index]`` adds gradients in an order that varies between runs; its backward node names it."""
    bias = _small().layers[0].blocks[0].attn._relative_bias()
    names, nodes = set(), [bias.grad_fn]
    while nodes:
        node = nodes.pop()
        names.add(type(node).__name__)
        nodes += [parent for parent, _ in node.next_functions if parent is not None]
    assert "IndexSelectBackward0" in names
    assert "IndexBackward0" not in names


def test_the_gradient_of_the_bias_table_is_right():
    backbone = _small(embed_dim=2, depths=(2,), num_heads=(1,), window_size=2, patch_size=1).double()
    table = backbone.layers[0].blocks[1].attn.relative_position_bias_table
    image = torch.randn(1, 1, 4, 4, dtype=torch.double)

    def of_table(values):
        return torch.func.functional_call(
            backbone, {"layers.0.blocks.1.attn.relative_position_bias_table": values}, image
        )

    assert torch.autograd.gradcheck(of_table, table.detach().requires_grad_())


def test_drop_path_rises_linearly():
    backbone = _small(depths=(2, 2, 1, 1), drop_path_rate=0.5)
    rates = [block.drop_path.drop_prob for stage in backbone.layers for block in stage.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"depths": (2, 2)}, "depths and num_heads must name the same number of stages"),
        ({"depths": (), "num_heads": ()}, "at least one"),
        ({"num_heads": (1, 2, 4, 7)}, r"num_heads\[3\] must divide the stage's 128 channels"),
        ({"window_size": 0}, "window_size.*at least 1"),
        ({"depths": (2, 2, 0, 2)}, "depths.*at least 1"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate must be in \[0, 1\)"),
    ],
)
def test_impossible_arguments_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        _small(**changed)


def test_attention_in_training_and_in_inference_is_one_formula():
    """With gradients a CPU takes an explicit softmax, without them the fused kernel."""
    backbone = _small(depths=(2, 2), num_heads=(2, 4)).eval()
    image = torch.randn(2, 1, 112, 112)
    with torch.no_grad():
        expected = backbone(image)
    torch.testing.assert_close(backbone(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_onnx_export_for_any_batch_size(tmp_path, monkeypatch):
    monkeypatch.setattr(swin_module, "_shift_masks", {})
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    backbone = _small(embed_dim=8, depths=(2, 1), num_heads=(1, 2), window_size=4).eval()
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        backbone, (torch.rand(2, 1, 30, 36),), dynamo=True, dynamic_shapes={"x": {0: batch}}, verbose=False
    )
    program.save(tmp_path / "swin.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "swin.onnx")
    image = torch.rand(3, 1, 30, 36)
    (out,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(out), backbone(image), rtol=1e-4, atol=1e-5)
    assert torch.isfinite(backbone(torch.rand(1, 1, 30, 36))).all()  # the export left no symbolic mask behind
