"""Arrays, tensors and MetaTensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_anat.transforms.array_kinds import BACKENDS, plain_tensor, same_kind, unit_range


def test_pixels_are_shared_and_bare() -> None:
    array = np.zeros((1, 2, 2), np.float32)
    plain_tensor(array)[0, 0, 0] = 1
    assert array[0, 0, 0] == 1
    bare = plain_tensor(MetaTensor(torch.zeros(1, 2, 2)))
    assert type(bare) is torch.Tensor


def test_read_only_and_reversed_arrays_are_copied_without_a_warning() -> None:
    array = np.arange(8, dtype=np.uint8).reshape(1, 2, 4)
    assert plain_tensor(array[:, ::-1])[0, 0, 0] == 4
    array.flags.writeable = False
    plain_tensor(array)[0, 0, 0] = 9
    assert array[0, 0, 0] == 0


def test_results_are_wrapped_as_their_input_was() -> None:
    result = torch.zeros(1, 2, 2)
    assert isinstance(same_kind(result, np.zeros(1)), np.ndarray)
    assert same_kind(result, torch.zeros(1, dtype=torch.uint8)) is result
    source = MetaTensor(torch.zeros(1, 2, 2, dtype=torch.uint8), affine=torch.eye(4) * 2, meta={"name": "a"})
    wrapped = same_kind(result, source)
    assert isinstance(wrapped, MetaTensor) and wrapped.dtype == torch.float32
    assert torch.equal(wrapped.affine, source.affine) and wrapped.meta["name"] == "a"
    assert len(BACKENDS) == 2


def test_unsigned_codes_become_fractions_and_floats_stay() -> None:
    codes = torch.arange(256)
    assert torch.equal(unit_range(codes.to(torch.uint8)), codes.float() / 255)
    assert torch.equal(unit_range((codes * 257).to(torch.uint16)), (codes * 257).float() / 65535)
    image = torch.rand(2)
    assert unit_range(image) is image


def test_errors_name_what_came() -> None:
    with pytest.raises(TypeError, match=r"img must be a numpy array or a tensor, got list"):
        plain_tensor([1.0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got torch.int16; scale it to \[0, 1\] first"):
        unit_range(torch.zeros(1, dtype=torch.int16))
