from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from monai_anat.networks import (
    EncoderClassifier,
    SwinBackbone,
    find_encoder_record,
    find_models,
    publish_model,
    read_encoder_record,
    save_encoder,
)

SETTINGS = {"image_size": 56, "mean": 0.5, "std": 0.25}


def network() -> EncoderClassifier:
    return EncoderClassifier(SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2)), num_classes=2)


@pytest.fixture
def published(tmp_path) -> Path:
    folder = tmp_path / "bundle" / "models"
    publish_model(network(), folder, weights=None, provenance={"task": "toy"}, **SETTINGS)
    return folder


def test_a_bundle_is_found_by_its_task(published, tmp_path, monkeypatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert find_models(".", "toy") == "models", "where nothing is found"
    assert find_models(str(published.parent), "toy") == str(published), "a folder that is named is taken"
    monkeypatch.syspath_prepend(str(published.parent))
    assert find_models(".", "toy") == str(published)
    assert find_models(".", "other") == "models"
    shutil.copytree(published, elsewhere / "models")
    assert find_models(".", "toy") == "models", "the working directory comes first"
    save_encoder(network().backbone, elsewhere / "models" / "encoder", provenance={"task": "other"}, **SETTINGS)
    assert find_models(".", "toy") == str(published), "unless it holds the model of another task"


def test_the_record_of_the_configuration_is_the_fallback(published, tmp_path) -> None:
    shipped = json.loads((published / "encoder" / "encoder.json").read_text())
    assert find_encoder_record(tmp_path / "none", shipped) == read_encoder_record(published / "encoder")
    assert find_encoder_record(published / "encoder", {}).image_size == (56, 56)
    with pytest.raises(ValueError, match="the configuration's shipped_record"):
        find_encoder_record(tmp_path / "none", {**shipped, "version": 99})


def test_weights_and_record_are_replaced_together_or_not_at_all(published, monkeypatch, tmp_path) -> None:
    before = {path: path.read_bytes() for path in sorted(published.rglob("*")) if path.is_file()}
    replace = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.name == "model.pt" and self.parent.name.startswith(".new_model_") and Path(target).parent == published:
            raise OSError("disk full")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        publish_model(network(), published, weights=None, image_size=112, mean=0.4, std=0.2)
    assert {path: path.read_bytes() for path in sorted(published.rglob("*")) if path.is_file()} == before
    monkeypatch.undo()
    publish_model(network(), published, weights=None, image_size=112, mean=0.4, std=0.2)
    assert read_encoder_record(published / "encoder").image_size == (112, 112)
    assert sorted(path.name for path in published.iterdir()) == ["encoder", "model.pt"]


def test_the_best_weights_are_published_and_the_checkpoints_removed(tmp_path) -> None:
    best, last = network(), network()
    torch.save(best.state_dict(), tmp_path / "best.pt")
    (tmp_path / "checkpoints").mkdir()
    publish_model(
        last, tmp_path / "models", weights=tmp_path / "best.pt", finished=tmp_path / "checkpoints", **SETTINGS
    )
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in best.state_dict().items())
    encoder = torch.load(tmp_path / "models" / "encoder" / "model.pt", weights_only=True)
    assert all(torch.equal(encoder[name], value) for name, value in best.backbone.state_dict().items())
    assert not (tmp_path / "checkpoints").exists()


def test_weights_of_another_network_are_refused_before_anything_is_written(tmp_path) -> None:
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "best.pt")
    with pytest.raises(ValueError, match="does not fit the network"):
        publish_model(network(), tmp_path / "models", weights=tmp_path / "best.pt", **SETTINGS)
    assert not (tmp_path / "models").exists()
