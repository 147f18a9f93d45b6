from __future__ import annotations

import pytest

from monai_anat import resources


def test_every_bundle_is_complete():
    names = resources.bundle_names()
    assert {"cxr_lung_segmentation", "cxr_peac_pretraining", "cxr_popar_pretraining"} <= set(names)
    for name in names:
        folder = resources.bundle_path(name)
        assert (folder / "LICENSE").is_file()
        assert (folder / "docs" / "README.md").is_file()
        assert (folder / "configs" / "inference.json").is_file()
        assert not (folder / "scripts").exists()


def test_the_error_for_an_unknown_bundle_lists_the_available_ones():
    with pytest.raises(ValueError, match=r"name must be one of \[.*'cxr_peac_pretraining'.*\], got 'cxr_x'"):
        resources.bundle_path("cxr_x")


def test_a_wheel_carries_them_inside_the_package(tmp_path, monkeypatch):
    (tmp_path / "bundles" / "cxr_y" / "configs").mkdir(parents=True)
    (tmp_path / "bundles" / "cxr_y" / "configs" / "metadata.json").write_text("{}")
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path)
    assert resources.bundle_names() == ["cxr_y"]
