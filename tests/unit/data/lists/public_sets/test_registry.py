"""Every registered reader refuses a folder that is not its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_anat.data import PUBLIC_SETS, DatalistError
from monai_anat.data.lists.public_sets.padchest import read_padchest


@pytest.mark.parametrize("read", PUBLIC_SETS.values())
def test_missing_tables_and_images_are_said(tmp_path: Path, read: object) -> None:
    with pytest.raises(DatalistError, match="folder must hold"):
        read(tmp_path)  # type: ignore[operator]
    (tmp_path / "PADCHEST_chest_x_ray_images_labels.csv").write_text("ImageID,PatientID\na.png,1\n")
    with pytest.raises(DatalistError, match="got none of 1"):
        read_padchest(tmp_path)
