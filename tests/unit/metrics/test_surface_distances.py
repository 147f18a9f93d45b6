from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance

from monai_anat.metrics import SurfaceDistancesMetric
from monai_anat.metrics.surface_distances import surface_distance


def blobs(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 50), bool)
    top, left = rng.integers(2, 15, 2)
    mask[top : top + rng.integers(5, 20), left : left + rng.integers(5, 25)] = True
    return mask


@pytest.mark.filterwarnings("ignore")
def test_hd95_is_that_of_monai() -> None:
    for seed in range(5):
        mask, truth = blobs(seed), blobs(seed + 50)
        tensors = [torch.as_tensor(part[None, None]).float() for part in (mask, truth)]
        expected = compute_hausdorff_distance(*tensors, include_background=True, percentile=95)
        assert surface_distance(mask, truth) == pytest.approx(expected.item(), abs=1e-5)


def test_the_mean_runs_over_both_borders() -> None:
    mask, truth = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    mask[4, 2] = truth[4, 6] = truth[4, 7] = True
    assert surface_distance(mask, truth, "mean") == pytest.approx((4 + 4 + 5) / 3)


def test_a_missing_structure_counts_with_the_diagonal_and_an_absent_one_not_at_all() -> None:
    some, none = np.ones((30, 40), bool), np.zeros((30, 40), bool)
    assert surface_distance(none, some) == surface_distance(none, some, "mean") == 50
    assert math.isnan(surface_distance(some, none))
    metric = SurfaceDistancesMetric()
    one_hot = torch.ones(2, 3, 30, 40)
    truth = one_hot.clone()
    one_hot[0, 1] = 0
    truth[1, 2] = 0
    metric(one_hot, truth)
    assert metric.get_buffer().nan_to_num(-1).tolist() == [[50, 0], [0, -1]]
    assert metric.aggregate().item() == pytest.approx(12.5)  # mean of the images' means


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="statistic must be"):
        surface_distance(np.ones((2, 2), bool), np.ones((2, 2), bool), "median")
    with pytest.raises(ValueError, match="shape of y_pred"):
        SurfaceDistancesMetric()(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 4, 3))
