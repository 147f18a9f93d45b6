from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from monai_anat.data import RadiographReader, radiograph_preprocessing
from monai_anat.data.reading.decoded import Decoded
from monai_anat.data.reading.masks import (
    MaskError,
    align_mask,
    check_mask_classes,
    join_masks,
    map_mask_values,
    read_mask,
)
from monai_anat.data.reading.orientation import StoredPicture, Turn

CLASSES = np.array([[0, 1, 1, 0], [2, 2, 0, 0], [0, 0, 0, 1]], np.uint8)


def write_packed_png(path: Path, values: np.ndarray, bits: int) -> None:
    """Write a gray PNG of 1, 2 or 4 bits."""
    image = Image.fromarray(values)
    image.putpalette([level for level in range(256) for _ in range(3)])
    image.save(path, bits=bits)
    content = bytearray(path.read_bytes())
    assert content[24] == bits and content[25] == 3
    # a gray PNG instead of a palette: another color type, and no palette chunk
    content[25] = 0
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    start = content.index(b"PLTE") - 4
    length = int.from_bytes(content[start : start + 4], "big") + 12
    path.write_bytes(bytes(content[:start] + content[start + length :]))


@pytest.mark.parametrize(("bits", "classes"), [(1, 2), (2, 3), (4, 3)])
def test_few_bits_are_read_as_stored(tmp_path: Path, bits: int, classes: int) -> None:
    values = np.minimum(CLASSES, classes - 1)
    write_packed_png(tmp_path / "a.png", values, bits)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png").pixels, values)
    for photometric in ("minisblack", "miniswhite"):
        planes = np.unpackbits(values[..., None], axis=-1)[..., -bits:]
        packed = np.packbits(planes.reshape(3, -1), axis=1)
        _write_tiff(tmp_path / "a.tif", packed, bits, photometric == "minisblack")
        np.testing.assert_array_equal(read_mask(tmp_path / "a.tif").pixels, values, err_msg=photometric)


def _write_tiff(path: Path, packed: np.ndarray, bits: int, black_is_zero: bool) -> None:
    """Write an uncompressed TIFF of 4 x 3 pixels with the given bits per pixel."""
    tags = [(256, 4), (257, 3), (258, bits), (259, 1), (262, int(black_is_zero)), (273, 130), (277, 1), (278, 3)]
    tags += [(279, packed.size)]
    content = b"II*\x00\x08\x00\x00\x00" + len(tags).to_bytes(2, "little")
    for tag, value in tags:
        content += tag.to_bytes(2, "little") + b"\x04\x00\x01\x00\x00\x00" + value.to_bytes(4, "little")
    path.write_bytes((content + bytes(4)).ljust(130, b"\0") + packed.tobytes())


def test_bytes_that_run_from_white_to_black_are_read_as_stored(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", CLASSES, photometric="miniswhite")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif").pixels, CLASSES)


def test_equal_channels_are_one_mask_and_colors_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.stack([CLASSES] * 3, axis=-1)).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "gray.png").pixels, CLASSES)
    Image.fromarray(np.stack([CLASSES, CLASSES * 0, CLASSES], axis=-1)).save(tmp_path / "colors.png")
    with pytest.raises(ValueError, match=r"colors.png .*colors instead of class numbers"):
        read_mask(tmp_path / "colors.png")


def test_masks_that_lost_their_class_numbers_get_a_sentence(tmp_path: Path, make_dicom: Callable[..., Path]) -> None:
    Image.fromarray(CLASSES * 100).save(tmp_path / "a.jpg")
    with pytest.raises(MaskError, match=r"a.jpg as a mask: JPEG compression changes values.*PNG"):
        read_mask(tmp_path / "a.jpg")
    Image.fromarray(CLASSES * 100).save(tmp_path / "lossy.tif", compression="jpeg")
    make_dicom(tmp_path / "lossy.dcm", CLASSES, LossyImageCompression="01")
    for name in ("lossy.tif", "lossy.dcm"):
        with pytest.raises(MaskError, match="JPEG compression changes values"):
            read_mask(tmp_path / name)
    Image.fromarray(CLASSES.astype(np.float32) / 2).save(tmp_path / "a.tif")
    with pytest.raises(MaskError, match=r"fractions \(\[0.0, 0.5, 1.0\]"):
        read_mask(tmp_path / "a.tif")
    Image.fromarray(CLASSES.astype(np.float32)).save(tmp_path / "whole.tif")
    mask = read_mask(tmp_path / "whole.tif").pixels
    assert mask.dtype.kind == "i" and np.array_equal(mask, CLASSES)
    with pytest.raises(MaskError, match=r"class numbers 0 to 2, got the values \[0, 255\]; map them .*\[right, left\]"):
        check_mask_classes(np.array([[0, 255]]), 3, "a.png")
    check_mask_classes(CLASSES, 3, "a.png")


def test_values_are_mapped_by_a_setting(tmp_path: Path) -> None:
    Image.fromarray((CLASSES > 0).astype(np.uint8) * 255).save(tmp_path / "a.png")
    expected = (CLASSES > 0).astype(np.uint8)
    for values in ({255: 1}, {"255": 1}):
        np.testing.assert_array_equal(read_mask(tmp_path / "a.png", values=values).pixels, expected)
    item = {"image": str(tmp_path / "a.png"), "label": str(tmp_path / "a.png")}
    label = radiograph_preprocessing(3, label_key="label", crop=False, mask_values={"255": 1})(item)["label"]
    assert label.unique().tolist() == [0, 1]
    swapped = map_mask_values(CLASSES, {1: 2, 2: 1})
    np.testing.assert_array_equal(swapped, np.array([0, 2, 1], np.uint8)[CLASSES])
    with pytest.raises(ValueError, match="integers to class numbers"):
        map_mask_values(CLASSES, {"lung": 1})


def test_one_file_per_class_becomes_one_mask(tmp_path: Path) -> None:
    for number, side in ((1, "right"), (2, "left")):
        Image.fromarray((number == CLASSES).astype(np.uint8) * 255).save(tmp_path / f"{side}.png")
    paths = [str(tmp_path / "right.png"), str(tmp_path / "left.png")]
    np.testing.assert_array_equal(read_mask(paths).pixels, CLASSES)
    np.testing.assert_array_equal(read_mask(paths[::-1]).pixels, np.array([0, 2, 1])[CLASSES])
    Image.fromarray(CLASSES * 80).save(tmp_path / "image.png")
    item = {"image": str(tmp_path / "image.png"), "label": paths}
    label = radiograph_preprocessing(3, label_key="label", crop=False)(item)["label"]
    np.testing.assert_array_equal(label[0].numpy(), CLASSES)


def test_files_of_one_mask_that_do_not_fit_are_refused() -> None:
    right, left = (CLASSES == 1).astype(np.uint8), (CLASSES > 0).astype(np.uint8)
    with pytest.raises(MaskError, match=r"left.png as a mask: it overlaps right.png in 3 pixels"):
        join_masks([right, left], ["right.png", "left.png"])
    with pytest.raises(MaskError, match=r"one other value, got \[1, 2\]"):
        join_masks([CLASSES, left], ["both.png", "left.png"])


def test_files_of_different_sizes_are_refused(tmp_path: Path) -> None:
    Image.fromarray(CLASSES).save(tmp_path / "right.png")
    Image.fromarray(CLASSES.T).save(tmp_path / "left.png")
    with pytest.raises(MaskError, match=r"left.png as a mask: it has 4 x 3 pixels, and .*right.png has 3 x 4"):
        read_mask([tmp_path / "right.png", tmp_path / "left.png"])


def test_a_mask_takes_the_turn_of_its_image_unless_it_states_its_own() -> None:
    picture = StoredPicture((3, 4), Turn(flip_columns=True))
    np.testing.assert_array_equal(align_mask(Decoded(CLASSES), picture, "a.png"), CLASSES[:, ::-1])
    own = Decoded(CLASSES, states_orientation=True)
    np.testing.assert_array_equal(align_mask(own, picture, "a.png"), CLASSES)
    on_side = StoredPicture((4, 3), Turn(transpose=True))
    np.testing.assert_array_equal(align_mask(Decoded(CLASSES), on_side, "a.png"), CLASSES)
    with pytest.raises(MaskError, match="size of its image, 3 x 4 pixels, got 4 x 3"):
        align_mask(Decoded(CLASSES.T), picture, "a.png")


def test_the_reader_of_monai_reads_masks_of_every_kind(tmp_path: Path, make_dicom: Callable[..., Path]) -> None:
    make_dicom(tmp_path / "a.dcm", CLASSES)
    nibabel.save(nibabel.Nifti1Image(CLASSES.T, np.eye(4)), tmp_path / "a.nii.gz")
    for name in ("a.dcm", "a.nii.gz"):
        reader = RadiographReader(label=True)
        values, meta = reader.get_data(reader.read(str(tmp_path / name)))
        np.testing.assert_array_equal(values, CLASSES)
        assert not meta["states_orientation"]
