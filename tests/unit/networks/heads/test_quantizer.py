"""The codebook: nearest codes, running means of the joint batch, codes that nobody uses, and when it rests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.networks.layers.vector_quantizer import EMAQuantizer
from torch import Tensor

from monai_anat.networks.heads import quantizer as module
from monai_anat.networks.heads.quantizer import JointQuantizer, nearest_code

STATE = {"embedding.weight", "ema_cluster_size", "ema_w"}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantizer(codes: int = 6, dim: int = 3, **options: Any) -> JointQuantizer:
    torch.manual_seed(0)
    return JointQuantizer(2, codes, dim, **options)


def started(**options: Any) -> JointQuantizer:
    """One whose codes are all in use, MONAI's state included."""
    made = quantizer(**options)
    made.embedding.weight.data.copy_(randn(6, 3, seed=1))
    made.ema_cluster_size.fill_(20.0)
    made.ema_w.copy_(20 * made.embedding.weight)
    return made


def state_of(made: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.state_dict().items()}


def assert_state(made: torch.nn.Module, expected: dict[str, Tensor], equal: bool = True) -> None:
    found = made.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found) == equal


def test_the_code_of_an_encoding_is_the_nearest_one() -> None:
    encodings, codes = randn(2, 4, 5, 3), randn(7, 3, seed=1)
    found = nearest_code(encodings, codes)
    assert found.shape == (2, 4, 5)
    slow = [min(range(7), key=lambda k: float((row - codes[k]).norm())) for row in encodings.flatten(0, 2)]
    assert found.flatten().tolist() == slow


def test_distances_are_not_those_of_half_precision() -> None:
    codes = 1 + torch.arange(40.0)[:, None] * torch.tensor([[1e-2, 2e-2]])
    with torch.autocast("cpu", torch.bfloat16):
        assert nearest_code(codes, codes).tolist() == list(range(40))
    assert nearest_code(codes.double(), codes.double()).tolist() == list(range(40))


def test_in_use_it_is_monai_s_quantizer() -> None:
    ours = started(decay=0.9)
    theirs = EMAQuantizer(2, 6, 3, commitment_cost=1.0, decay=0.9, epsilon=0.0)
    theirs.load_state_dict(ours.state_dict())
    assert set(ours.state_dict()) == STATE
    for step in range(3):
        gradients, numbers = [], []
        for made in (ours, theirs):
            x = randn(4, 3, 5, 5, seed=10 + step).requires_grad_()
            quantized, distance, words = made(x)
            ((quantized * randn(4, 3, 5, 5, seed=5)).sum() + distance).backward()
            gradients.append(x.grad)
            numbers.append(words)
        ours.update()
        assert torch.equal(*numbers)
        torch.testing.assert_close(*gradients)
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, msg=name)


def test_micro_batches_move_it_as_their_union_does() -> None:
    one, two, before = started(), started(), state_of(started())
    x = randn(4, 3, 5, 5)
    one(x)
    for part in x.split(2):
        two(part)
        assert_state(two, before)
    for made in (one, two):
        made.update()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value)
        assert not torch.equal(value, before[name])


def test_it_rests_in_evaluation_without_gradients_and_where_nobody_updates() -> None:
    made = started()
    before = state_of(made)
    made(randn(4, 3, 5, 5))
    assert_state(made, before)
    made.update()
    assert_state(made, before, equal=False)
    moved = state_of(made)
    with torch.no_grad():
        made(randn(4, 3, 5, 5, seed=2))
    made.eval()(randn(4, 3, 5, 5, seed=3))
    made.update()
    assert_state(made, moved)


def test_encodings_that_are_not_finite_leave_it() -> None:
    made = started()
    before, x = state_of(made), randn(4, 3, 5, 5)
    x[1, 2, 3, 4] = torch.nan
    made(x)
    made.update()
    assert_state(made, before)


def test_codes_that_nobody_uses_start_again_at_encodings() -> None:
    made = quantizer(codes=32)
    made.embedding.weight.data.add_(100)  # far away from everything but for one
    made.embedding.weight.data[7] = 0
    x = randn(4, 3, 5, 5)
    assert made(x)[2].unique().tolist() == [7]
    made.update()
    rows = x.movedim(1, -1).flatten(0, 2)
    fresh = torch.cat([made.embedding.weight[:7], made.embedding.weight[8:]])
    assert (fresh[:, None] - rows).norm(dim=2).amin(1).max() < 1e-5
    assert len(fresh.unique(dim=0)) == 31
    torch.testing.assert_close(made.embedding.weight[7], rows.mean(0))
    assert len(made(x)[2].unique()) > 25
    assert made.perplexity() > 1


def test_monai_s_unused_codes_never_come_back() -> None:
    """Why ours is not MONAI's."""
    theirs = EMAQuantizer(2, 32, 3)
    x = 0.1 * randn(4, 3, 5, 5)
    for _ in range(20):
        codes = theirs(x)[2].unique()
    assert len(codes) < 10
    assert theirs.embedding.weight.abs().max() > 1000


def test_a_code_in_use_is_left_alone() -> None:
    made = quantizer(codes=2, unused_share=0.01)
    made.embedding.weight.data.copy_(torch.tensor([[-1.0, 0, 0], [1.0, 0, 0]]))
    made.ema_cluster_size.fill_(5.0)
    made.ema_w.copy_(5 * made.embedding.weight)
    x = torch.zeros(1, 3, 1, 10)
    x[0, 0] = torch.tensor([-1.0] * 9 + [1.0])
    for _ in range(50):
        made(x)
        made.update()
    torch.testing.assert_close(made.embedding.weight, torch.tensor([[-1.0, 0, 0], [1.0, 0, 0]]))


@pytest.mark.parametrize("make", [started, lambda: quantizer(codes=32)], ids=["in use", "unused"])
def test_processes_are_added_up(make: Callable[[], JointQuantizer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, of which each sees half of the batch, taking turns with what the other would send."""
    x = randn(4, 3, 5, 5)
    joint = make()
    joint(x)
    joint.update()
    halves = [make() for _ in range(2)]
    sums: list[Tensor] = []
    monkeypatch.setattr(module, "sum_over_processes", lambda value: sums.append(value) or value)
    for rank, made in enumerate(halves):  # first what each would send
        made(x[rank::2])
        copy.deepcopy(made).update()
    rows = torch.stack([x[rank::2].movedim(1, -1).flatten(1, 2) for rank in range(2)], 1).flatten(0, 1)
    monkeypatch.setattr(module, "sum_over_processes", lambda value: sums[0] + sums[1])
    monkeypatch.setattr(module, "gather_rows", lambda own: rows)
    for made in halves:
        made.update()
        for name, value in joint.state_dict().items():
            torch.testing.assert_close(made.state_dict()[name], value)


def test_perplexity_counts_codes() -> None:
    made = quantizer()
    assert made.perplexity() == 0
    made.ema_cluster_size.fill_(3.0)
    torch.testing.assert_close(made.perplexity(), torch.tensor(6.0))


@pytest.mark.parametrize("options", [{"codes": 0}, {"decay": 1.0}, {"unused_share": 0.0}, {"unused_share": 0.2}])
def test_numbers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"decay in \[0, 1\), unused_share in \(0, 0.1\), got .*usual are 8192, 32"):
        quantizer(**options)
