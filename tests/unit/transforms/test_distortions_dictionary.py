"""Distortions on dictionaries."""

from __future__ import annotations

import pytest
import torch

from monai_anat.transforms import (
    RandBezierIntensityd,
    RandDistort,
    RandDistortd,
    RandDistortOned,
    RandInPaintd,
    RandLocalPixelShuffled,
    RandOutPaintd,
)

KINDS = [
    RandBezierIntensityd,
    RandDistortOned,
    RandDistortd,
    RandInPaintd,
    RandLocalPixelShuffled,
    RandOutPaintd,
]


@pytest.mark.parametrize("kind", KINDS)
def test_one_draw_is_shared_by_all_keys(kind: type) -> None:
    image = torch.rand(1, 32, 32)
    out = kind(["image", "label"], prob=1.0).set_random_state(3)({"image": image, "label": image, "name": "a"})
    assert torch.equal(out["image"], out["label"]) and not torch.equal(out["image"], image)
    assert out["name"] == "a"


def test_arguments_reach_the_array_transform() -> None:
    chain = RandDistortd("image", 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 7, 8, 0.9).transform
    assert isinstance(chain, RandDistort)
    assert (chain.prob, chain.shuffle_prob, chain.bezier_prob, chain.paint_prob) == (0.1, 0.2, 0.3, 0.5)
    assert (chain.bezier.invert_prob, chain.out_paint_prob) == (0.4, 0.6)
    assert (chain.shuffle.num_blocks, chain.in_paint.max_boxes, chain.out_paint.next_prob) == (7, 8, 0.9)
    one = RandDistortOned("image", 0.1, (1, 2, 3, 4), 7, 8, 0.9, 0.4).transform
    assert (one.prob, one.weights) == (0.1, (1, 2, 3, 4))
    assert RandInPaintd("image", 0.1, 2, 0.3, (0.1, 0.2)).transform.sides == (0.1, 0.2)
    assert RandOutPaintd("image", 0.1, 2, 0.3, (0.1, 0.2)).transform.removed == (0.1, 0.2)
    assert RandBezierIntensityd("image", 0.1, 0.2).transform.invert_prob == 0.2
    assert RandLocalPixelShuffled("image", 0.1, 2, 0.3).transform.max_side == 0.3


def test_keys_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"keys must have one spatial shape.*'label' with \(4, 8\)"):
        RandDistortd(["image", "label"])({"image": torch.rand(1, 8, 8), "label": torch.rand(1, 4, 8)})
