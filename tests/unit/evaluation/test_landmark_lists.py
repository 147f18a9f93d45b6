"""Landmarks of lists, masks and contour files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_anat.data import DatalistError, load_datalist
from monai_anat.evaluation import contour_datalist, landmark_lists
from monai_anat.evaluation.landmark_lists import from_image, load_landmarks, read_contour, to_image


def test_written_landmarks_keep_their_places(lungs, tmp_path) -> None:
    image = lungs["test"][0]["image"]
    content = {
        "test": [
            {
                "image": image,
                "patient": "a",
                "landmarks": {"right apex": [3, 4.5], "carina": [20, 24]},
                "thorax_width": 30,
            },
            {"image": image, "landmarks": {"left apex": [3, 40], "carina": [21, 24]}},
        ]
    }
    (tmp_path / "list.json").write_text(json.dumps(content))
    found = load_landmarks(load_datalist(tmp_path / "list.json", "test"))
    assert found.names == ("right apex", "carina", "left apex")
    assert found.mirror.tolist() == [2, 1, 0]
    assert found.points[0, 0].tolist() == [3, 4.5]
    assert np.isnan(found.points[0, 2]).all()
    np.testing.assert_array_equal(found.widths, [30, np.nan])
    assert np.isnan(found.spacings).all()
    assert found.notes == ("2 of 6 landmarks are absent or cut off by the image border.",)


def test_masks_give_lung_landmarks_and_their_width(lungs) -> None:
    found = load_landmarks(lungs["test"])
    assert found.points.shape == (4, 6, 2)
    assert found.widths.tolist() == [27.0] * 4
    assert found.names[0] == "right apex"


def test_files_are_read_once_until_they_change(lungs, tmp_path, monkeypatch) -> None:
    item = {name: str(tmp_path / Path(lungs["test"][0][name]).name) for name in ("image", "label")}
    for name, path in item.items():
        shutil.copyfile(lungs["test"][0][name], path)
    seen = []
    read = landmark_lists.read_radiograph
    monkeypatch.setattr(landmark_lists, "read_radiograph", lambda path: (seen.append(path), read(path))[1])
    first, again = load_landmarks([item]), load_landmarks([item])
    assert len(seen) == 1
    np.testing.assert_array_equal(first.points, again.points)
    again.points[:] = 0
    Image.fromarray(np.array(Image.open(item["label"]))[::-1]).save(item["label"])
    Image.open(item["image"]).save(item["image"])
    turned = load_landmarks([item])
    assert len(seen) == 2
    assert not np.allclose(turned.points, first.points, equal_nan=True)


def test_spacing_is_read_from_the_file(tmp_path) -> None:
    image = Image.fromarray(np.zeros((20, 20), np.uint8))
    image.save(tmp_path / "a.png", dpi=(254, 254))
    found = load_landmarks([{"image": str(tmp_path / "a.png"), "landmarks": {"a": [1, 2]}}])
    assert found.spacings.shape == (1, 2)


def test_bad_landmarks_are_named(lungs, tmp_path) -> None:
    image = lungs["test"][0]["image"]
    with pytest.raises(DatalistError, match="'apex' must lie inside its image, got row 48, column 3 in an image of 48"):
        load_landmarks([{"image": image, "landmarks": {"apex": [48, 3]}}])
    with pytest.raises(DatalistError, match=r"must be \[row, column\], got 7"):
        load_landmarks([{"image": image, "landmarks": {"apex": 7}}])
    with pytest.raises(DatalistError, match=r"'landmarks' must be names with their \[row, column\], got \[\[1, 2\]\]"):
        load_landmarks([{"image": image, "landmarks": [[1, 2]]}])
    for width in (0, -3, "wide", float("inf")):
        with pytest.raises(DatalistError, match="thorax_width must be a positive number of pixels, got"):
            load_landmarks([{"image": image, "landmarks": {"apex": [3, 3]}, "thorax_width": width}])
    upright = {"right lateral extreme": [3, 9], "left lateral extreme": [20, 9]}
    assert np.isnan(load_landmarks([{"image": image, "landmarks": upright}]).widths).all(), "no width, no errors in it"
    with pytest.raises(DatalistError, match="every item must have 'landmarks', or 'label'"):
        load_landmarks([{"image": image, "label": 1}])
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(tmp_path / "empty.png")
    with pytest.raises(DatalistError, match="at least one landmark, got none in 1 images: the masks are empty"):
        load_landmarks([{"image": image, "label": str(tmp_path / "empty.png")}])
    with_empty = [lungs["test"][1], {"image": image, "label": str(tmp_path / "empty.png")}]
    assert load_landmarks(with_empty).notes[0].startswith("1 images show no landmark at all")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(DatalistError, match="must have the size of its image"):
        load_landmarks([{"image": image, "label": str(tmp_path / "small.png")}])


def test_square_pixels_and_back() -> None:
    points = np.array([[0.0, 0.0], [19.5, 49.5], [39.0, 99.0]])
    square = to_image(points, (40, 100), 80)
    assert square[1].tolist() == [39.5, 39.5]
    np.testing.assert_allclose(from_image(square, (40, 100), 80), points)


@pytest.mark.parametrize("suffix", [".npy", ".json", ".txt", ".csv", ".pts"])
def test_contours_of_every_kind(suffix, tmp_path) -> None:
    points = np.array([[10.5, 20.0], [-1e1, 3.0]])
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, points)
    elif suffix == ".json":
        path.write_text(json.dumps(points.tolist()))
    else:
        separator = ", " if suffix == ".csv" else " "
        rows = [separator.join(str(value) for value in row) for row in points]
        path.write_text("\n".join(["version: 1", "{", *rows, "}"]))
    assert read_contour(path).tolist() == points[:, ::-1].tolist()
    assert read_contour(path, order="rc").tolist() == points.tolist()


def test_contours_become_landmarks_of_the_images_size(lungs, tmp_path) -> None:
    item = lungs["test"][0]
    name = item["image"].rsplit("/", 1)[-1].removesuffix(".png")
    for structure in ("right lung", "left lung"):
        (tmp_path / structure).mkdir()
        np.save(tmp_path / structure / f"{name}.npy", np.array([[95.5, 47.5], [1.5, 3.5]]))
    folders = {structure: tmp_path / structure for structure in ("right lung", "left lung")}
    found = contour_datalist([item], folders, points={"left lung": [1]}, annotated_size=(96, 192))[0]["landmarks"]
    assert list(found) == ["right lung 0", "right lung 1", "left lung 1"]
    assert found["right lung 0"] == [23.5, 23.5]
    assert found["left lung 1"] == pytest.approx([1.5, 0.0])
    assert load_landmarks(contour_datalist([item], folders, annotated_size=(96, 192))).mirror.tolist() == [2, 3, 0, 1]
    with pytest.raises(DatalistError, match="must have point 5, got 2 points"):
        contour_datalist([item], folders, points={"left lung": [5]})
    with pytest.raises(DatalistError, match="must exist"):
        contour_datalist([lungs["test"][1]], folders)


def test_points_keep_their_places_when_one_is_missing(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("n_points: 3\n{\n10 20\nnan nan\n30 40\n}\n")
    points = read_contour(tmp_path / "a.txt")
    np.testing.assert_array_equal(points, [[20, 10], [np.nan, np.nan], [40, 30]])
    item = {"image": str(tmp_path / "a.png")}
    (found,) = contour_datalist([item], {"right lung": tmp_path}, suffix=".txt")
    assert found["landmarks"] == {"right lung 0": [20, 10], "right lung 2": [40, 30]}
    assert found["thorax_width"] == 20
    assert "thorax_width" not in contour_datalist([item], {"heart": tmp_path}, suffix=".txt")[0]
    (tmp_path / "a.txt").write_text("10 20\n,\n30 40\n")
    with pytest.raises(DatalistError, match="two numbers in line 2, got ','; write 'nan nan'"):
        read_contour(tmp_path / "a.txt")
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "a.json").write_text("{")
    for name in ("a.npy", "a.json"):
        with pytest.raises(DatalistError, match=f"{name} must hold points of two numbers each, and nothing else"):
            read_contour(tmp_path / name)


def test_masks_that_do_not_tell_the_lungs_apart_are_named(lungs, tmp_path) -> None:
    for value, sentence in (
        (255, r"0, 1 \(right lung\) and 2 \(left lung\), got \[0, 255\]"),
        (1, "show the left lung"),
    ):
        path = tmp_path / f"{value}.png"
        Image.fromarray((np.array(Image.open(lungs["test"][0]["label"])) > 0).astype(np.uint8) * value).save(path)
        with pytest.raises(DatalistError, match=sentence):
            load_landmarks([{**lungs["test"][0], "label": str(path)}])


def test_files_without_points_are_named(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("nothing")
    with pytest.raises(DatalistError, match="must hold points of two numbers each"):
        read_contour(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="order must be 'xy' or 'rc', got 'yx'"):
        read_contour(tmp_path / "a.txt", order="yx")
