"""Base class of views transforms: plain tensors, normalization, labels of any form, error messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_anat import methods
from monai_anat.data import SeededDataset, resumable_loader
from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.methods import RandViewsd


class Whole(RandViewsd):
    """The whole image, normalized, with one random number."""

    def __init__(self, keys: Any = "image", mean: float = CHEST_MEAN, std: float = CHEST_STD) -> None:
        super().__init__(keys, mean, std)
        self.drawn = 0.0

    def randomize(self, data: Any = None) -> None:
        self.drawn = self.R.random_sample()

    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        self.randomize()
        return {"view_1": self.normalize(pixels), "drawn": torch.tensor(self.drawn)}


CODES = np.random.RandomState(0).randint(0, 256, (1, 6, 5)).astype(np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        CODES,
        torch.from_numpy(CODES),
        MetaTensor(torch.from_numpy(CODES)),
        CODES.astype(np.uint16) * 257,
        CODES.astype(np.float32) / 255,
        CODES.astype(np.float64) / 255,
        torch.from_numpy(CODES).float() / 255,
        np.asfortranarray(CODES)[:, ::-1][:, ::-1],
    ],
    ids=["uint8", "tensor", "metatensor", "uint16", "float32", "float64", "float tensor", "odd strides"],
)
def test_every_kind_of_image_gives_the_same_plain_view(image: Any) -> None:
    view = Whole()({"image": image})["view_1"]
    assert type(view) is Tensor
    assert view.dtype == torch.float32
    expected = (torch.from_numpy(CODES).double() / 255 - 0.5056) / 0.252
    torch.testing.assert_close(view, expected.float(), rtol=0, atol=1e-6)


def test_the_item_holds_the_views_alone() -> None:
    sample = {"image": CODES, "patient": "7", "label": 3, "image_meta_dict": {"spacing": None}}
    before = dict(sample)
    assert set(Whole()(sample)) == {"view_1", "drawn"}
    assert sample == before


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_image_is_not_changed_and_not_shared(dtype: type) -> None:
    image = (CODES if dtype is np.uint8 else CODES / 255).astype(dtype)
    before = image.copy()
    Whole()({"image": image})["view_1"].zero_()
    np.testing.assert_array_equal(image, before)


def test_a_read_only_memory_map_is_taken(tmp_path: Any) -> None:
    np.save(tmp_path / "image.npy", CODES)
    image = np.load(tmp_path / "image.npy", mmap_mode="r")
    assert Whole()({"image": image})["view_1"].shape == (1, 6, 5)


def test_draws_come_from_the_own_generator_alone() -> None:
    values = [float(Whole().set_random_state(seed)({"image": CODES})["drawn"]) for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]
    np.random.seed(0)  # noqa: NPY002  the global generator must not matter
    assert float(Whole().set_random_state(1)({"image": CODES})["drawn"]) == values[0]


def test_normalization_is_an_argument() -> None:
    view = Whole(mean=0.0, std=0.5)({"image": np.ones((1, 2, 2), np.float32)})["view_1"]
    assert view.tolist() == [[[2.0, 2.0], [2.0, 2.0]]]


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"keys must be the one key .* got \('image', 'label'\)"):
        Whole(keys=("image", "label"))
    with pytest.raises(ValueError, match=r"std must be positive, got 0"):
        Whole(std=0)
    with pytest.raises(KeyError, match=r"sample has no .*; it holds .*label.*Load the image under"):
        Whole()({"label": 1})
    with pytest.raises(ValueError, match=r"image must be \(C, H, W\).*got \(6, 5\); EnsureChannelFirstd"):
        Whole()({"image": CODES[0]})
    with pytest.raises(TypeError, match=r"img must be uint8, uint16 or floating point, got torch.int64"):
        Whole()({"image": CODES.astype(np.int64)})


#: a public views transform, small enough for seconds; those without an entry take the arguments of ``SMALL``
SMALL = {"image_size": 16}
OPTIONS: dict[str, dict[str, Any]] = {
    "RandACEViewsd": {"grid_size": 4, "cell_size": 4, "source_grid": 10},
    "RandAdamV2Viewsd": {"image_size": 16, "local_size": 8, "stages": (("L", 0), ("LCD", 0)), "border": 2},
    "RandAdamViewsd": {"image_size": 16, "levels": (0, 2)},
    "RandBEiTViewsd": {"image_size": 16, "cell_size": 4, "min_cells": 2},
    "RandDINOViewsd": {"image_size": 16, "local_size": 8, "local_crops": 2},
    "RandLampsViewsd": {"grid_size": 4, "cell_size": 4, "margin": 1, "kept": 3},
    "RandMAEViewsd": {"image_size": 16, "cell_size": 4},
    "RandMaskedViewsd": {"image_size": 16, "cell_size": 4},
    "RandPEACViewsd": {"grid_size": 4, "cell_size": 4, "margin": 1},
    "RandPLACEViewsd": {"grid_size": 4, "cell_size": 4, "margin": 1},
    "RandPOPARViewsd": {"grid_size": 12, "cell_size": 4},
}
VIEWS = sorted(name for name in methods.__all__ if name.endswith("Viewsd") and name != "RandViewsd")

#: the same key in other forms in each item, as lists of public data sets have it
LABELS: list[dict[str, Any]] = [
    {"label": [1.0, 0.0, 1.0], "age": 61, "mask": "a.png", "findings": ["Effusion", "Mass"], "view": None},
    {"label": [0.0], "age": "unknown", "findings": "No finding", "patient": {"id": 7}},
    {"label": None, "age": None, "findings": [], "boxes": np.zeros((2, 4)), "view": "PA"},
    {"findings": [{"name": "Mass"}], "age": float("nan"), "boxes": np.zeros((5, 4))},
]


@pytest.mark.parametrize("phase", [None, 1], ids=["no phase", "phase 1"])
@pytest.mark.parametrize("name", VIEWS)
def test_labels_that_differ_in_form_pass_the_real_loader(name: str, phase: int | None) -> None:
    transform = getattr(methods, name)(**OPTIONS.get(name, SMALL))
    images = np.random.RandomState(0).randint(0, 256, (4, 1, 48, 48)).astype(np.uint8)
    items = [{"image": image, **labels} for image, labels in zip(images, LABELS, strict=True)]
    dataset = SeededDataset(items, transform, phase=None if phase is None else lambda epoch: phase)
    batch = next(iter(resumable_loader(dataset, batch_size=4, seed=0, num_workers=0)))
    assert not set(batch) & {key for labels in LABELS for key in labels} - {
        "mask"
    }  # the masked methods have a mask of their own
    assert sorted(batch["index"].tolist()) == [0, 1, 2, 3]
    assert all(isinstance(value, Tensor) and len(value) == 4 for value in batch.values())
