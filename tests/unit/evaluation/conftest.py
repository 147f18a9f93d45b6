"""Images and encoders with known results."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from monai_anat.evaluation import FrozenEncoder
from monai_anat.networks import Backbone

SIDE = 48


class GrayBands(Backbone):
    """Encoder of the gray levels of the synthetic images: one channel per level."""

    def __init__(self, *, knows: bool = True) -> None:
        super().__init__({"knows": knows}, spatial_dims=2, in_channels=1, channels=(4, 4), strides=(2, 4))
        self.knows = knows
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward_features(self, x: Tensor) -> list[Tensor]:
        bands = torch.exp(-((x - torch.tensor([0.0, 0.3, 0.6, 1.0]).reshape(1, 4, 1, 1)) ** 2) / 0.02)
        bands = bands if self.knows else torch.zeros_like(bands)
        maps = [torch.nn.functional.avg_pool2d(bands, size) for size in (2, 4)]
        return [feature_map * self.weight for feature_map in maps]


class Coordinates(Backbone):
    """Features of the position relative to the bright square, so that correspondence is exact."""

    def __init__(self, *, cells: int = 12) -> None:
        super().__init__({"cells": cells}, spatial_dims=2, in_channels=1, channels=(2 * cells,), strides=(4,))
        self.cells = cells

    def forward_features(self, x: Tensor) -> list[Tensor]:
        size = x.shape[-1] // 4
        mass = x.clamp(min=0)
        line = torch.arange(x.shape[-1]) + 0.5
        total = mass.sum((1, 2, 3))
        center = [(mass.sum((1, 5 - axis)) * line).sum(1) / total / 4 for axis in (2, 3)]
        here = torch.arange(size) + 0.5
        bands = torch.linspace(-size, size, self.cells)
        maps = []
        for axis, middle in zip((2, 3), center, strict=True):
            along = torch.exp(-((here[None, :, None] - middle[:, None, None] - bands) ** 2) / 8).movedim(
                2, 1
            )  # (B, K, n)
            shape = (len(x), self.cells, size, 1) if axis == 2 else (len(x), self.cells, 1, size)
            maps.append(along.reshape(shape).expand(-1, -1, size, size))
        return [torch.cat(maps, dim=1)]


class Place(Backbone):
    """Features of the position in the image, independent of its content."""

    def __init__(self) -> None:
        super().__init__({}, spatial_dims=2, in_channels=1, channels=(288,), strides=(4,))
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward_features(self, x: Tensor) -> list[Tensor]:
        rows, columns = (torch.arange(side // 4) for side in x.shape[2:])
        cells = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2).float()
        near = torch.exp(-((cells[:, None] - cells[None]) ** 2).sum(2) / 4)  # (cells, cells)
        features = near.T.reshape(1, len(cells), len(rows), len(columns))
        return [features.expand(len(x), -1, -1, -1) * self.weight]


class Constant(Backbone):
    """Collapsed encoder: the same vector everywhere."""

    def __init__(self) -> None:
        super().__init__({}, spatial_dims=2, in_channels=1, channels=(8,), strides=(4,))
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward_features(self, x: Tensor) -> list[Tensor]:
        return [torch.ones(len(x), 8, x.shape[2] // 4, x.shape[3] // 4) * self.weight]


class Noise(Backbone):
    """Random features with the image content as seed: uninformative, and reproducible for each image."""

    def __init__(self) -> None:
        super().__init__({}, spatial_dims=2, in_channels=1, channels=(32,), strides=(4,))
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward_features(self, x: Tensor) -> list[Tensor]:
        maps = []
        for image in x:
            seed = int((image.double().flatten() * torch.arange(1, image.numel() + 1)).sum().abs() * 1e3) % 2**31
            generator = torch.Generator().manual_seed(seed)
            maps.append(torch.randn(32, x.shape[2] // 4, x.shape[3] // 4, generator=generator))
        return [torch.stack(maps) * self.weight]


class Gray(Backbone):
    """The mean gray level of each cell, and twice the mean: linear in the image."""

    def __init__(self) -> None:
        super().__init__({}, spatial_dims=2, in_channels=1, channels=(2,), strides=(4,))
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward_features(self, x: Tensor) -> list[Tensor]:
        mean = torch.nn.functional.avg_pool2d(x, 4)
        return [torch.cat([mean, 2 * mean], dim=1) * self.weight]


def frozen(backbone: Backbone, **settings) -> FrozenEncoder:
    """Wrap a backbone without normalization."""
    return FrozenEncoder(backbone, **{"image_size": SIDE, "mean": 0.0, "std": 1.0, **settings})


@pytest.fixture(scope="session")
def oracles() -> SimpleNamespace:
    """Frozen encoders with known results."""
    kinds = {"place": Place, "constant": Constant, "noise": Noise, "gray": Gray, "bands": GrayBands}
    return SimpleNamespace(frozen=frozen, **{name: lambda k=kind: frozen(k()) for name, kind in kinds.items()})


@pytest.fixture(scope="session")
def ramps(tmp_path_factory):
    """Images with gray levels linear in the position, each with its own slopes."""
    folder = tmp_path_factory.mktemp("ramps")
    items = []
    for number in range(6):
        slope = np.random.default_rng(number).uniform(0.5, 1.5, size=2)
        rows, columns = np.mgrid[:96, :120]
        image = (20 + slope[0] * rows + 0.8 * slope[1] * columns).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png")
        items.append({"image": str(folder / f"{number}.png"), "patient": f"p{number}"})
    return items


@pytest.fixture(scope="session")
def gray_bands() -> type[Backbone]:
    return GrayBands


@pytest.fixture(scope="session")
def gray() -> type[Backbone]:
    return Gray


@pytest.fixture(scope="session")
def coordinates() -> type[Backbone]:
    return Coordinates


@pytest.fixture(scope="session")
def lungs(tmp_path_factory):
    """Three splits of images with two gray rectangles at varying places: right 0.3, left 0.6, on black."""
    folder = tmp_path_factory.mktemp("lungs")
    generator = np.random.default_rng(0)
    splits: dict[str, list[dict[str, str]]] = {"training": [], "validation": [], "test": []}
    for split, count in (("training", 6), ("validation", 3), ("test", 4)):
        for number in range(count):
            mask = np.zeros((SIDE, SIDE), np.uint8)
            top, left = generator.integers(3, 16, size=2)
            mask[top : top + 24, left : left + 10] = 1
            mask[top + 2 : top + 26, left + 16 : left + 28] = 2
            image = np.choose(mask, [0, 77, 153]).astype(np.uint8)
            paths = [folder / f"{split}_{number}{ending}.png" for ending in ("", "_mask")]
            for path, pixels in zip(paths, (image, mask), strict=True):
                Image.fromarray(pixels).save(path)
            patient = f"{split}-{number}"
            splits[split].append({"image": str(paths[0]), "label": str(paths[1]), "patient": patient})
    return splits


@pytest.fixture(scope="session")
def picture_folder(lungs) -> Path:
    return Path(lungs["test"][0]["image"]).parent
