from __future__ import annotations

from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest

from monai_anat.data import RadiographError, read_radiograph, synthetic_radiograph
from monai_anat.data.volume import decode_volume

# ITK's modules warn while they load, and crash if the warning becomes an error
pytestmark = pytest.mark.filterwarnings("ignore:builtin type .*:DeprecationWarning")


@pytest.fixture
def grey() -> np.ndarray:
    return np.round(synthetic_radiograph((40, 32))[0] * 255).astype(np.uint8)


def test_one_picture_in_every_volume_format_is_upright(tmp_path: Path, grey: np.ndarray) -> None:
    columns_first = grey.T
    upside = columns_first[:, ::-1].copy()
    nifti = {
        "eye.nii.gz": (columns_first[..., None], np.eye(4)),
        "itk.nii": (columns_first, np.diag([-0.2, -0.2, 1, 1])),
        "bottom_up.nii": (upside, np.array([[-0.2, 0, 0, 0], [0, 0.2, 0, -5], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
        "coronal.nii": (upside[:, None], np.array([[-0.2, 0, 0, 8], [0, 0.2, 0, -5], [0, 0, 0.2, 3], [0, 0, 0, 1.0]])),
        "rows_first.nii": (grey, np.array([[0, -0.2, 0, 0], [-0.2, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
    }
    for name, (values, affine) in nifti.items():
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / name)
    for name in ("a.mha", "a.mhd", "a.nrrd", "itk.nii.gz"):
        itk.imwrite(itk.image_from_array(grey), str(tmp_path / name))
    itk.imwrite(itk.image_from_array(grey[None]), str(tmp_path / "slab.nrrd"))
    names = [*nifti, "a.mha", "a.mhd", "a.nrrd", "itk.nii.gz", "slab.nrrd"]
    for name in names:
        np.testing.assert_allclose(read_radiograph(tmp_path / name).pixels, grey / 255, atol=1e-6, err_msg=name)


def test_spacing_is_known_or_said_to_be_unknown(tmp_path: Path, grey: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(grey.T, np.diag([-0.2, -0.3, 1, 1])), tmp_path / "a.nii")
    assert read_radiograph(tmp_path / "a.nii").spacing == pytest.approx((0.3, 0.2))
    nibabel.save(nibabel.Nifti1Image(grey.T, np.eye(4)), tmp_path / "b.nii")
    read = read_radiograph(tmp_path / "b.nii")
    assert read.spacing is None and "unknown" in read.info["spacing_source"]


def test_floats_and_scaled_integers(tmp_path: Path, grey: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(grey.T.astype(np.float32), np.eye(4)), tmp_path / "f.nii")
    np.testing.assert_allclose(read_radiograph(tmp_path / "f.nii").pixels, grey / 255, atol=1e-6)
    nibabel.save(nibabel.Nifti1Image(grey.T.astype(np.int16) - 1000, np.eye(4)), tmp_path / "n.nii")
    assert "percentiles" in read_radiograph(tmp_path / "n.nii").info["mapping"]


def test_slices_are_chosen_or_refused(tmp_path: Path, grey: np.ndarray) -> None:
    both = np.stack([grey.T, 255 - grey.T], axis=-1)
    nibabel.save(nibabel.Nifti1Image(both, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(RadiographError, match="2 frames"):
        read_radiograph(tmp_path / "a.nii")
    np.testing.assert_allclose(read_radiograph(tmp_path / "a.nii", frame=1).pixels, 1 - grey / 255, atol=1e-6)


def test_labels_keep_their_values(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2]], dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(labels.T, np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(decode_volume(tmp_path / "a.nii.gz", label=True).pixels, labels)


def test_damage_is_said_in_a_sentence(tmp_path: Path, grey: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(grey.T, np.eye(4)), tmp_path / "a.nii.gz")
    whole = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.mha").write_bytes(b"ObjectType = Image\nNDims = 2\n")
    for name in ("cut.nii.gz", "cut.mha"):
        with pytest.raises(RadiographError, match="damaged"):
            read_radiograph(tmp_path / name)
