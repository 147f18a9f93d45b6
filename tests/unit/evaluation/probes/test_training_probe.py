from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from monai_anat.data import segmentation_datalist
from monai_anat.evaluation import TrainingProbe


class Coordinates(nn.Module):
    """Each cell's features say where the cell is."""

    def __init__(self, stride: int = 8) -> None:
        super().__init__()
        self.stride = nn.Parameter(torch.tensor(float(stride)), requires_grad=False)

    def forward(self, x):
        rows, columns = (torch.linspace(-1, 1, side // int(self.stride)) for side in x.shape[2:])
        ones = torch.ones(len(rows), len(columns))
        grid = torch.stack([rows[:, None] * ones, columns[None] * ones])
        return grid.expand(len(x), -1, -1, -1)


class Noise(Coordinates):
    def forward(self, x):
        side = x.shape[2] // int(self.stride)
        return torch.randn(len(x), 32, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def probe() -> TrainingProbe:
    return TrainingProbe(segmentation_datalist("validation"), 64)


def test_coordinates_name_most_landmarks_and_noise_does_not(probe):
    knows, picture = probe(Coordinates())
    guesses, _ = probe(Noise())
    assert knows["landmark_knn"] > 0.6
    assert guesses["landmark_knn"] < 0.4
    assert knows["landmark_error"] < 0.6 * guesses["landmark_error"]
    assert knows["same_position_error"] == guesses["same_position_error"]
    assert len(picture.axes) == 2


def test_an_encoder_that_has_diverged_does_not_end_the_run(probe):
    class Diverged(Coordinates):
        def forward(self, x):
            return super().forward(x) * float("nan")

    scores, picture = probe(Diverged())
    assert math.isnan(scores["landmark_error"])
    assert picture is None


def test_two_patients_are_needed():
    one = segmentation_datalist("validation")[:1]
    with pytest.raises(ValueError, match="two patients with lung landmarks, got 2 images of 1 patients"):
        TrainingProbe([*one, *one], 64)


def test_images_without_masks_are_passed_over(probe):
    items = [{"image": "nowhere.png", "patient": "x"}, *segmentation_datalist("validation")]
    assert TrainingProbe(items, 64).cases.names == probe.cases.names
