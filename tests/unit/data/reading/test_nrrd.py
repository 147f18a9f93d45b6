from __future__ import annotations

import gzip
from pathlib import Path

import itk
import numpy as np
import pytest

from monai_anat.data import RadiographError, read_radiograph
from monai_anat.data.reading.decoded import UnreadableError
from monai_anat.data.reading.nrrd import read_nrrd_header
from monai_anat.data.reading.raw_volume import read_block

pytestmark = pytest.mark.filterwarnings("ignore:builtin type .*:DeprecationWarning")
HEAD = "NRRD0004\ntype: uint8\ndimension: 2\nsizes: 3 2\n"
VALUES = np.arange(6, dtype=np.uint8).reshape(2, 3)


@pytest.mark.parametrize("ending", ["nrrd", "nhdr"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("number", ["u1", "i2", "f4", "f8"])
def test_files_of_itk(tmp_path: Path, ending: str, compressed: bool, number: str) -> None:
    values = np.arange(12).reshape(3, 4).astype(number)
    image = itk.image_from_array(values)
    image.SetSpacing([0.2, 0.3])
    image.SetOrigin([5.0, 7.0])
    image.SetDirection(itk.matrix_from_array(np.array([[0.0, -1.0], [1.0, 0.0]])))
    itk.imwrite(image, str(tmp_path / f"a.{ending}"), compression=compressed)
    volume = read_nrrd_header(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(read_block(volume.block), values.T)
    expected = np.diag([-1, -1, 1, 1.0]) @ [[0, -0.3, 0, 5], [0.2, 0, 0, 7], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    np.testing.assert_allclose(volume.affine(), expected)


def test_encodings_and_spacings(tmp_path: Path) -> None:
    for encoding, content in (
        ("raw", VALUES.tobytes()),
        ("gzip", gzip.compress(VALUES.tobytes())),
        ("ascii", b"0 1 2 3 4 5"),
    ):
        (tmp_path / "a.nrrd").write_bytes(f"{HEAD}encoding: {encoding}\nspacings: 0.2 nan\n\n".encode() + content)
        volume = read_nrrd_header(tmp_path / "a.nrrd")
        np.testing.assert_array_equal(read_block(volume.block), VALUES.T)
        np.testing.assert_allclose(np.diag(volume.affine()), [-0.2, -1, 1, 1])


def test_spaces_and_colors(tmp_path: Path) -> None:
    colors = np.stack([VALUES] * 3, axis=-1)
    for space, signs in (("left-posterior-superior", (-1, -1)), ("RAS", (1, 1)), ("left-anterior-superior", (-1, 1))):
        text = (
            f"NRRD0005\n# a comment\ntype: unsigned char\ndimension: 3\nspace: {space}\nsizes: 3 3 2\nendian: little\n"
            "space directions: none (0.2,0,0) (0,0.3,0)\nkinds: RGB-color domain domain\nencoding: raw\n"
            "space origin: (1,2,3)\nkey:=a value\n\n"
        )
        (tmp_path / "a.nrrd").write_bytes(text.encode() + colors.tobytes())
        volume = read_nrrd_header(tmp_path / "a.nrrd")
        assert volume.block.shape == (3, 2) and volume.block.channels == 3
        np.testing.assert_allclose(
            volume.affine()[:2, [0, 1, 3]], [[0.2 * signs[0], 0, signs[0]], [0, 0.3 * signs[1], 2 * signs[1]]]
        )
        np.testing.assert_array_equal(read_block(volume.block)[..., 0], VALUES.T)


@pytest.mark.parametrize("field", ["data file", "datafile", "DATA FILE", "Data File "])
@pytest.mark.parametrize("filler", ["", "# comment\n", "# " + "x" * 70_000 + "\n"])
def test_no_header_reads_a_file_elsewhere(tmp_path: Path, field: str, filler: str) -> None:
    for target in ("/etc/passwd", "../../../../../../../etc/passwd"):
        (tmp_path / "a.nhdr").write_text(f"{HEAD}encoding: raw\n{filler}{field}: {target}\n")
        with pytest.raises(RadiographError, match=r"outside its folder|longer than 65536 bytes"):
            read_radiograph(tmp_path / "a.nhdr")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "\n", "malformed"),
        (HEAD.replace("3 2", "3") + "encoding: raw\n\n", "malformed"),
        (HEAD + "encoding: hex\n\n", "not supported"),
        (HEAD.replace("uint8", "block") + "encoding: raw\n\n", "not supported"),
        (HEAD + "encoding: raw\nline skip: 2\n\n", "skips lines"),
        (HEAD.replace("dimension: 2", "dimension: 16") + "encoding: raw\n\n", "16 axes"),
        (HEAD + "encoding: raw\nspace directions: (1,0) none\n\n", "not its first axis"),
    ],
)
def test_damaged_and_unsupported_headers(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.nrrd").write_text(text)
    with pytest.raises(UnreadableError, match=words):
        read_nrrd_header(tmp_path / "a.nrrd")
