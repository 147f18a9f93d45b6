"""In-painting and out-painting."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.transforms.painting import in_paint, out_paint

BOXES_2D = np.array([[[2, 3], [4, 5]], [[5, 6], [6, 3]]])
BOXES_3D = np.array([[[1, 0, 2], [2, 3, 2]]])


def _inside(shape: tuple[int, ...], boxes: np.ndarray) -> torch.Tensor:
    mask = torch.zeros(shape, dtype=torch.bool)
    for start, side in boxes:
        mask[tuple(slice(a, a + b) for a, b in zip(start, side, strict=True))] = True
    return mask


@pytest.mark.parametrize(("shape", "boxes"), [((12, 12), BOXES_2D), ((4, 5, 6), BOXES_3D)])
def test_in_painting_changes_the_boxes_only_and_out_painting_the_rest_only(
    shape: tuple[int, ...], boxes: np.ndarray
) -> None:
    image, inside = torch.rand(2, *shape), _inside(shape, boxes)
    painted, kept = in_paint(image, boxes, seed=0), out_paint(image, boxes, seed=0)
    assert torch.equal(painted[:, ~inside], image[:, ~inside])
    assert (painted[:, inside] != image[:, inside]).all()
    assert torch.equal(kept[:, inside], image[:, inside])
    assert (kept[:, ~inside] != image[:, ~inside]).all()


def test_noise_is_uniform_shared_by_channels_inside_and_independent_outside() -> None:
    box = np.array([[[0, 0], [100, 100]]])
    image = torch.zeros(2, 200, 100)
    inside, outside = in_paint(image, box, seed=0)[:, :100], out_paint(image, box, seed=0)[:, 100:]
    assert torch.equal(inside[0], inside[1])
    assert abs(float(torch.corrcoef(outside.flatten(1))[0, 1])) < 0.05
    for noise in (inside[0], outside[0]):
        assert 0 <= float(noise.min()) < 0.01 and 0.99 < float(noise.max()) < 1
        assert abs(float(noise.mean()) - 0.5) < 0.02 and abs(float(noise.std()) - 12**-0.5) < 0.01


def test_no_box_means_nothing_painted_or_nothing_kept() -> None:
    image, none = torch.full((1, 8, 8), 2.0 / 3), np.zeros((0, 2, 2), np.int64)
    assert torch.equal(in_paint(image, none, seed=0), image)
    assert (out_paint(image, none, seed=0) != image).all()


def test_integers_become_floats_and_the_input_stays() -> None:
    for dtype, full in [(np.uint8, 255), (np.uint16, 65535)]:
        image = np.full((1, 12, 12), full // 5, dtype)
        painted = in_paint(image, BOXES_2D, seed=0)
        assert painted.dtype == np.float32 and np.allclose(painted[0, 0], 0.2)
        assert (image == full // 5).all()
    image = torch.rand(1, 12, 12)
    before = image.clone()
    in_paint(image, BOXES_2D, seed=0)
    out_paint(image, BOXES_2D, seed=0)
    assert torch.equal(image, before)


def test_noise_keeps_the_floating_type() -> None:
    for dtype in (torch.float16, torch.float64):
        assert in_paint(torch.rand(1, 12, 12).to(dtype), BOXES_2D, 0).dtype == dtype
        assert out_paint(torch.rand(1, 12, 12).to(dtype), BOXES_2D, 0).dtype == dtype


def test_values_outside_the_unit_range_are_refused() -> None:
    for paint in (in_paint, out_paint):
        with pytest.raises(ValueError, match=r"img must lie in \[0, 1\].*distort before normalizing"):
            paint(torch.full((1, 12, 12), 2.0), BOXES_2D, seed=0)
        with pytest.raises(TypeError, match=r"img must be uint8, uint16 or floating point, got torch.int32"):
            paint(torch.zeros((1, 12, 12), dtype=torch.int32), BOXES_2D, seed=0)
