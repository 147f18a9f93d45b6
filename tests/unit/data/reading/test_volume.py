from __future__ import annotations

import gzip
import tracemalloc
import zlib
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
from monai.transforms import LoadImage

from monai_anat.data import RadiographError, read_radiograph, synthetic_radiograph
from monai_anat.data.reading.radiograph import decode
from monai_anat.data.reading.upright import OrientRadiograph
from monai_anat.data.reading.volume import decode_volume, volume_kind

# ITK's modules warn while they load, and crash if the warning becomes an error
pytestmark = pytest.mark.filterwarnings("ignore:builtin type .*:DeprecationWarning")


@pytest.fixture
def gray() -> np.ndarray:
    return np.round(synthetic_radiograph((40, 32))[0] * 255).astype(np.uint8)


def test_one_picture_in_every_volume_format_is_upright(tmp_path: Path, gray: np.ndarray) -> None:
    columns_first = gray.T
    upside = columns_first[:, ::-1].copy()
    nifti = {
        "eye.nii.gz": (columns_first[..., None], np.eye(4)),
        "itk.nii": (columns_first, np.diag([-0.2, -0.2, 1, 1])),
        "bottom_up.nii": (upside, np.array([[-0.2, 0, 0, 0], [0, 0.2, 0, -5], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
        "coronal.nii": (upside[:, None], np.array([[-0.2, 0, 0, 8], [0, 0.2, 0, -5], [0, 0, 0.2, 3], [0, 0, 0, 1.0]])),
        "rows_first.nii": (gray, np.array([[0, -0.2, 0, 0], [-0.2, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
    }
    for name, (values, affine) in nifti.items():
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / name)
    for name in ("a.mha", "a.mhd", "a.nrrd", "itk.nii.gz"):
        itk.imwrite(itk.image_from_array(gray), str(tmp_path / name))
    itk.imwrite(itk.image_from_array(gray[None]), str(tmp_path / "slab.nrrd"))
    names = [*nifti, "a.mha", "a.mhd", "a.nrrd", "itk.nii.gz", "slab.nrrd"]
    for name in names:
        np.testing.assert_allclose(read_radiograph(tmp_path / name).pixels, gray / 255, atol=1e-6, err_msg=name)


def test_spacing_is_known_or_reported_as_unknown(tmp_path: Path, gray: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(gray.T, np.diag([-0.2, -0.3, 1, 1])), tmp_path / "a.nii")
    assert read_radiograph(tmp_path / "a.nii").spacing == pytest.approx((0.3, 0.2))
    nibabel.save(nibabel.Nifti1Image(gray.T, np.eye(4)), tmp_path / "b.nii")
    read = read_radiograph(tmp_path / "b.nii")
    assert read.spacing is None and "unknown" in read.info["spacing_source"]


def test_floats_and_scaled_integers(tmp_path: Path, gray: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(gray.T.astype(np.float32), np.eye(4)), tmp_path / "f.nii")
    np.testing.assert_allclose(read_radiograph(tmp_path / "f.nii").pixels, gray / 255, atol=1e-6)
    nibabel.save(nibabel.Nifti1Image(gray.T.astype(np.int16) - 1000, np.eye(4)), tmp_path / "n.nii")
    assert "percentiles" in read_radiograph(tmp_path / "n.nii").info["mapping"]


def test_slope_and_intercept_of_nifti_are_applied(tmp_path: Path, gray: np.ndarray) -> None:
    upright = np.diag([-1, -1, 1, 1])
    dark = nibabel.Nifti1Image(255 - gray.T.astype(np.int16), upright)
    nibabel.save(dark, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([-1, 255], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(content)
    np.testing.assert_allclose(read_radiograph(tmp_path / "a.nii").pixels, gray / 255, atol=1e-6)
    scaled = nibabel.Nifti1Image(gray.T / 255.0, upright, dtype=np.int16)  # nibabel chooses a slope
    nibabel.save(scaled, tmp_path / "b.nii")
    read = read_radiograph(tmp_path / "b.nii")
    assert read.info["mapping"] == "kept, already in 0..1"
    np.testing.assert_allclose(read.pixels, gray / 255, atol=1e-4)
    labels = nibabel.Nifti1Image(np.array([[0, 1], [2, 3]]) * 1.0, upright, dtype=np.int16)
    nibabel.save(labels, tmp_path / "c.nii")
    np.testing.assert_array_equal(decode_volume(tmp_path / "c.nii", label=True).pixels, [[0, 2], [1, 3]])


def test_nifti_without_orientation_is_not_turned(tmp_path: Path, gray: np.ndarray) -> None:
    """nibabel invents a flip and a shift for such a file, and MONAI's reader keeps them."""
    nibabel.save(nibabel.Nifti1Image(gray.T, None), tmp_path / "a.nii")
    np.testing.assert_allclose(read_radiograph(tmp_path / "a.nii").pixels, gray / 255, atol=1e-6)
    loaded = LoadImage("NibabelReader", image_only=True)(tmp_path / "a.nii")[None]
    np.testing.assert_array_equal(OrientRadiograph()(loaded)[0].numpy(), gray)


def test_colors_of_itk_become_gray_and_vectors_are_refused(tmp_path: Path, gray: np.ndarray) -> None:
    for numbers, kind in ((3, "UCHAR"), (4, "UCHAR"), (3, "USHORT"), (2, "UCHAR"), (3, "DOUBLE")):
        height, width = gray.shape
        head = f"NDims = 2\nDimSize = {width} {height}\nElementNumberOfChannels = {numbers}\nElementType = MET_{kind}\n"
        dtype = {"UCHAR": "u1", "USHORT": "<u2", "DOUBLE": "<f8"}[kind]
        values = np.repeat(gray[..., None], numbers, -1).astype(dtype) * (257 if kind == "USHORT" else 1)
        path = tmp_path / "a.mha"
        path.write_bytes(head.encode() + b"ElementDataFile = LOCAL\n" + values.astype(dtype).tobytes())
        if numbers == 2 or kind == "DOUBLE":
            with pytest.raises(RadiographError, match=r"numbers of type .* per pixel"):
                read_radiograph(path)
        else:
            np.testing.assert_allclose(read_radiograph(path).pixels, gray / 255, atol=1e-6)


def test_slices_are_chosen_or_refused(tmp_path: Path, gray: np.ndarray) -> None:
    both = np.stack([gray.T, 255 - gray.T], axis=-1)
    nibabel.save(nibabel.Nifti1Image(both, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(RadiographError, match="2 frames"):
        read_radiograph(tmp_path / "a.nii")
    np.testing.assert_allclose(read_radiograph(tmp_path / "a.nii", frame=1).pixels, 1 - gray / 255, atol=1e-6)


def test_labels_keep_their_values(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2]], dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(labels.T, np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(decode_volume(tmp_path / "a.nii.gz", label=True).pixels, labels)


def test_damaged_files_have_a_reason(tmp_path: Path, gray: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(gray.T, np.eye(4)), tmp_path / "a.nii.gz")
    whole = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.mha").write_bytes(b"ObjectType = Image\nNDims = 2\n")
    for name in ("cut.nii.gz", "cut.mha"):
        with pytest.raises(RadiographError, match="damaged"):
            read_radiograph(tmp_path / name)


def test_the_content_decides_and_not_the_ending(tmp_path: Path, gray: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(gray.T, np.eye(4)), tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti1Image(gray.T, np.eye(4)), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti2Image(gray.T, np.eye(4)), tmp_path / "b.nii")
    for name in ("a.mha", "a.nrrd"):
        itk.imwrite(itk.image_from_array(gray), str(tmp_path / name))
    disguises = [("a.nii", "png"), ("a.nii", "nii.gz"), ("a.nii.gz", "nii"), ("a.nii.gz", "dat"), ("b.nii", "nii")]
    disguises += [("a.mha", "png"), ("a.mha", "dat"), ("a.nrrd", "nii"), ("a.nrrd", "mha")]
    for number, (name, ending) in enumerate(disguises):
        place = tmp_path / f"{number}.{ending}"
        place.write_bytes((tmp_path / name).read_bytes())
        np.testing.assert_allclose(read_radiograph(place).pixels, gray / 255, atol=1e-6, err_msg=f"{name} as {ending}")


def test_a_header_that_leads_out_of_its_folder_is_refused(tmp_path: Path, gray: np.ndarray) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.raw").write_bytes(gray.tobytes())
    meta = "ObjectType = Image\nNDims = 2\nDimSize = 32 40\nElementType = MET_UCHAR\nElementDataFile = {}\n"
    nrrd = "NRRD0004\ntype: uint8\ndimension: 2\nsizes: 32 40\nencoding: raw\ndata file: {}\n\n"
    (tmp_path / "inside" / "link.raw").symlink_to(tmp_path / "secret.raw")
    for text in (meta, nrrd):
        for place in (str(tmp_path / "secret.raw"), "../secret.raw", "link.raw"):
            (tmp_path / "inside" / "a.mhd").write_text(text.format(place))
            with pytest.raises(RadiographError, match="outside its folder"):
                read_radiograph(tmp_path / "inside" / "a.mhd")
        (tmp_path / "inside" / "a.mhd").write_text(text.format("nowhere.raw"))
        with pytest.raises(RadiographError, match="not there"):
            read_radiograph(tmp_path / "inside" / "a.mhd")
        (tmp_path / "inside" / "own.raw").write_bytes(gray.tobytes())
        (tmp_path / "inside" / "a.mhd").write_text(text.format("own.raw"))
        np.testing.assert_allclose(read_radiograph(tmp_path / "inside" / "a.mhd").pixels, gray / 255, atol=1e-6)


def test_a_header_that_announces_too_much_is_refused_before_allocation(tmp_path: Path) -> None:
    meta = "ObjectType = Image\nNDims = {}\nDimSize = {}\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_text(meta.format(2, "100000 100000"))
    (tmp_path / "b.mha").write_text(meta.format(3, "5000 2000 5000"))
    (tmp_path / "c.mha").write_text(meta.format(4, "500 500 500 500"))
    (tmp_path / "d.nrrd").write_text("NRRD0004\ntype: uint8\ndimension: 2\nsizes: 100000 100000\nencoding: raw\n\n")
    for name, words in (("a.mha", "absurdly"), ("b.mha", "2000 frames"), ("c.mha", "4 axes"), ("d.nrrd", "absurdly")):
        with pytest.raises(RadiographError, match=words):
            read_radiograph(tmp_path / name)


def test_complex_and_truncated_images_have_a_reason(tmp_path: Path, gray: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(gray.T.astype(np.complex64), np.eye(4)), tmp_path / "complex.nii")
    nibabel.save(nibabel.Nifti1Image(gray.T, np.eye(4)), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(gray.T, np.eye(4)), tmp_path / "a.nii")
    itk.imwrite(itk.image_from_array(gray), str(tmp_path / "a.mha"))
    for name in ("a.nii.gz", "a.nii", "a.mha"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) - 300])
        with pytest.raises(RadiographError, match="truncated"):
            read_radiograph(tmp_path / name)
    with pytest.raises(RadiographError, match="complex"):
        read_radiograph(tmp_path / "complex.nii")


def test_other_files_are_not_volumes() -> None:
    assert volume_kind("a", b"\x89PNG" + bytes(400)) == "" and volume_kind("a", b"") == ""
    assert volume_kind("a", b"Comment = by hand\nObjectType = Image") == "meta"


def test_nifti_that_unpacks_to_more_than_it_announces_is_cut_off(tmp_path: Path, gray: np.ndarray) -> None:
    """A small file that unpacks to 256 MB costs the memory of its image only."""
    nibabel.save(nibabel.Nifti1Image(gray.T, np.eye(4)), tmp_path / "a.nii")
    with gzip.open(tmp_path / "bomb.nii.gz", "wb", compresslevel=1) as stream:
        stream.write((tmp_path / "a.nii").read_bytes())
        for _ in range(256):
            stream.write(bytes(1 << 20))
    tracemalloc.start()
    np.testing.assert_allclose(read_radiograph(tmp_path / "bomb.nii.gz").pixels, gray / 255, atol=1e-6)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 << 20


@pytest.mark.parametrize("shape", [(1000, 1000, 4, 4, 4, 4, 4), (2000, 2000, 2000)])
def test_the_product_of_all_axes_is_checked_before_anything_is_unpacked(tmp_path: Path, shape: tuple[int, ...]) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(5000)))
    with pytest.raises(RadiographError, match=r"absurdly large: \d+ values over all axes"):
        decode(tmp_path / "a.nii.gz", frame=0)
    header.set_data_shape((4, 4))
    header["vox_offset"] = 1e12
    (tmp_path / "b.nii").write_bytes(header.binaryblock + bytes(5000))
    with pytest.raises(RadiographError, match="header is too long"):
        read_radiograph(tmp_path / "b.nii")


def test_pairs_of_header_and_image_stay_in_their_folder(tmp_path: Path, gray: np.ndarray) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    nibabel.save(nibabel.Nifti1Pair(gray.T, np.eye(4)), folder / "a.hdr")
    np.testing.assert_allclose(read_radiograph(folder / "a.hdr").pixels, gray / 255, atol=1e-6)
    (folder / "a.img").rename(tmp_path / "secret.img")
    with pytest.raises(RadiographError, match=r".img file of this NIfTI header is missing"):
        read_radiograph(folder / "a.hdr")
    (folder / "a.img").symlink_to(tmp_path / "secret.img")
    with pytest.raises(RadiographError, match="outside its folder"):
        read_radiograph(folder / "a.hdr")


@pytest.mark.parametrize("kind", ["mha", "nrrd"])
def test_compressed_data_unpack_to_the_announced_size_only(tmp_path: Path, kind: str) -> None:
    bomb = zlib.compress(bytes(64 << 20), 9)
    if kind == "mha":
        head = "NDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nCompressedData = True\nElementDataFile = LOCAL\n"
    else:
        head = "NRRD0004\ntype: uint8\ndimension: 2\nsizes: 4 4\nencoding: gzip\n\n"
        bomb = gzip.compress(bytes(64 << 20), 9)
    (tmp_path / f"a.{kind}").write_bytes(head.encode() + bomb)
    tracemalloc.start()
    with pytest.raises(RadiographError, match="more than 16 bytes"):
        read_radiograph(tmp_path / f"a.{kind}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_names_that_are_not_utf_8_are_read(tmp_path: Path, gray: np.ndarray) -> None:
    itk.imwrite(itk.image_from_array(gray), str(tmp_path / "a.mha"))
    (tmp_path / "a.mha").rename(tmp_path / "M\udce4dchen.mha")
    np.testing.assert_allclose(read_radiograph(tmp_path / "M\udce4dchen.mha").pixels, gray / 255, atol=1e-6)
