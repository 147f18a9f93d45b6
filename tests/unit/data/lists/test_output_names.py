"""No two images of a list are saved under one name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImaged

from monai_anat.data import DatalistError, OutputNames
from monai_anat.data.lists.output_names import unique_output_names

PATHS = [
    "a/1.2.840.113619.2.1.7", "a/1.2.840.113619.2.1.8", "a/same.png", "a/same.jpg", "b/same.png", "a/v.nii.gz",
    "a/v.nii", "a/CR.1.2", "a/DX_0001.v2", "a/DX_0001.v3", "a/index.npy#1", "a/index.npy#12", "a/.png",
]  # fmt: skip


def test_names_are_unique_per_folder_and_as_short_as_can_be() -> None:
    names = unique_output_names([{"image": path} for path in PATHS])
    assert names == [
        "1.2.840.113619.2.1.7", "1.2.840.113619.2.1.8", "same_png", "same_jpg", "same", "v_nii_gz", "v_nii", "CR.1.2",
        "DX_0001.v2", "DX_0001.v3", "index_1", "index_12", ".png",
    ]  # fmt: skip


def test_capitals_do_not_make_a_difference_and_repeats_do_not_collide() -> None:
    assert unique_output_names([{"image": "a.png"}, {"image": "A.jpg"}]) == ["a_png", "A_jpg"]
    assert unique_output_names([{"image": "a.png"}, {"image": "a.png"}, {"image": ["a.png", "b.png"]}]) == ["a"] * 3
    with pytest.raises(DatalistError, match=r"outputs of .*a.png and .*A.PNG would have one name, 'a_png'; rename"):
        unique_output_names([{"image": "a.png"}, {"image": "A.PNG"}])
    with pytest.raises(DatalistError, match="would have one name"):
        unique_output_names([{"image": "a.png"}, {"image": "a.jpg"}, {"image": "a_png.bmp"}, {"image": "a_png"}])


def test_monai_writes_one_file_per_image(tmp_path: Path) -> None:
    items = [{"image": str(tmp_path / path)} for path in PATHS]
    save = SaveImaged(
        "pred",
        output_dir=tmp_path / "out",
        data_root_dir=tmp_path,
        output_postfix="lungs",
        output_ext=".png",
        resample=False,
        separate_folder=False,
        print_log=False,
        output_name_formatter=OutputNames(items),
    )
    for number, item in enumerate(items):
        image = MetaTensor(torch.full((1, 4, 4), number), meta={"filename_or_obj": item["image"]})
        save({"pred": image})
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert len(written) == len(PATHS)
    assert {"a/1.2.840.113619.2.1.8_lungs.png", "a/same_jpg_lungs.png", "b/same_lungs.png"} <= set(written)


def test_images_outside_the_list_or_without_a_file_get_plain_names() -> None:
    names = OutputNames([])
    assert names({"filename_or_obj": "/x/1.2.7", "patch_index": 3}, None) == {"subject": "/x/1.2.7.out", "idx": 3}
    assert names(None, None) == {"subject": "0", "idx": None}
