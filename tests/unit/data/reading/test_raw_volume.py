from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from monai_anat.data.reading.decoded import UnreadableError
from monai_anat.data.reading.raw_volume import RawBlock, RawVolume, file_beside, read_block

VALUES = np.arange(6, dtype="<u2").reshape(2, 3)  # rows x columns


def block(path: Path, **changes: object) -> RawBlock:
    arguments = {"start": 4, "shape": (3, 2), "channels": 1, "dtype": np.dtype("<u2"), "compression": ""} | changes
    return RawBlock(path, **arguments)  # type: ignore[arg-type]


def test_blocks_of_every_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    for compression, content in (
        ("", VALUES.tobytes()),
        ("zlib", zlib.compress(VALUES.tobytes())),
        ("text", b"0 1 2\n3 4 5"),
    ):
        path.write_bytes(b"head" + content)
        np.testing.assert_array_equal(read_block(block(path, compression=compression)), VALUES.T)
    path.write_bytes(b"a longer head" + VALUES.tobytes())
    np.testing.assert_array_equal(read_block(block(path, start=None)), VALUES.T)
    colors = np.stack([VALUES, VALUES + 10], axis=-1)
    path.write_bytes(b"head" + colors.tobytes())
    np.testing.assert_array_equal(read_block(block(path, channels=2)), np.moveaxis(colors, 0, 1))


def test_too_few_and_too_many_values(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    for compression, content in (
        ("", VALUES.tobytes()[:-1]),
        ("zlib", zlib.compress(VALUES.tobytes())[:-3]),
        ("text", b"0 1"),
    ):
        path.write_bytes(b"head" + content)
        with pytest.raises(UnreadableError, match="fewer values"):
            read_block(block(path, compression=compression))
    path.write_bytes(b"head" + zlib.compress(bytes(10**6)))
    with pytest.raises(UnreadableError, match="more than 12 bytes"):
        read_block(block(path, compression="zlib"))
    with pytest.raises(UnreadableError, match="over all axes"):
        read_block(block(path, shape=(1000, 1000, 1000)))


def test_data_files_lie_beside_their_header(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    (folder / "a.raw").write_bytes(b"x")
    (folder / "link.raw").symlink_to(tmp_path / "secret")
    (folder / "inner.raw").symlink_to(folder / "a.raw")
    header = folder / "a.mhd"
    for name in ("a.raw", "./a.raw", "inner.raw"):
        assert file_beside(header, name).read_bytes() == b"x"
    for name in ("../secret", "/etc/passwd", "link.raw", str(tmp_path / "secret"), "..\\secret", "x/../../secret"):
        with pytest.raises(UnreadableError, match="outside its folder"):
            file_beside(header, name)
    for name in ("nowhere.raw", "LIST", "", "%03d.raw 1 9 1", "a\0.raw", "a.mhd"):
        with pytest.raises(UnreadableError, match="not there"):
            file_beside(header, name)


def test_affines_have_a_spacing_or_not() -> None:
    volume = RawVolume(block(Path("a")), [[0.2, 0.0], [0.0, 0.3]], (1.0, 2.0))
    np.testing.assert_allclose(volume.affine(), [[-0.2, 0, 0, -1], [0, -0.3, 0, -2], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert volume.has_spacing() and not RawVolume(block(Path("a")), [[1.0], [0.0, 1.0]]).has_spacing()
