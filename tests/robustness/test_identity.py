"""Pre-training and fine-tuning on files that name a person everywhere leave no trace of that person behind."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from monai_anat.data import segmentation_datalist

ROOT = Path(__file__).parents[2]
SECRETS = [b"mustermann", b"4711-xyz", b"19440229"]


def _plant(folder: Path, count: int, split: str) -> list[dict[str, str]]:
    """Radiographs as DICOM under a person's name, with lung masks, as a hospital's folder would hold them."""
    items = []
    for number, item in enumerate(segmentation_datalist(split)[:count]):
        with Image.open(item["image"]) as image, Image.open(item["label"]) as mask:
            gray = np.asarray(image).astype("<u2") * 16
            place = folder / "Mustermann_Erika_19440229" / f"4711-XYZ_{split}_{number}.dcm"
            place.parent.mkdir(parents=True, exist_ok=True)
            mask.save(place.with_suffix(".png"))
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.19440229"
        dataset.PatientName, dataset.PatientID, dataset.Modality = "Mustermann^Erika", f"4711-XYZ-{number}", "CR"
        dataset.PatientBirthDate = dataset.StudyDate = "19440229"
        dataset.Rows, dataset.Columns = gray.shape
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.PixelData = gray.tobytes()
        dataset["PixelData"].VR = "OW"
        pydicom.dcmwrite(place, dataset, enforce_file_format=True)
        name = str(place.relative_to(folder))
        patient = f"4711-XYZ-{split}-{number}"
        items.append({"image": name, "label": name.replace(".dcm", ".png"), "patient": patient})
    return items


def _run(bundle: str, configs: list[str], arguments: dict[str, str]) -> str:
    root = ROOT / "bundles" / bundle
    files = [str(root / "configs" / name) for name in configs]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", repr(files), "--bundle_root", str(root)]
    for name, value in arguments.items():
        command += [f"--{name}", value]
    output = Path(arguments["output_dir"])
    command += ["--tracking", "mlflow"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        # the second is where the recorder is, if it is
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(output.parent), os.environ.get("PYTHONPATH", "")]).rstrip(
            os.pathsep
        ),
        "RECORDED_MLFLOW": str(output / "recorded"),
    }
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, cwd=arguments["output_dir"]
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def _traces(folder: Path, ignore: Path) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        if not path.is_file() or path.is_relative_to(ignore):
            continue
        content = (path.read_bytes() + str(path.relative_to(folder)).encode()).lower()
        found += [f"{secret.decode()} in {path.relative_to(folder)}" for secret in SECRETS if secret in content]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("tracking", ["recorder", "mlflow"])
def test_no_person_in_what_training_leaves_behind(tmp_path: Path, tracking: str) -> None:
    """With MLflow switched on as MONAI's users do it: the real one where it is, and one that writes down its calls."""
    if tracking == "mlflow" and importlib.util.find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed")
    if tracking == "recorder":
        shutil.copy(Path(__file__).parent / "recording_mlflow.py", tmp_path / "mlflow.py")
    disk = tmp_path / "disk"
    lists = {split: _plant(disk, count, split) for split, count in (("training", 8), ("validation", 3), ("test", 3))}
    (disk / "datalist.json").write_text(json.dumps(lists))
    small = {"max_epochs": "1", "num_workers": "0"}
    for name in ("pretraining", "segmentation"):
        (tmp_path / name).mkdir()
    told = _run(
        "cxr_peac_pretraining",
        ["train.json", "cpu_demo.json"],
        {
            **small,
            "dataset_dir": str(disk),
            "datalist": "$monai_anat.data.load_datalist(@dataset_dir, 'training')",
            "output_dir": str(tmp_path / "pretraining"),
            "encoder_dir": str(tmp_path / "pretraining" / "encoder"),
            "batch_size": "4",
            "warmup_epochs": "0",
        },
    )
    assert list((tmp_path / "pretraining").rglob("*.pt"))
    told += _run(
        "cxr_lung_segmentation",
        ["train.json", "cpu_demo.json"],
        {
            **small,
            "dataset_dir": str(disk),
            "output_dir": str(tmp_path / "segmentation"),
            "ckpt_dir": str(tmp_path / "segmentation" / "models"),
        },
    )
    assert list((tmp_path / "segmentation").rglob("*.pt"))
    for name in ("pretraining", "segmentation"):
        assert _traces(tmp_path / name, disk) == []
        if tracking == "recorder":
            calls = (tmp_path / name / "recorded" / "calls.txt").read_text()
            assert "loss" in calls and "max_epochs" in calls  # it was given something to keep
        else:
            assert (tmp_path / name / "mlruns.db").is_file()
    # the paths that the user gave may be told back; what a file holds may not
    assert b"mustermann^" not in told.lower().encode()
