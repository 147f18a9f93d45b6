"""Networks and images with known results."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.transforms import LoadImage, Resize
from torch import Tensor, nn

from monai_anat.engines import SSLTrainer
from monai_anat.methods import SSLMethod
from monai_anat.networks import Backbone
from monai_anat.schedules import Progress
from monai_anat.transforms import split_cells
from monai_anat.transforms.geometry import join_cells


class CellBackbone(Backbone):
    """Returns the pixels of each cell as its feature vector, channel-major."""

    def __init__(self, cell_size: int = 4, in_channels: int = 1, spatial_dims: int = 2) -> None:
        features = in_channels * cell_size**spatial_dims
        super().__init__(
            {"cell_size": cell_size, "in_channels": in_channels, "spatial_dims": spatial_dims},
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=(features,),
            strides=(cell_size,),
        )
        self.gain = nn.Parameter(torch.ones(()))  # the student needs a parameter

    def forward_features(self, x: Tensor) -> list[Tensor]:
        grid = [side // self.strides[-1] for side in x.shape[2:]]
        cells = split_cells(x, self.strides[-1], self.spatial_dims)  # (B, N, C, g, g)
        return [self.gain * cells.flatten(2).transpose(1, 2).unflatten(2, grid)]


class ReadsCellNumber(nn.Module):
    """Order head that reads cell numbers from gray levels and predicts them with near certainty."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, tokens: Tensor) -> Tensor:
        number = tokens.mean(2).round().long()
        return 100.0 * torch.nn.functional.one_hot(number, self.cells)


@pytest.fixture
def cell_backbone() -> Callable[..., CellBackbone]:
    """Factory of backbones that return the pixels of each cell."""
    return CellBackbone


@pytest.fixture
def reads_cell_number() -> Callable[[int], ReadsCellNumber]:
    """Factory of order heads for images made by ``numbered``."""
    return ReadsCellNumber


@pytest.fixture
def numbered() -> Callable[..., Tensor]:
    """Factory of images (1, H, W) with the row-major number of its cell in each pixel."""

    def make(grid: tuple[int, ...], cell_size: int = 4) -> Tensor:
        count = int(torch.tensor(grid).prod())
        sides = (1, *[cell_size] * len(grid))
        cells = torch.arange(float(count)).view(-1, 1, *[1] * len(grid)).expand(-1, *sides)  # (N, 1, g, g)
        return join_cells(cells.contiguous(), grid)

    return make


def _one_step(method: SSLMethod, batch: Mapping[str, Any]) -> None:
    weights, method = method.loss_weights, method.eval()

    def loss() -> Tensor:
        return sum(weights[name] * term for name, term in method(batch, Progress(0, 1, 0, 1)).items())

    optimizer = torch.optim.AdamW(method.param_groups(0.0), lr=1e-4)
    before = loss()
    before.backward()
    optimizer.step()
    assert torch.isfinite(before)
    assert loss() < before


@pytest.fixture
def one_step() -> Callable[[SSLMethod, Mapping[str, Any]], None]:
    """Asserts that one small step on a batch reduces its loss."""
    return _one_step


def _resumes_exactly(make: Callable[[], SSLTrainer], cut: int, steps: int) -> None:
    straight, first, second = (make() for _ in range(3))
    straight.run()
    first.add_event_handler(Events.ITERATION_COMPLETED(once=cut), lambda engine: engine.terminate())
    first.run()
    assert first.state.iteration == cut
    second.load_training_state(copy.deepcopy(first.training_state()))
    second.run()
    expected, got = straight.training_state(), second.training_state()
    assert got["step"] == expected["step"] == steps
    for name, value in expected["method"].items():
        assert torch.equal(got["method"][name], value), name
    assert got["optimizers"].keys() == expected["optimizers"].keys()
    for name in expected["optimizers"]:
        one, two = (state["optimizers"][name]["state"] for state in (expected, got))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[k][n], two[k][n]) for k in one for n in one[k] if isinstance(one[k][n], Tensor))


@pytest.fixture
def resumes_exactly() -> Callable[[Callable[[], SSLTrainer], int, int], None]:
    """Asserts that an interrupted and resumed run equals an uninterrupted one bit for bit."""
    return _resumes_exactly


@pytest.fixture
def ct(real_data: Path) -> Callable[[int], Tensor]:
    """Factory of a real CT (1, side, side, side) in [0, 1]."""

    def make(side: int) -> Tensor:
        volume = LoadImage(image_only=True, ensure_channel_first=True)(real_data / "vol3d" / "ct_small_3mm.nii.gz")
        return (Resize((side,) * 3)(volume.clip(-1000, 1000)) + 1000) / 2000

    return make
