"""The restoration terms: means over all pixels or hidden ones, never broadcast, float32 under autocast."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from monai_anat.losses import masked_cross_entropy, masked_l1, masked_patch_mse, restoration_mse


@pytest.mark.parametrize("shape", [(2, 1, 6, 8), (2, 1, 4, 6, 8)])
def test_it_is_the_mean_square_over_all_pixels(shape: tuple[int, ...]) -> None:
    restored, target = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(restoration_mse(restored, target), (restored - target).square().mean())
    assert restoration_mse(target, target) == 0.0


def test_gradient_and_precision() -> None:
    restored, target = torch.randn(2, 1, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(restoration_mse, (restored.double().requires_grad_(), target.double()))
    with torch.autocast("cpu", torch.bfloat16):
        value = restoration_mse(restored.bfloat16(), target)
    assert value.dtype == torch.float32
    assert value == restoration_mse(restored.bfloat16().float(), target)


def test_shapes_are_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"the same shape, got \(1, 1, 4, 4\) and \(1, 3, 4, 4\); check cell_size"):
        restoration_mse(torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 4, 4))


def cells_and_mask() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    restored, target = torch.randn(2, 3, 6, 8, generator=generator)
    return restored, target, torch.rand(3, 6, generator=generator) < 0.6


def test_masked_terms_are_means_over_hidden_cells() -> None:
    restored, target, mask = cells_and_mask()
    hidden, clean = restored[mask], target[mask]
    torch.testing.assert_close(masked_l1(restored, target, mask), (hidden - clean).abs().mean())
    plain = masked_patch_mse(restored, target, mask, normalize=False)
    torch.testing.assert_close(plain, (hidden - clean).square().mean())
    scaled = (clean - clean.mean(1, keepdim=True)) / clean.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(masked_patch_mse(restored, target, mask), (hidden - scaled).square().mean())


@pytest.mark.parametrize("term", [masked_l1, masked_patch_mse])
def test_only_hidden_cells_count(term: Callable[..., Tensor]) -> None:
    restored, target, mask = cells_and_mask()
    expected = term(restored, target, mask)
    visible, hidden = (~mask)[:, :, None], mask[:, :, None]
    noise = torch.rand(target.shape)
    assert torch.equal(term(restored, target + noise * visible, mask), expected)
    assert torch.equal(term(restored + noise * visible, target, mask), expected)
    assert not torch.isclose(term(restored, target + noise * hidden, mask), expected)
    restored.requires_grad_()
    term(restored, target, mask).backward()
    assert restored.grad is not None
    assert torch.equal(restored.grad.abs().amax(2) > 0, mask)


@pytest.mark.parametrize("term", [masked_l1, masked_patch_mse])
def test_with_a_joint_count_unequal_parts_average_to_the_whole(term: Callable[..., Tensor]) -> None:
    restored, target, _ = cells_and_mask()
    mask = torch.arange(6) < torch.tensor([[1], [5], [3]])
    parts = [term(restored[i : i + 1], target[i : i + 1], mask[i : i + 1], mask.sum() / 3) for i in range(3)]
    torch.testing.assert_close(torch.stack(parts).mean(), term(restored, target, mask))


def test_patches_on_their_own_scale_forget_brightness_and_contrast() -> None:
    restored, target, mask = cells_and_mask()
    target = 100 * target  # so that eps does not count
    torch.testing.assert_close(
        masked_patch_mse(restored, 3 * target - 7, mask), masked_patch_mse(restored, target, mask)
    )
    assert masked_patch_mse(torch.zeros(1, 1, 4), torch.full((1, 1, 4), 5.0), torch.ones(1, 1, dtype=torch.bool)) == 0


def test_no_hidden_cell_gives_zero_with_a_gradient_path() -> None:
    restored, target, mask = cells_and_mask()
    restored.requires_grad_()
    for term in (masked_l1, masked_patch_mse):
        value = term(restored, target, torch.zeros_like(mask))
        assert value == 0
        value.backward()


def test_masked_shapes_are_not_broadcast() -> None:
    cells = torch.zeros(2, 4, 9)
    for wrong in (torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 4)):
        with pytest.raises(ValueError, match=r"mask \(B, N\) bool, got \(2, 4, 9\), \(2, 4, 9\) and \(2, .\) of torch"):
            masked_l1(cells, cells, wrong)
    with pytest.raises(ValueError, match=r"got \(2, 4, 9\), \(2, 4, 1\) and"):
        masked_patch_mse(cells, torch.zeros(2, 4, 1), torch.zeros(2, 4, dtype=torch.bool))


def logits_classes_and_mask() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 6, 5, generator=generator)
    classes = torch.randint(0, 5, (3, 6), generator=generator)
    return logits, classes, torch.rand(3, 6, generator=generator) < 0.6


def test_classes_of_hidden_cells_are_scored_and_no_others() -> None:
    logits, classes, mask = logits_classes_and_mask()
    total = -sum(logits[b, j].log_softmax(0)[classes[b, j]] for b, j in mask.nonzero().tolist())
    value = masked_cross_entropy(logits, classes, mask)
    torch.testing.assert_close(value, total / mask.sum())
    assert torch.equal(masked_cross_entropy(logits, torch.where(mask, classes, 0), mask), value)
    assert not torch.isclose(masked_cross_entropy(logits, torch.where(mask, 0, classes), mask), value)
    logits.requires_grad_()
    masked_cross_entropy(logits, classes, mask).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().amax(2) > 0, mask)


def test_classes_with_a_joint_count_or_nothing_hidden_or_half_precision() -> None:
    logits, classes, _ = logits_classes_and_mask()
    mask = torch.arange(6) < torch.tensor([[1], [5], [3]])
    parts = [masked_cross_entropy(logits[i, None], classes[i, None], mask[i, None], mask.sum() / 3) for i in range(3)]
    torch.testing.assert_close(torch.stack(parts).mean(), masked_cross_entropy(logits, classes, mask))
    assert masked_cross_entropy(logits.requires_grad_(), classes, torch.zeros_like(mask)) == 0
    half = masked_cross_entropy(logits.bfloat16(), classes, mask)
    assert half.dtype == torch.float32
    assert half == masked_cross_entropy(logits.bfloat16().float(), classes, mask)


def test_scores_of_another_grid_are_refused() -> None:
    logits, classes, mask = logits_classes_and_mask()
    with pytest.raises(
        ValueError, match=r"got \(3, 6, 5\), \(3, 4\) and \(3, 6\) of torch.bool; the tokenizer and the network"
    ):
        masked_cross_entropy(logits, classes[:, :4], mask)
    with pytest.raises(ValueError, match=r"mask \(B, N\) bool, got .* of torch.float32"):
        masked_cross_entropy(logits, classes, mask.float())
