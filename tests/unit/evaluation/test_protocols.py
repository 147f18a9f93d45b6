"""One call measures an encoder by every protocol and leaves numbers and a page."""

from __future__ import annotations

import json

import pytest

from monai_anat.data import DatalistError, load_datalist, sample_folder
from monai_anat.evaluation import CorrespondenceProbe, evaluate_encoder
from monai_anat.networks import ViTBackbone, load_encoder, save_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    backbone = ViTBackbone(image_size=32, patch_size=8, embed_dim=8, depth=4, num_heads=2)
    return save_encoder(backbone, tmp_path_factory.mktemp("encoder"), image_size=32, mean=0.4, std=0.2)


def test_correspondence_alone_takes_size_and_normalisation_from_the_record(encoder, tmp_path) -> None:
    results = evaluate_encoder(encoder, sample_folder(), tmp_path, ["correspondence"])
    probe = CorrespondenceProbe(image_size=32, mean=0.4, std=0.2)
    expected = probe.run(load_encoder(encoder), load_datalist(sample_folder(), "test"))
    assert results["correspondence"]["error"] == pytest.approx(expected["error"])
    assert json.loads((tmp_path / "evaluation.json").read_text())["correspondence"]["pairs"] == expected["pairs"]
    assert (tmp_path / "report.html").read_text().count("data:image/png") == 1


def test_few_shot_leaves_its_masks_and_both_arms_in_the_page(encoder, tmp_path) -> None:
    few = {"steps": 1, "shots": 1, "learning_rates": (1e-3,), "progress": False}
    results = evaluate_encoder(encoder, sample_folder(), tmp_path, ["few-shot"], seeds=(0,), **few)
    assert results["few-shot"]["protocol"]["std"] == 0.2
    assert (tmp_path / "few_shot" / "few_shot_masks.npz").is_file()
    assert (tmp_path / "report.html").read_text().count("data:image/png") == 2


def test_unknown_protocols_and_data_without_sections_are_named(encoder, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"protocols must be among .*got \['speed'\]"):
        evaluate_encoder(encoder, sample_folder(), tmp_path, ["speed"])
    (tmp_path / "list.json").write_text(json.dumps({"training": [{"image": "a.png"}]}))
    with pytest.raises(DatalistError):
        evaluate_encoder(encoder, tmp_path / "list.json", tmp_path, ["correspondence"])
