"""One draw for all keys: from the array transform's generator, and only for images of one shape."""

from __future__ import annotations

import pytest
import torch

from monai_anat.transforms import RandAppearance
from monai_anat.transforms.shared_draw import RandSharedDrawd


def test_all_keys_get_the_draw_of_the_array_transform() -> None:
    image = torch.rand(1, 8, 8)
    transform = RandSharedDrawd(["image", "label"], RandAppearance()).set_random_state(4)
    out = transform({"image": image, "label": image, "name": "x"})
    expected = RandAppearance().set_random_state(4)(image)
    assert torch.equal(out["image"], expected)
    assert torch.equal(out["label"], expected)
    assert out["name"] == "x"


def test_shapes_must_agree_and_keys_be_there_unless_allowed() -> None:
    transform = RandSharedDrawd(["image", "label"], RandAppearance())
    with pytest.raises(ValueError, match=r"one spatial shape, got \(8, 8\) and 'label' with \(6, 6\)"):
        transform({"image": torch.rand(1, 8, 8), "label": torch.rand(1, 6, 6)})
    with pytest.raises(KeyError, match="label"):
        transform({"image": torch.rand(1, 8, 8)})
    assert set(RandSharedDrawd(["a", "b"], RandAppearance(), True)({"b": torch.rand(1, 8, 8)})) == {"b"}
