"""Heads between scales: unit vectors, and layouts that keep every token at its place."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.networks.heads.matching_heads import DenseHead, DownsamplingHead, UpsamplingHead, masked_mean


def maps_of(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# ---------------------------------------------------------------------- dense


def test_dense_tokens_are_unit_vectors_without_negative_entries() -> None:
    head = DenseHead(8)
    out = head(maps_of(2, 8, 4, 6))
    assert out.shape == (2, 8, 4, 6)
    assert (out >= 0).all()
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2, 4, 6))


def test_dense_head_works_position_by_position() -> None:
    head, feature_map = DenseHead(8).eval(), maps_of(2, 8, 4, 6)
    torch.testing.assert_close(head(feature_map)[:, :, 1:3, 2:5], head(feature_map[:, :, 1:3, 2:5]))


def test_dense_layout_is_that_of_the_published_files() -> None:
    names = {name for name, _ in DenseHead(8).named_parameters()}
    assert names == {f"layers.{n}.{m}.{kind}" for n in range(3) for m in range(2) for kind in ("weight", "bias")}


def test_a_dead_position_is_zero_with_finite_gradients() -> None:
    head = DenseHead(4).eval()
    with torch.no_grad():
        head.layers[2][1].bias.fill_(-100.0)
    feature_map = maps_of(1, 4, 2, 2).requires_grad_()
    out = head(feature_map)
    out.sum().backward()
    assert torch.equal(out, torch.zeros_like(out))
    assert feature_map.grad is not None
    assert torch.isfinite(feature_map.grad).all()


# ---------------------------------------------------------------------- up and down


def test_the_heads_of_the_paper_have_their_published_sizes() -> None:
    with torch.device("meta"):
        heads = DenseHead(1024), UpsamplingHead(1024), DownsamplingHead(1024)
    assert [round(sum(p.numel() for p in head.parameters()) / 1e6, 2) for head in heads] == [3.15, 20.98, 5.25]


@pytest.mark.parametrize("scale", [(2, 2), (1, 2), (2, 1), (1, 1), (3, 2)])
def test_parts_of_a_token_lie_in_its_block(scale: tuple[int, int]) -> None:
    head, feature_map = UpsamplingHead(6, scale), maps_of(2, 6, 3, 4)
    out = head(feature_map)
    assert out.shape == (2, 6, 3 * scale[0], 4 * scale[1])
    changed = feature_map.clone()
    changed[:, :, 1, 2] += 1
    moved = (head(changed) != out).any(1)[0]
    expected = torch.zeros(3, 4, dtype=torch.bool)
    expected[1, 2] = True
    block = expected.repeat_interleave(scale[0], 0).repeat_interleave(scale[1], 1)
    assert torch.equal(moved, block)
    parts = head.layer(feature_map[0, :, 1, 2])  # [sub-row, sub-column, D]
    for i in range(scale[0]):
        for j in range(scale[1]):
            part = out[0, :, scale[0] + i, 2 * scale[1] + j]
            start = 6 * (i * scale[1] + j)
            torch.testing.assert_close(part, parts[start : start + 6])


@pytest.mark.parametrize("scale", [(2, 2), (1, 2), (2, 1), (1, 1)])
def test_a_whole_is_made_of_its_block(scale: tuple[int, int]) -> None:
    head, feature_map = DownsamplingHead(6, scale), maps_of(2, 6, 4, 6)
    out = head(feature_map)
    assert out.shape == (2, 6, 4 // scale[0], 6 // scale[1])
    unfolded = F.unfold(feature_map, scale, stride=scale).transpose(1, 2)  # (B, N, D k l), channel-major
    torch.testing.assert_close(out.flatten(2).transpose(1, 2), head.layer(unfolded))


def test_blocks_of_equal_tokens_give_equal_wholes() -> None:
    head, token = DownsamplingHead(6), maps_of(1, 6, 1, 1)
    out = head(token.expand(1, 6, 4, 4))
    torch.testing.assert_close(out, out[:, :, :1, :1].expand(1, 6, 2, 2))


def test_depth_to_space_has_every_sub_row_and_sub_column_in_its_place() -> None:
    head = UpsamplingHead(1)
    head.layer = nn.Identity()  # type: ignore[assignment]  # the input holds [sub-row, sub-column] already
    head.in_features = 1
    out = head(torch.arange(16.0).reshape(1, 4, 2, 2))
    # token (0, 0) holds 0 4 8 12, token (0, 1) holds 1 5 9 13, ...
    assert out[0, 0].tolist() == [[0, 4, 1, 5], [8, 12, 9, 13], [2, 6, 3, 7], [10, 14, 11, 15]]


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"blocks of 2 x 2 tokens, got 7 x 4"):
        DownsamplingHead(6)(maps_of(1, 6, 7, 4))
    with pytest.raises(ValueError, match=r"scale must be two whole numbers .* got \(2,\)"):
        UpsamplingHead(6, (2,))
    with pytest.raises(ValueError, match=r"in_features must be at least 1, got 0"):
        DenseHead(0)


# ---------------------------------------------------------------------- mean


def test_masked_mean_is_the_mean_of_the_chosen_tokens() -> None:
    tokens, mask = maps_of(3, 10, 4), torch.rand(3, 10) < 0.5
    mask[2] = False
    out = masked_mean(tokens, mask)
    for b in range(2):
        torch.testing.assert_close(out[b], tokens[b][mask[b]].mean(0))
    assert torch.equal(out[2], torch.zeros(4))
    assert masked_mean(tokens.bfloat16(), mask).dtype == torch.float32
