"""Encoder folders: complete or refused, and built without trusting the file."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from monai.networks.nets import SwinUNETR
from torch import nn

from monai_anat.networks import (
    EncoderRecord,
    ResNetBackbone,
    SwinBackbone,
    as_backbone,
    load_encoder,
    read_encoder_record,
    save_encoder,
    save_heads,
)
from monai_anat.networks.heads.part_whole_heads import CompositionHead, DecompositionHead
from monai_anat.networks.pretrained import records as records_module
from monai_anat.networks.pretrained.records import check_savable, load_heads


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return SwinBackbone(embed_dim=8, depths=(1, 2), num_heads=(1, 2), norm_eps=1e-6, drop_path_rate=0.1)


@pytest.fixture
def folder(backbone, tmp_path):
    provenance = {"method": "PEAC", "commit": "abc", "images": 200}
    return save_encoder(backbone, tmp_path / "a" / "b", image_size=112, mean=0.5, std=0.25, provenance=provenance)


def test_the_folder_holds_weights_twice_and_the_record(backbone, folder):
    assert sorted(p.name for p in folder.iterdir()) == ["encoder.json", "model.pt", "model.safetensors"]
    plain = torch.load(folder / "model.pt", weights_only=True)
    safe = safetensors.torch.load_file(folder / "model.safetensors")
    for name, value in backbone.state_dict().items():
        assert torch.equal(plain[name], value)
        assert torch.equal(safe[name], value)


def test_the_record_says_what_a_user_would_guess(backbone, folder):
    expected = EncoderRecord(
        backbone="SwinBackbone",
        kwargs=backbone.config,
        image_size=(112, 112),
        mean=0.5,
        std=0.25,
        provenance={"method": "PEAC", "commit": "abc", "images": 200},
    )
    for path in (folder, folder / "encoder.json", str(folder / "model.pt")):
        assert read_encoder_record(path) == expected
    assert expected.kwargs["norm_eps"] == 1e-6


def test_the_encoder_comes_back_in_evaluation_mode(backbone, folder):
    for path in (folder, folder / "encoder.json", folder / "model.pt", folder / "model.safetensors"):
        loaded = load_encoder(path)
        assert not loaded.training
        assert loaded.config == backbone.config
    (folder / "model.safetensors").unlink()
    load_encoder(folder)


def test_wrappers_are_taken_off(backbone, tmp_path):
    class Parallel(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    compiled = torch.compile(backbone)  # nothing is compiled before the first call
    save_encoder(Parallel(compiled), tmp_path, image_size=112, mean=0.5, std=0.25)
    assert load_encoder(tmp_path).state_dict().keys() == backbone.state_dict().keys()


def test_a_stopped_save_leaves_the_old_files(backbone, folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(_, path):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(records_module.torch, "save", full)
    with torch.no_grad():
        backbone.norm.bias.add_(1)
    with pytest.raises(OSError, match="no space"):
        save_encoder(backbone, folder, image_size=112, mean=0.5, std=0.25)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_reader_of_the_old_file_is_not_disturbed(backbone, folder):
    with (folder / "model.pt").open("rb") as old:
        save_encoder(backbone, folder, image_size=56, mean=0.1, std=0.2)
        assert old.read()[:2] == b"PK"
        assert (folder / "model.pt").stat().st_ino != os.fstat(old.fileno()).st_ino


def test_saving_again_replaces(backbone, folder):
    with torch.no_grad():
        backbone.norm.bias.add_(1)
    save_encoder(backbone, folder, image_size=56, mean=0.1, std=0.2)
    assert torch.equal(load_encoder(folder).norm.bias, backbone.norm.bias)
    assert read_encoder_record(folder).image_size == (56, 56)
    assert stat.S_IMODE((folder / "model.pt").stat().st_mode) & stat.S_IRUSR


def _rewrite(folder, **changed):
    content = json.loads((folder / "encoder.json").read_text())
    content.update(changed)
    (folder / "encoder.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name", ["os.system", "torch.nn.Linear", "Backbone", "AdaptedBackbone", "monai_anat.networks.X"]
)
def test_no_other_class_is_built(folder, name):
    _rewrite(folder, backbone=name)
    with pytest.raises(ValueError, match=r"only backbones of monai_anat\.networks are built: .*SwinBackbone"):
        load_encoder(folder)


def test_a_record_that_builds_nothing_is_named(folder):
    _rewrite(folder, kwargs={"embed_dims": 3})
    with pytest.raises(ValueError, match=r"does not build a SwinBackbone.*embed_dims"):
        load_encoder(folder)
    _rewrite(folder, kwargs={"depths": [2]})
    with pytest.raises(ValueError, match=r"does not build a SwinBackbone.*depths and num_heads"):
        load_encoder(folder)


def test_a_record_of_another_network_is_named(backbone, folder):
    _rewrite(folder, kwargs={**backbone.config, "embed_dim": 16})
    with pytest.raises(
        ValueError, match=r"patch_embed.proj.weight must be \(16, 1, 4, 4\), the file has \(8, 1, 4, 4\)"
    ):
        load_encoder(folder)
    _rewrite(folder, kwargs={**backbone.config, "depths": [1, 1]})
    with pytest.raises(ValueError, match=r"layers\.1\.blocks\.1\..* is not part of the recorded network"):
        load_encoder(folder)
    _rewrite(folder, kwargs={**backbone.config, "depths": [2, 2]})
    with pytest.raises(ValueError, match=r"layers\.0\.blocks\.1\..*the file has nothing"):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "no encoder record"),
        ('{"format": "something"}', "no encoder record"),
        ('{"format": "monai_anat encoder", "version": 2}', "version 2.*reads version 1"),
        ('{"format": "monai_anat encoder", "version": 1}', "lacks an entry or holds an impossible one.*backbone"),
    ],
)
def test_a_broken_record_is_named(folder, content, message):
    (folder / "encoder.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_encoder(folder)


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is none"):
        load_encoder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"encoder\.json is missing.*load_backbone"):
        load_encoder(tmp_path)
    for name in ("model.pt", "model.safetensors"):
        (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor model\.pt"):
        load_encoder(folder)


def test_heads_between_parts_and_wholes_come_back_beside_the_encoder(backbone, tmp_path):
    heads = {
        "composition_head": CompositionHead(6, 4, hidden_features=(6, 6), layer_norm=True),
        "decomposition_head": DecompositionHead(6, 3),
    }
    save_heads({"encoder": backbone, **heads, "decoder": nn.Linear(2, 2)}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "composition_head.pt",
        "decoder.pt",
        "decomposition_head.pt",
    ]
    found = load_heads(tmp_path)
    assert found["composition_head"].num_parts == 4
    assert found["decomposition_head"].num_parts == 3
    parts, whole = torch.randn(2, 4, 6), torch.randn(2, 6)
    assert torch.equal(found["composition_head"](parts), heads["composition_head"](parts))
    assert torch.equal(found["decomposition_head"](whole), heads["decomposition_head"](whole))
    assert load_heads(tmp_path / "elsewhere") == {}
    for state in (nn.Linear(2, 2).state_dict(), {"0.weight": torch.ones(3, 5), "2.weight": torch.ones(4, 2)}):
        torch.save(state, tmp_path / "composition_head.pt")
        with pytest.raises(ValueError, match=r"composition_head\.pt does not hold a composition_head"):
            load_heads(tmp_path)


def test_what_cannot_be_saved_is_named(backbone, tmp_path):
    with pytest.raises(TypeError, match="got Linear"):
        save_encoder(nn.Linear(1, 1), tmp_path, image_size=1, mean=0, std=1)
    with pytest.raises(TypeError, match="provenance must hold JSON"):
        save_encoder(backbone, tmp_path, image_size=56, mean=0, std=1, provenance={"x": torch.ones(1)})
    with pytest.raises(ValueError, match="image_size must have 2 entries"):
        save_encoder(backbone, tmp_path, image_size=(56, 56, 56), mean=0, std=1)
    with pytest.raises(ValueError, match=r"one number each, for all channels, got mean=\[0.5, 0.4\]"):
        save_encoder(backbone, tmp_path, image_size=56, mean=[0.5, 0.4], std=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("changed", [{"std": 0}, {"std": float("nan")}, {"mean": float("inf")}, {"std": -1.0}])
def test_impossible_normalizations_are_refused(backbone, folder, changed, tmp_path):
    with pytest.raises(ValueError, match=r"mean must be a finite number and std a positive one"):
        save_encoder(backbone, tmp_path / "new", **{"image_size": 56, "mean": 0.5, "std": 0.25, **changed})
    assert not (tmp_path / "new").exists()
    _rewrite(folder, **changed)
    for read in (read_encoder_record, load_encoder):
        with pytest.raises(ValueError, match=r"holds an impossible one .*std a positive one.*write it again"):
            read(folder)


@pytest.mark.parametrize("file", ["model.pt", "model.safetensors"])
def test_one_changed_bit_is_found(folder, file):
    content = bytearray((folder / file).read_bytes())
    place = len(content) // 2 if file == "model.safetensors" else content.index(b"/data/0") + 200
    content[place] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=r"checksum differs|is damaged|does not fit"):
        load_encoder(folder / file)


def test_weights_of_another_run_are_refused(backbone, folder, tmp_path):
    with torch.no_grad():
        backbone.norm.bias.add_(1)
    other = save_encoder(backbone, tmp_path / "other", image_size=112, mean=0.5, std=0.25)
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="weights and record come from different runs"):
        load_encoder(folder / "model.safetensors")
    assert torch.equal(load_encoder(folder).norm.bias, load_encoder(folder / "model.pt").norm.bias)
    (folder / "model.pt").write_bytes((other / "model.pt").read_bytes())
    with pytest.raises(ValueError, match="weights and record come from different runs"):
        load_encoder(folder)


KILLED = """
import os, sys, torch
from monai_anat.networks import SwinBackbone, save_encoder
from monai_anat.networks.pretrained import records
from pathlib import Path

torch.manual_seed(1)
backbone = SwinBackbone(embed_dim=8, depths=(1, 2), num_heads=(1, 2))
step, count = int(sys.argv[2]), 0
rename = Path.replace


def counted(self, target):
    global count
    count += 1
    if count == step:
        os._exit(9)
    return rename(self, target)


Path.replace = counted
save_encoder(backbone, sys.argv[1], image_size=112, mean=0.5, std=0.25)
"""


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_killed_save_leaves_the_old_encoder_or_the_new_one(backbone, folder, step):
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(step)], check=False)
    assert done.returncode == 9
    torch.manual_seed(1)
    new = SwinBackbone(embed_dim=8, depths=(1, 2), num_heads=(1, 2))
    expected = backbone if step < 3 else new  # the record is the second file that gets its name
    loaded = load_encoder(folder)
    assert loaded.config == expected.config
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), expected.parameters(), strict=True))
    save_encoder(backbone, folder, image_size=112, mean=0.5, std=0.25)
    assert sorted(p.name for p in folder.iterdir()) == ["encoder.json", "model.pt", "model.safetensors"]


def test_networks_are_checked_before_training(backbone):
    assert check_savable(backbone) is backbone
    assert check_savable(torch.compile(backbone)) is backbone
    with pytest.raises(TypeError, match=r"AdaptedBackbone around SwinTransformer has no record.*as_backbone"):
        check_savable(as_backbone(SwinUNETR(1, 2, spatial_dims=2, feature_size=12, depths=(1, 1, 1, 1))))
    with pytest.raises(TypeError, match="got Linear"):
        check_savable(nn.Linear(1, 1))


def test_batch_statistics_travel(tmp_path):
    backbone = ResNetBackbone(depth=18)
    backbone.train()(torch.randn(2, 1, 64, 64))
    save_encoder(backbone, tmp_path, image_size=64, mean=0.5, std=0.25)
    loaded = load_encoder(tmp_path)
    assert torch.equal(loaded.bn1.running_mean, backbone.bn1.running_mean)
    assert loaded.bn1.num_batches_tracked == 1
