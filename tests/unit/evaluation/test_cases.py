"""Labeled images in memory."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_anat.data import DatalistError
from monai_anat.evaluation import load_cases


def test_pixels_labels_and_names_belong_together(lungs) -> None:
    cases = load_cases(lungs["test"], 48)
    assert cases.images.shape == (4, 1, 48, 48)
    assert cases.labels.dtype == torch.uint8
    for index, item in enumerate(lungs["test"]):
        assert np.array_equal(cases.labels[index].numpy(), np.asarray(Image.open(item["label"])))
        assert np.allclose(cases.images[index, 0].numpy() * 255, np.asarray(Image.open(item["image"])), atol=0.5)
    assert cases.patients == ("test-0", "test-1", "test-2", "test-3")


def test_resizing_keeps_classes_and_places(lungs) -> None:
    small, full = load_cases(lungs["test"], 24), load_cases(lungs["test"], 48)
    assert set(small.labels.unique().tolist()) == {0, 1, 2}
    share = [(cases.labels == 1).float().mean() for cases in (small, full)]
    assert abs(share[0] - share[1]) < 0.02


def test_take_follows_the_names(lungs) -> None:
    cases = load_cases(lungs["training"], 24)
    chosen = cases.take([cases.names[3], cases.names[0]])
    assert torch.equal(chosen.images, cases.images[[3, 0]])
    assert chosen.patients == ("training-3", "training-0")
    with pytest.raises(KeyError, match=r"got 'x.png'; there are 6 files"):
        cases.take(["x.png"])


def test_files_of_one_name_are_told_apart(lungs, tmp_path) -> None:
    items = []
    for item, folder in zip(lungs["training"], "abc", strict=False):
        (tmp_path / folder).mkdir()
        image = tmp_path / folder / "frontal.png"
        image.write_bytes(Path(item["image"]).read_bytes())
        items.append({"image": str(image), "label": item["label"]})
    cases = load_cases(items, 24)
    assert len(set(cases.patients)) == 3
    assert torch.equal(cases.take([str(tmp_path / "b" / "frontal.png")]).images[0], cases.images[1])


def test_pixels_of_the_square_have_their_millimeters(lungs, tmp_path) -> None:
    image, mask = np.zeros((40, 60), np.float32), np.zeros((40, 60), np.uint8)
    image[10:, 20:], mask[10:30, 20:40] = 1, 1
    nibabel.save(nibabel.Nifti1Image(image.T[..., None], np.diag([-0.3, -0.6, 1, 1])), tmp_path / "a.nii.gz")
    Image.fromarray(mask).save(tmp_path / "a.png")
    known = {"image": str(tmp_path / "a.nii.gz"), "label": str(tmp_path / "a.png")}
    cases = load_cases([known, lungs["test"][0]], 24)
    np.testing.assert_allclose(cases.spacings[0], [40 * 0.6 / 24, 60 * 0.3 / 24], rtol=1e-5)
    assert np.isnan(cases.spacings[1]).all()


def test_bad_lists_are_named(lungs, tmp_path) -> None:
    with pytest.raises(DatalistError, match="at least one item"):
        load_cases([], 24)
    with pytest.raises(DatalistError, match="every item must have a 'label'"):
        load_cases([{"image": lungs["test"][0]["image"]}], 24)
    odd = tmp_path / "odd.png"
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(odd)
    with pytest.raises(DatalistError, match=r"odd.png must have the size of its image .* got 10 x 12"):
        load_cases([{**lungs["test"][0], "label": str(odd)}], 24)
