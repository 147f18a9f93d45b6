"""The wheel carries bundles and sample, and runs a bundle without the source tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from monai_anat.resources import bundle_names

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing is left in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.rstrip("\0").split("\0"):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    result = subprocess.run(command, cwd=folder / "source", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return next(folder.glob("*.whl"))


def test_wheel_has_bundles_sample_license_and_types(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for bundle in bundle_names():
        for file in (
            "configs/train.json",
            "configs/inference.json",
            "configs/metadata.json",
            "docs/README.md",
            "LICENSE",
        ):
            assert f"monai_anat/bundles/{bundle}/{file}" in names
    assert "monai_anat/py.typed" in names
    assert "monai_anat/data/sample/ATTRIBUTION.md" in names
    assert sum(name.startswith("monai_anat/data/sample/") and name.endswith(".jpg") for name in names) == 265
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert not [name for name in names if "/out/" in name or name.startswith("tests")]


@pytest.mark.slow
def test_bundle_runs_from_the_wheel_alone(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    root = site / "monai_anat" / "bundles" / "cxr_peac_pretraining"
    tiny = {"datalist": "$monai_anat.data.pretraining_datalist()[:8]", "batch_size": 4, "max_epochs": 1}
    (tmp_path / "tiny.json").write_text(json.dumps(tiny))
    files = [str(root / "configs" / "train.json"), str(root / "configs" / "cpu_demo.json"), str(tmp_path / "tiny.json")]
    words = [
        "--bundle_root",
        str(root),
        "--output_dir",
        str(tmp_path / "out"),
        "--encoder_dir",
        str(tmp_path / "encoder"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = "import monai_anat; print(monai_anat.__file__)"
    found = subprocess.run([sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.stdout.startswith(str(site))
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", str(files), *words]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
    assert (tmp_path / "encoder" / "model.safetensors").exists()
