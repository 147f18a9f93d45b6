from __future__ import annotations

from pathlib import Path

import itk
import numpy as np
import pytest

from monai_anat.data import RadiographError, read_radiograph
from monai_anat.data.reading.decoded import UnreadableError
from monai_anat.data.reading.metaimage import read_meta_header
from monai_anat.data.reading.raw_volume import read_block

pytestmark = pytest.mark.filterwarnings("ignore:builtin type .*:DeprecationWarning")
HEAD = "ObjectType = Image\nNDims = 2\nDimSize = 3 2\nElementType = MET_UCHAR\n"


@pytest.mark.parametrize("ending", ["mha", "mhd"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("number", ["u1", "i2", "u2", "f4", "f8"])
def test_files_of_itk(tmp_path: Path, ending: str, compressed: bool, number: str) -> None:
    values = np.arange(12).reshape(3, 4).astype(number)
    image = itk.image_from_array(values)
    image.SetSpacing([0.2, 0.3])
    image.SetOrigin([5.0, 7.0])
    image.SetDirection(itk.matrix_from_array(np.array([[0.0, -1.0], [1.0, 0.0]])))
    itk.imwrite(image, str(tmp_path / f"a.{ending}"), compression=compressed)
    volume = read_meta_header(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(read_block(volume.block), values.T)
    # ITK: world = origin + direction @ (spacing * index), in LPS
    expected = np.diag([-1, -1, 1, 1.0]) @ [[0, -0.3, 0, 5], [0.2, 0, 0, 7], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    np.testing.assert_allclose(volume.affine(), expected)


def test_byte_order_text_and_data_at_the_end(tmp_path: Path) -> None:
    values = np.arange(6).reshape(2, 3)
    words = HEAD.replace("UCHAR", "USHORT") + "ElementByteOrderMSB = True\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(words.encode() + values.astype(">u2").tobytes())
    text = HEAD + "BinaryData = False\nElementDataFile = LOCAL\n0 1 2 3 4 5\n"
    (tmp_path / "b.mha").write_text(text)
    (tmp_path / "c.raw").write_bytes(b"a header of its own" + values.astype("u1").tobytes())
    (tmp_path / "c.mhd").write_text(HEAD + "HeaderSize = -1\nElementDataFile = c.raw\n")
    (tmp_path / "d.mhd").write_text(HEAD + "HeaderSize = 19\nElementDataFile = c.raw\n")
    for name in ("a.mha", "b.mha", "c.mhd", "d.mhd"):
        np.testing.assert_array_equal(read_block(read_meta_header(tmp_path / name).block), values.T, err_msg=name)


@pytest.mark.parametrize(
    "filler", ["\n", "\n\n", " \n", "Comment = x\n\n", f"X = {'y' * 70_000}\n", "A = b\n" * 12_000]
)
@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../../etc/passwd"])
def test_no_header_reads_a_file_elsewhere(tmp_path: Path, filler: str, target: str) -> None:
    (tmp_path / "a.mhd").write_text(HEAD + filler + f"ElementDataFile = {target}\n")
    with pytest.raises(RadiographError, match=r"outside its folder|longer than 65536 bytes"):
        read_radiograph(tmp_path / "a.mhd")
    (tmp_path / "b.mha").write_text(HEAD + f"ElementDataFile = {target}\nElementDataFile = LOCAL\n" + "x" * 6)
    with pytest.raises(RadiographError, match="outside its folder"):
        read_radiograph(tmp_path / "b.mha")


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        HEAD.replace("3 2", "3") + "ElementDataFile = LOCAL\n",
        HEAD.replace("3 2", "3 two") + "ElementDataFile = LOCAL\n",
        HEAD + "ElementSpacing = 1\nElementDataFile = LOCAL\n",
        "NDims = 2\nElementDataFile = LOCAL\n",
    ],
)
def test_damaged_headers(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.mha").write_text(text)
    with pytest.raises(UnreadableError, match="damaged or truncated"):
        read_meta_header(tmp_path / "a.mha")


def test_unsupported_headers(tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_text(HEAD.replace("UCHAR", "OTHER") + "ElementDataFile = LOCAL\n")
    with pytest.raises(UnreadableError, match="element type"):
        read_meta_header(tmp_path / "a.mha")
    (tmp_path / "a.mha").write_text(HEAD.replace("NDims = 2", "NDims = 99") + "ElementDataFile = LOCAL\n")
    with pytest.raises(UnreadableError, match="99 axes"):
        read_meta_header(tmp_path / "a.mha")
