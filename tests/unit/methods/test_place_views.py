"""Views of PLACE: matches, positions of cells in the image, and sub-cells."""

from __future__ import annotations

import pytest
import torch

from monai_anat.methods import RandPEACViewsd, RandPLACEViewsd
from monai_anat.methods.place_views import cell_positions
from monai_anat.transforms import split_cells


def ramp(*shape: int) -> torch.Tensor:
    """An image with the position of each pixel center along axis a, in [0, 1], as channel a."""
    axes = [(torch.arange(side) + 0.5) / side for side in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).float()


@pytest.mark.parametrize("shape", [(23, 30), (20, 22, 24)])
def test_positions_are_where_the_cells_lie_and_matches_show_the_same_pixels(shape: tuple[int, ...]) -> None:
    views = RandPLACEViewsd(grid_size=4, cell_size=4, margin=1, distort_prob=0.5, mean=0.0, std=1.0)
    shuffled = 0
    for seed in range(8):
        sample = views.set_random_state(seed)({"image": ramp(*shape)})
        for view, key in (("target", "position_1"), ("view_2", "position_2")):
            cells = split_cells(sample[view][None], 4, len(shape))[0].flatten(2).mean(2)  # (N, d)
            torch.testing.assert_close(cells, sample[key], rtol=0, atol=1e-5)
        matched = sample["match"] >= 0
        assert matched.any()
        torch.testing.assert_close(
            sample["position_1"][matched], sample["position_2"][sample["match"][matched]], rtol=0, atol=1e-6
        )
        hidden = bool((sample["correspondence"] < 0).all())
        shuffled += hidden
        assert hidden or torch.equal(sample["correspondence"], sample["match"])
        assert sample["subcells"].shape == (4 ** len(shape), len(shape))
        assert ((sample["subcells"] >= 0) & (sample["subcells"] < 1)).all()
    assert 0 < shuffled < 8


def test_the_views_are_those_of_peac() -> None:
    options = {"grid_size": 4, "cell_size": 4, "margin": 1}
    image = torch.rand(1, 23, 21)
    ours = RandPLACEViewsd(**options).set_random_state(3)({"image": image})
    peac = RandPEACViewsd(**options).set_random_state(3)({"image": image})
    assert set(ours) - set(peac) == {"match", "position_1", "position_2", "subcells"}
    for key, value in peac.items():
        assert torch.equal(ours[key], value), key


def test_cell_positions_by_hand() -> None:
    positions = cell_positions((1, 0), (2, 3), (2, 1), (4, 4), (20, 10))
    torch.testing.assert_close(positions, torch.tensor([[8 / 20, 0.5], [12 / 20, 0.5]]))
