"""MONAI Label's real tasks read both bundles; it is installed apart, see ``run_client``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from monai_anat.data import classification_datalist, segmentation_datalist
from monai_anat.networks import read_encoder_record

BUNDLES = Path(__file__).parents[2] / "bundles"

pytestmark = pytest.mark.slow


def test_masks_of_images_that_are_not_square(run_client, radiographs, truth, dice, tmp_path) -> None:
    bundle = str(BUNDLES / "cxr_lung_segmentation")
    answers = run_client("label_client.py", bundle, str(tmp_path), *map(str, radiographs.values()))
    for name, answer in zip(radiographs, answers, strict=True):
        mask = np.asarray(nibabel.load(answer["file"]).dataobj).squeeze()
        assert mask.shape == truth.T.shape, name  # MONAI's order: columns first
        assert min(dice(mask.T, truth)) > 0.85, name


def test_classification_answers_with_the_names_of_its_classes(run_client, tmp_path) -> None:
    bundle, image = str(BUNDLES / "cxr_classification"), classification_datalist("test")[0]["image"]
    [answer] = run_client("label_client.py", bundle, str(tmp_path), image)
    labels = [entry["label"] for entry in answer["prediction"]]
    assert labels == ["ap view", "atelectasis", "infiltration", "pneumonia"]
    assert all(0 < entry["score"] < 1 for entry in answer["prediction"])


def test_a_training_shorter_than_the_validation_interval_writes_a_model(run_client, tmp_path) -> None:
    bundle = tmp_path / "cxr_lung_segmentation"
    shutil.copytree(BUNDLES / "cxr_lung_segmentation", bundle)
    before = (bundle / "models" / "model.pt").read_bytes()
    train = bundle / "configs" / "train.json"
    train.write_text(json.dumps({**json.loads(train.read_text()), "image_size": 32, "num_workers": 0}))
    items = [{"image": item["image"], "label": item["label"]} for item in segmentation_datalist("test")[:8]]
    files = run_client("label_training_client.py", str(bundle), "1", json.dumps(items))
    assert "model.pt" in files and "encoder/model.pt" in files
    assert (bundle / "models" / "model.pt").read_bytes() != before
    assert read_encoder_record(bundle / "models" / "encoder").image_size == (32, 32)
