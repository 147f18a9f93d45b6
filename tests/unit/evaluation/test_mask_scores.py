"""Dice and Hausdorff distance by hand, and empty masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.evaluation.mask_scores import dice_by_structure, hd95_by_structure, structure_masks


def test_bits_and_classes() -> None:
    labels = torch.tensor([[[0, 1, 2, 5]]])
    assert structure_masks(labels.clamp(max=2), 3)[0, :, 0].tolist() == [[0, 1, 0, 0], [0, 0, 1, 1]]
    assert structure_masks(labels, 4, overlapping=True)[0, :, 0].tolist() == [[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_distance_of_shifted_squares_and_of_one_far_pixel() -> None:
    truth, mask = torch.zeros(2, 1, 40, 40), torch.zeros(2, 1, 40, 40)
    truth[:, :, 10:20, 10:20] = 1
    mask[0, :, 10:20, 13:23] = 1
    mask[1] = truth[1]
    mask[1, :, 35, 35] = 1
    found = hd95_by_structure(mask, truth)
    assert found[0, 0] == 3
    assert found[1, 0] == 0, "one pixel of 37 is within the last 5 %"
    np.testing.assert_array_equal(found, hd95_by_structure(truth, mask))


def test_empty_masks() -> None:
    empty, full = torch.zeros(1, 1, 30, 40), torch.ones(1, 1, 30, 40)
    assert hd95_by_structure(empty, full)[0, 0] == 50, "nothing found: the image diagonal"
    assert dice_by_structure(empty, full)[0, 0] == 0
    assert np.isnan(hd95_by_structure(full, empty)[0, 0])
    assert np.isnan(dice_by_structure(full, empty)[0, 0])


def test_agrees_with_monai() -> None:
    from monai.metrics import compute_hausdorff_distance

    generator = torch.Generator().manual_seed(0)
    masks = torch.nn.functional.avg_pool2d(torch.rand(4, 2, 30, 30, generator=generator), 9, 1, 4) > 0.5
    with pytest.warns(FutureWarning):
        expected = compute_hausdorff_distance(
            masks[:2].float(), masks[2:].float(), include_background=True, percentile=95
        )
    np.testing.assert_allclose(hd95_by_structure(masks[:2], masks[2:]), expected, rtol=1e-5)


def test_distance_in_millimeters_of_oblong_pixels() -> None:
    truth, mask = torch.zeros(2, 2, 40, 30), torch.zeros(2, 2, 40, 30)
    truth[:, :, 10:20, 10:20] = 1
    mask[:, 0, 14:24, 10:20] = 1  # four rows further down; the second structure is not found
    found = hd95_by_structure(mask, truth, np.array([[0.5, 2.0], [np.nan, np.nan]]))
    np.testing.assert_allclose(found[0], [2.0, np.hypot(20, 60)])
    assert np.isnan(found[1]).all()
