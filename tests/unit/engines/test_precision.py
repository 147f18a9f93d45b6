from __future__ import annotations

import pytest
import torch

from monai_anat.engines import autocast_dtype, fast_bf16

CPU = torch.device("cpu")


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
