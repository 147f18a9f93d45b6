from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile  # scikit-image needs it: it is there
from PIL import Image

from monai_anat.data import RadiographError, read_radiograph, synthetic_radiograph
from monai_anat.data.reading.raster import chosen_frame, decode_raster


@pytest.fixture
def gray() -> np.ndarray:
    return np.round(synthetic_radiograph((40, 32))[0] * 255).astype(np.uint8)


def test_all_ways_to_store_one_gray_picture_agree(tmp_path: Path, gray: np.ndarray) -> None:
    expected = gray / np.float32(255)
    palette = Image.fromarray(gray).convert("P")
    files = {
        "gray.png": Image.fromarray(gray),
        "rgb.png": Image.fromarray(np.stack([gray] * 3, axis=-1)),
        "rgba.png": Image.fromarray(np.stack([gray] * 3 + [np.full_like(gray, 9)], axis=-1)),
        "alpha.png": Image.merge("LA", [Image.fromarray(gray), Image.fromarray(np.full_like(gray, 9))]),
        "palette.png": palette,
        "wide.png": Image.fromarray(gray.astype(np.uint16) * 257),
        "gray.tif": Image.fromarray(gray),
        "wide.tif": Image.fromarray(gray.astype(np.uint16) * 257),
        "float.tif": Image.fromarray(expected.astype(np.float32)),
        "gray.bmp": Image.fromarray(gray),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
        read = read_radiograph(tmp_path / name)
        np.testing.assert_allclose(read.pixels, expected, atol=1e-6, err_msg=name)
        assert read.pixels.dtype == np.float32 and read.spacing is None


def test_colors_count_by_their_luminance(tmp_path: Path) -> None:
    green = np.zeros((4, 4, 3), np.uint8)
    green[..., 1] = 200
    Image.fromarray(green).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_radiograph(tmp_path / "a.png").pixels, 0.587 * 200 / 255, atol=2e-3)


@pytest.mark.parametrize(("code", "turn"), [(3, 2), (6, 3), (8, 1)])
def test_the_orientation_tag_is_applied(tmp_path: Path, gray: np.ndarray, code: int, turn: int) -> None:
    exif = Image.Exif()
    exif[274] = code
    Image.fromarray(gray).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(read_radiograph(tmp_path / "a.png").pixels, np.rot90(gray, turn) / 255, atol=1e-6)


def test_twelve_bits_in_sixteen_are_not_dark(tmp_path: Path, gray: np.ndarray) -> None:
    Image.fromarray(gray.astype(np.uint16) * 16).save(tmp_path / "a.png")
    read = read_radiograph(tmp_path / "a.png")
    assert read.info["mapping"] == "linear from 0..4095" and read.pixels.max() > 0.8


def test_jpeg_and_wrong_endings(tmp_path: Path, gray: np.ndarray) -> None:
    Image.fromarray(gray).save(tmp_path / "a.jpg", quality=95)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.jpg").read_bytes())
    (tmp_path / "a.dcm").write_bytes((tmp_path / "a.jpg").read_bytes())
    for name in ("a.jpg", "a.png", "a.dcm"):
        read = read_radiograph(tmp_path / name)
        assert read.info["kind"] == "jpeg" and np.abs(read.pixels - gray / 255).max() < 0.1


def test_labels_keep_their_values_and_palettes(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 200]], dtype=np.uint8)
    Image.fromarray(labels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode_raster(tmp_path / "a.png", label=True).pixels, labels)
    image = Image.fromarray(labels)
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(tmp_path / "p.png")
    np.testing.assert_array_equal(decode_raster(tmp_path / "p.png", label=True).pixels, labels)


def test_pages_are_chosen_or_refused(tmp_path: Path, gray: np.ndarray) -> None:
    Image.fromarray(gray).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(255 - gray)])
    with pytest.raises(RadiographError, match="2 frames"):
        read_radiograph(tmp_path / "a.tif")
    np.testing.assert_allclose(read_radiograph(tmp_path / "a.tif", frame=1).pixels, 1 - gray / 255, atol=1e-6)
    assert chosen_frame(3, 2) == 2


def test_damaged_files_have_a_reason(tmp_path: Path, gray: np.ndarray) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "head.png").write_bytes(whole[:20])
    for name in ("cut.png", "head.png"):
        with pytest.raises(RadiographError, match=f"{name} as a radiograph: .*damaged"):
            read_radiograph(tmp_path / name)


def test_absurd_size_is_refused_before_decoding(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(content)
    with pytest.raises(RadiographError, match="absurdly large"):
        read_radiograph(tmp_path / "huge.png")


def test_values_of_a_tiff_that_run_from_white_to_black_are_turned_round(tmp_path: Path, gray: np.ndarray) -> None:
    wide = gray.astype(np.uint16) * 257
    unit = (gray / 255).astype(np.float32)
    for name, plain, values in (
        ("bytes", gray, 255 - gray),
        ("words", wide, 65535 - wide),
        ("twelve bits in words", wide >> 4, 4095 - (wide >> 4)),
        ("floats", unit, 1 - unit),
    ):
        tifffile.imwrite(tmp_path / "black.tif", plain, photometric="minisblack")
        tifffile.imwrite(tmp_path / "white.tif", values, photometric="miniswhite")
        expected, read = (read_radiograph(tmp_path / f"{kind}.tif") for kind in ("black", "white"))
        np.testing.assert_allclose(read.pixels, expected.pixels, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.uint16, np.uint32])
def test_signed_and_unsigned_numbers_of_a_tiff(tmp_path: Path, gray: np.ndarray, kind: type) -> None:
    lowest, highest = np.iinfo(kind).min, np.iinfo(kind).max
    values = np.round(lowest + gray / 255 * (float(highest) - lowest)).clip(lowest, highest)
    tifffile.imwrite(tmp_path / "a.tif", values.astype(kind), photometric="minisblack")
    read = read_radiograph(tmp_path / "a.tif").pixels
    assert np.corrcoef(read.ravel(), gray.ravel())[0, 1] > 0.99


def test_big_tiff_is_read(tmp_path: Path, gray: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", gray, bigtiff=True, photometric="minisblack")
    np.testing.assert_allclose(read_radiograph(tmp_path / "a.tif").pixels, gray / 255, atol=1e-6)


def test_layouts_that_pillow_decodes_wrongly_are_refused(tmp_path: Path, gray: np.ndarray) -> None:
    wide = np.stack([gray.astype(np.uint16) * 257] * 3)
    tifffile.imwrite(tmp_path / "planes.tif", wide, photometric="rgb", planarconfig="separate")
    with pytest.raises(RadiographError, match="not in planes"):
        read_radiograph(tmp_path / "planes.tif")
    exif = Image.Exif()
    exif[274] = 6
    lying = Image.fromarray(np.ascontiguousarray(np.rot90(gray)))
    lying.save(tmp_path / "lying.tif", exif=exif)
    with pytest.raises(RadiographError, match="on its side by its orientation tag"):
        read_radiograph(tmp_path / "lying.tif")
    lying.save(tmp_path / "packed.tif", exif=exif, compression="tiff_lzw")
    np.testing.assert_allclose(read_radiograph(tmp_path / "packed.tif").pixels, gray / 255, atol=1e-6)


def test_unsupported_pixel_types_are_named(tmp_path: Path, gray: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", gray.astype(np.float64), photometric="minisblack")
    with pytest.raises(RadiographError, match="pixel type is not supported"):
        read_radiograph(tmp_path / "a.tif")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_words_of_several_channels_are_not_cut_to_bytes(tmp_path: Path, channels: int) -> None:
    levels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    alpha = np.full_like(levels, 65535)
    planes = [levels, alpha] if channels == 2 else [levels, levels, levels, alpha][:channels]
    write_wide_png(tmp_path / "a.png", np.stack(planes, axis=-1))
    read = read_radiograph(tmp_path / "a.png")
    np.testing.assert_allclose(read.pixels * 4095, levels, atol=1e-2)
    assert len(np.unique(read.pixels)) == 4096 and read.info["mapping"] == "linear from 0..4095"
    if channels > 2:
        tifffile.imwrite(tmp_path / "a.tif", np.stack(planes, axis=-1), photometric="rgb", compression="zlib")
        np.testing.assert_allclose(read_radiograph(tmp_path / "a.tif").pixels * 4095, levels, atol=1e-2)


def write_wide_png(path: Path, values: np.ndarray) -> None:
    """Write a PNG of 16 bits and several channels, which Pillow cannot."""
    height, width, channels = values.shape
    color_type = {2: 4, 3: 2, 4: 6}[channels]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_wide_colors_are_turned_by_their_tag_and_damage_has_a_sentence(tmp_path: Path) -> None:
    levels = np.arange(24, dtype=np.uint16).reshape(4, 6) * 100
    write_wide_png(tmp_path / "a.png", np.stack([levels] * 3, axis=-1))
    whole = (tmp_path / "a.png").read_bytes()
    exif = Image.Exif()
    exif[274] = 6
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    (tmp_path / "turned.png").write_bytes(whole[:33] + chunk + whole[33:])
    np.testing.assert_allclose(read_radiograph(tmp_path / "turned.png").pixels * 4095, np.rot90(levels, 3), atol=1e-2)
    (tmp_path / "cut.png").write_bytes(whole[:70])
    with pytest.raises(RadiographError, match="damaged or truncated"):
        read_radiograph(tmp_path / "cut.png")


@pytest.mark.parametrize("thumbnail_first", [False, True])
@pytest.mark.parametrize("marked", [False, True])
def test_the_full_size_page_of_a_tiff_is_the_image(
    tmp_path: Path, gray: np.ndarray, thumbnail_first: bool, marked: bool
) -> None:
    pages = [(gray, 0), (255 - gray[::4, ::4], int(marked))]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for values, kind in pages[::-1] if thumbnail_first else pages:
            writer.write(values, subfiletype=kind, contiguous=False)
    np.testing.assert_allclose(read_radiograph(tmp_path / "a.tif").pixels, gray / 255, atol=1e-6)


@pytest.mark.parametrize("preview_first", [False, True])
def test_the_full_size_picture_of_an_mpo_file_is_the_image(
    tmp_path: Path, gray: np.ndarray, preview_first: bool
) -> None:
    pictures = [Image.fromarray(gray), Image.fromarray(255 - gray[::2, ::2])]
    first, second = pictures[::-1] if preview_first else pictures
    first.save(tmp_path / "a.mpo", format="MPO", save_all=True, append_images=[second], quality=98)
    read = read_radiograph(tmp_path / "a.mpo")
    assert read.pixels.shape == gray.shape and np.abs(read.pixels - gray / 255).max() < 0.1
    assert read.info["kind"] == "jpeg"
