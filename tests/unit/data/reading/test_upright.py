from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from PIL import Image

from monai_anat.data import OrientRadiographd, RadiographReader, radiograph_preprocessing, synthetic_radiograph
from monai_anat.data.reading.orientation import Turn, undo_turn
from monai_anat.data.reading.radiograph import decode
from monai_anat.data.reading.raster import EXIF_TURNS
from monai_anat.data.reading.resizing import ResizeRadiographd
from monai_anat.data.reading.scaling import ScaleRadiographd
from monai_anat.data.reading.upright import OrientRadiograph

pytestmark = [
    pytest.mark.filterwarnings("ignore:builtin type .*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:PydicomReader:UserWarning"),
]


def _image(shape: tuple[int, ...], affine: np.ndarray, name: str = "a.png") -> MetaTensor:
    values = torch.arange(float(np.prod(shape))).reshape(shape)
    return MetaTensor(values, affine=torch.as_tensor(affine), meta={"filename_or_obj": name})


@pytest.mark.parametrize(
    "affine",
    [np.eye(4), np.diag([-0.2, -0.3, 1, 1]), np.array([[-1.0, 0, 0, 3], [0, 1, 0, 4], [0, 0, 1, 0], [0, 0, 0, 1]])],
)
@pytest.mark.parametrize("shape", [(1, 4, 6), (1, 4, 6, 1), (1, 4, 1, 6)])
def test_turning_can_be_undone(affine: np.ndarray, shape: tuple[int, ...]) -> None:
    if shape == (1, 4, 1, 6):
        affine = affine[:, [0, 2, 1, 3]]
    image = _image(shape, affine)
    before = image.clone()
    for order in ("rows", "columns"):
        turn = OrientRadiograph(order)
        out = turn(image)
        assert out.shape == ((1, 6, 4) if order == "rows" else (1, 4, 6))
        back = turn.inverse(out)
        assert torch.equal(back.as_tensor(), image.as_tensor()) and torch.equal(back.affine, image.affine)
        assert back.applied_operations == []
    assert torch.equal(image, before) and image.applied_operations == []


def test_plain_tensors_and_unmarked_metatensors_are_rows_and_columns_already() -> None:
    plain = torch.arange(6.0).reshape(1, 2, 3)
    assert torch.equal(OrientRadiograph()(plain), plain)
    assert torch.equal(OrientRadiograph()(MetaTensor(plain)).as_tensor(), plain)
    npy = MetaTensor(plain, meta={"filename_or_obj": "a.npy"})
    assert torch.equal(OrientRadiograph()(npy).as_tensor(), plain)


def test_colors_become_gray_and_volumes_are_refused() -> None:
    color = torch.full((1, 4, 5, 3), 7.0)
    assert OrientRadiograph()(color).shape == (1, 4, 5)
    with pytest.raises(ValueError, match="a radiograph must have shape"):
        OrientRadiograph()(torch.zeros(1, 4, 5, 9))
    with pytest.raises(ValueError, match="order must be"):
        OrientRadiograph("diagonal")


@pytest.mark.parametrize("reader", ["PILReader", "ITKReader"])
def test_columns_order_is_what_monai_writes(tmp_path: Path, reader: str) -> None:
    pixels = np.round(synthetic_radiograph((24, 20))[0] * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    loaded = LoadImage(reader, image_only=True)(tmp_path / "a.png")[None]
    upright = OrientRadiographd("image")({"image": loaded})["image"]
    np.testing.assert_array_equal(upright[0].numpy(), pixels)
    again = OrientRadiographd("image", order="columns")({"image": upright})["image"]
    np.testing.assert_array_equal(again[0].numpy(), pixels.T)
    assert torch.equal(again.affine, torch.diag(torch.tensor([-1.0, -1, 1, 1], dtype=torch.float64)))


def test_nifti_of_a_foreign_reader(tmp_path: Path) -> None:
    pixels = np.round(synthetic_radiograph((24, 20))[0] * 255).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(pixels.T[..., None], np.eye(4)), tmp_path / "a.nii.gz")
    loaded = LoadImage("NibabelReader", image_only=True)(tmp_path / "a.nii.gz")[None]
    np.testing.assert_array_equal(OrientRadiograph()(loaded)[0].numpy(), pixels)


@pytest.mark.parametrize(
    "transform", [OrientRadiographd("image"), ScaleRadiographd("image"), ResizeRadiographd("image", 8)]
)
def test_picklable_and_pure(transform: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    item = {"image": _image((1, 16, 20), np.eye(4))}
    before = item["image"].clone()
    first = transform(item)["image"]
    second = pickle.loads(pickle.dumps(transform))(item)["image"]
    assert torch.equal(first, second) and torch.equal(item["image"], before)


TURNS_OF_EXIF = sorted(EXIF_TURNS.items())


def _drawn() -> tuple[np.ndarray, np.ndarray]:
    """A chest and its lungs, higher than wide and larger on one side."""
    pixels, labels = synthetic_radiograph((48, 40))
    labels[:20] = np.where(labels[:20] == 2, 0, labels[:20])
    return np.round(pixels * 255).astype(np.uint8), labels


def _dice(first: torch.Tensor, second: torch.Tensor, number: int) -> float:
    a, b = first == number, second == number
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def _agrees(image: Path, mask: Path | list[Path], upright: Path, upright_mask: Path) -> None:
    chain = radiograph_preprocessing(40, label_key="label", crop=False)
    expected = chain({"image": str(upright), "label": str(upright_mask)})
    paths = [str(path) for path in mask] if isinstance(mask, list) else str(mask)
    loaded = chain({"image": str(image), "label": paths})
    assert loaded["label"].shape == loaded["image"].shape
    assert [_dice(loaded["label"], expected["label"], number) for number in (1, 2)] == [1, 1], (image.name, mask)
    assert (loaded["image"] - expected["image"]).abs().max() < 0.2


@pytest.fixture
def upright(tmp_path: Path) -> tuple[Path, Path]:
    pixels, labels = _drawn()
    Image.fromarray(pixels).save(tmp_path / "upright.png")
    Image.fromarray(labels).save(tmp_path / "upright_mask.png")
    return tmp_path / "upright.png", tmp_path / "upright_mask.png"


@pytest.mark.parametrize(("code", "turn"), TURNS_OF_EXIF)
def test_masks_turn_with_images_that_have_an_exif_tag(
    tmp_path: Path, upright: tuple[Path, Path], code: int, turn: Turn
) -> None:
    pixels, labels = _drawn()
    exif = Image.Exif()
    exif[274] = code
    for name, options in (("a.jpg", {"quality": 98}), ("a.png", {}), ("a.tif", {"compression": "tiff_deflate"})):
        Image.fromarray(undo_turn(pixels, turn)).save(tmp_path / name, exif=exif, **options)
        Image.fromarray(undo_turn(labels, turn)).save(tmp_path / "mask.png")
        _agrees(tmp_path / name, tmp_path / "mask.png", *upright)
        Image.fromarray(undo_turn(labels, turn)).save(tmp_path / "own.png", exif=exif)
        _agrees(tmp_path / name, tmp_path / "own.png", *upright)
        nibabel.save(nibabel.Nifti1Image(undo_turn(labels, turn).T.copy(), np.eye(4)), tmp_path / "mask.nii.gz")
        _agrees(tmp_path / name, tmp_path / "mask.nii.gz", *upright)
        for number in (1, 2):
            Image.fromarray((undo_turn(labels, turn) == number).astype(np.uint8) * 255).save(tmp_path / f"{number}.png")
        _agrees(tmp_path / name, [tmp_path / "1.png", tmp_path / "2.png"], *upright)
    if turn.transpose:  # drawn by a tool that turned the image
        _agrees(tmp_path / "a.jpg", upright[1], *upright)


@pytest.mark.parametrize("orientation", [["L", "F"], ["R", "F"], ["L", "H"], ["R", "H"], ["F", "L"], ["H", "R"]])
def test_masks_turn_with_dicom_files_that_have_a_patient_orientation(
    tmp_path: Path, upright: tuple[Path, Path], make_dicom: Callable[..., Path], orientation: list[str]
) -> None:
    pixels, labels = _drawn()
    make_dicom(tmp_path / "probe.dcm", pixels, PatientOrientation=orientation)
    turn = decode(tmp_path / "probe.dcm").turn
    image = make_dicom(tmp_path / "a.dcm", undo_turn(pixels, turn), PatientOrientation=orientation)
    Image.fromarray(undo_turn(labels, turn)).save(tmp_path / "mask.png")
    make_dicom(tmp_path / "mask.dcm", undo_turn(labels, turn))
    make_dicom(tmp_path / "own.dcm", undo_turn(labels, turn), PatientOrientation=orientation)
    for mask in ("mask.png", "mask.dcm", "own.dcm"):
        _agrees(image, tmp_path / mask, *upright)


@pytest.mark.parametrize("signs", [(-1, -1), (1, -1), (-1, 1), (1, 1)])
def test_masks_turn_with_volumes(tmp_path: Path, upright: tuple[Path, Path], signs: tuple[int, int]) -> None:
    pixels, labels = _drawn()
    flips = (slice(None, None, -signs[1]), slice(None, None, -signs[0]))
    affine = np.diag([0.2 * signs[0], 0.2 * signs[1], 1, 1.0])
    affine[:2, 3] = 3, 4
    nibabel.save(nibabel.Nifti1Image(pixels[flips].T.copy(), affine), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels[flips].T.copy(), affine), tmp_path / "own.nii.gz")
    Image.fromarray(labels[flips]).save(tmp_path / "mask.png")
    for mask in ("own.nii.gz", "mask.png"):
        _agrees(tmp_path / "a.nii.gz", tmp_path / mask, *upright)


def test_masks_of_foreign_readers_follow_the_image(tmp_path: Path) -> None:
    pixels, labels = _drawn()
    exif = Image.Exif()
    exif[274] = 6
    turn = EXIF_TURNS[6]
    Image.fromarray(undo_turn(pixels, turn)).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(undo_turn(labels, turn)).save(tmp_path / "mask.png")
    np.save(tmp_path / "mask.npy", undo_turn(labels, turn))
    for reader, name in (("PILReader", "mask.png"), ("ITKReader", "mask.png"), ("NumpyReader", "mask.npy")):
        item = {
            "image": LoadImage(RadiographReader, image_only=True)(tmp_path / "a.png")[None],
            "label": LoadImage(reader, image_only=True)(tmp_path / name)[None],
        }
        label = OrientRadiographd(["image", "label"])(item)["label"]
        np.testing.assert_array_equal(label[0].numpy(), labels, err_msg=reader)


def test_image_and_mask_return_to_the_stored_picture(tmp_path: Path) -> None:
    pixels, labels = _drawn()
    exif = Image.Exif()
    exif[274] = 8
    stored = undo_turn(labels, EXIF_TURNS[8])
    Image.fromarray(undo_turn(pixels, EXIF_TURNS[8])).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(stored).save(tmp_path / "mask.png")
    orient = OrientRadiographd(["image", "label"])
    item = {
        "image": LoadImage(RadiographReader(), image_only=True)(tmp_path / "a.png")[None],
        "label": LoadImage(RadiographReader(label=True), image_only=True)(tmp_path / "mask.png")[None],
    }
    turned = orient(item)
    np.testing.assert_array_equal(turned["label"][0].numpy(), labels)
    back = orient.inverse(turned)
    np.testing.assert_array_equal(back["label"][0].numpy(), stored)
    assert torch.equal(back["image"].as_tensor(), item["image"].as_tensor())
    assert torch.equal(back["image"].affine, item["image"].affine)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((40, 48), "it is transposed"), ((48, 48), "draw the mask"), ((12, 10), None), ((96, 80), None)],
)
def test_sizes_that_cannot_be_one_geometry_are_refused(
    tmp_path: Path, upright: tuple[Path, Path], shape: tuple[int, int], words: str | None
) -> None:
    Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "odd.png")
    chain = radiograph_preprocessing(40, label_key="label")
    item = {"image": str(upright[0]), "label": str(tmp_path / "odd.png")}
    if words is None:  # another resolution of the same field of view
        assert chain(item)["label"].shape == (1, 40, 40)
        return
    with pytest.raises(RuntimeError) as caught:
        chain(item)
    message = str(caught.value.__cause__)
    assert "odd.png must have the size of its image" in message and "upright.png, 48 x 40" in message
    assert words in message
