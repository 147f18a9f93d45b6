from __future__ import annotations

import pytest
import torch

from monai_anat.precision import at_least_float32, autocast_dtype, fast_bf16, same_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.int64, torch.float32),
    ],
)
def test_half_precision_is_widened_and_nothing_narrowed(given, wanted):
    x = torch.arange(3).to(given)
    assert at_least_float32(x).dtype is wanted
    assert at_least_float32(x).tolist() == [0, 1, 2]


def test_the_gradient_comes_back_in_the_given_precision():
    x = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    at_least_float32(x).sum().backward()
    assert x.grad.dtype is torch.bfloat16


def test_one_precision_is_the_widest_and_single_at_least():
    half, single, double = (torch.ones(2, dtype=kind) for kind in (torch.bfloat16, torch.float32, torch.float64))
    assert [x.dtype for x in same_precision(half, half)] == [torch.float32] * 2
    assert [x.dtype for x in same_precision(half, single, double)] == [torch.float64] * 3
    assert same_precision(single)[0] is single


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True, "avx512_bf16": False}, True), ({"avx2": True}, False)],
)
def test_auto_follows_the_processor(monkeypatch, capabilities, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert fast_bf16(CPU) is fast
    assert autocast_dtype("auto", CPU) is (torch.bfloat16 if fast else None)


@pytest.mark.parametrize(("capability", "fast"), [((8, 0), True), ((9, 0), True), ((7, 5), False)])
def test_auto_follows_the_gpu(monkeypatch, capability, fast):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert fast_bf16(torch.device("cuda")) is fast
    assert fast_bf16(torch.device("meta")) is False


def test_words():
    assert autocast_dtype("bf16", CPU) is torch.bfloat16
    assert autocast_dtype("fp16", CPU) is torch.float16
    assert autocast_dtype("fp32", CPU) is None
    with pytest.raises(ValueError, match=r"precision must be 'auto' or one of \['bf16', 'fp16', 'fp32'\], got 'half'"):
        autocast_dtype("half", CPU)
