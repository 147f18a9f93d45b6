"""Verbs of the command line over public functions."""

from __future__ import annotations

import argparse
import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from monai_anat import cli, data, evaluation, networks
from monai_anat.cli import verbs
from monai_anat.data.reading.shards import shard_name


@pytest.fixture
def encoder(tmp_path):
    backbone = networks.SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2))
    return networks.save_encoder(backbone, tmp_path / "encoder", image_size=56, mean=0.5, std=0.25)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        pixels = (torch.rand(80, 64, generator=torch.Generator().manual_seed(seed)) * 255).byte().numpy()
        Image.fromarray(pixels).save(folder / f"p{seed}.png")
    return folder


def test_embed_writes_one_row_per_image(encoder, images, tmp_path):
    assert cli.main(["embed", str(encoder), str(images), str(tmp_path / "out")]) == 0
    assert np.load(tmp_path / "out" / "embeddings.npy").shape == (3, 16)


def test_prepare_writes_a_training_set(images, tmp_path, capsys):
    words = ["prepare", str(images), str(tmp_path / "out"), "--size", "48", "--key-file", str(tmp_path / "key")]
    assert cli.main([*words, "--splits", "training=0.5,test=0.5", "--view", "any"]) == 0
    lists = json.loads((tmp_path / "out" / "datalist.json").read_text())
    assert sum(len(lists[name]) for name in ("training", "test")) == 3
    with pytest.raises(SystemExit):
        cli.main([*words, "--splits", "0.5,0.5"])
    assert "must look like training=0.8,validation=0.2, got '0.5,0.5'" in capsys.readouterr().err


def test_convert_brings_a_published_layout_to_an_encoder(tmp_path, monkeypatch):
    tiny = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)}
    monkeypatch.setitem(verbs.ARCHITECTURES, "swin_b", ("SwinBackbone", tiny, 56))
    backbone = networks.SwinBackbone(**tiny)
    tensors = {f"module.swin_model.{name}": value for name, value in backbone.state_dict().items()}
    torch.save({"student": tensors, "teacher": tensors}, tmp_path / "peac.pth")
    words = ["convert", str(tmp_path / "peac.pth"), str(tmp_path / "encoder"), "--family", "peac"]
    assert cli.main(words) == 0
    loaded = networks.load_encoder(tmp_path / "encoder")
    assert all(torch.equal(a, b) for a, b in zip(backbone.parameters(), loaded.parameters(), strict=True))
    record = json.loads((tmp_path / "encoder" / "encoder.json").read_text())
    found = record["provenance"]
    assert (found["family"], found["origin"], found["source"]) == ("peac", "PEAC (arXiv 2312.00335)", "peac.pth")
    assert "non-commercial research only" in found["terms"]
    assert found["sha256"] == hashlib.sha256((tmp_path / "peac.pth").read_bytes()).hexdigest()


def test_convert_writes_the_epsilon_of_the_family(tmp_path, monkeypatch):
    tiny = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)}
    monkeypatch.setitem(verbs.ARCHITECTURES, "swin_b", ("SwinBackbone", tiny, 56))
    backbone = networks.SwinBackbone(**tiny)
    tensors = {f"module.backbone.{name}": value for name, value in backbone.state_dict().items()}
    heads = {"module.composer.layer.0.weight": torch.ones(1)}
    torch.save({"student": tensors | heads, "teacher": tensors, "args": argparse.Namespace()}, tmp_path / "lamps.pth")
    assert cli.main(["convert", str(tmp_path / "lamps.pth"), str(tmp_path / "encoder")]) == 0
    loaded = networks.load_encoder(tmp_path / "encoder")
    assert loaded.config["norm_eps"] == loaded.norm.eps == 1e-6
    record = json.loads((tmp_path / "encoder" / "encoder.json").read_text())
    assert (record["provenance"]["family"], record["provenance"]["branch"]) == ("lamps", "student")
    assert "no license" in record["provenance"]["terms"]


def test_convert_needs_the_statistics_of_a_plain_vit(tmp_path, monkeypatch):
    tiny = {"image_size": 32, "patch_size": 16, "embed_dim": 8, "depth": 1, "num_heads": 2, "class_token": True}
    monkeypatch.setitem(verbs.ARCHITECTURES, "vit_b_16", ("ViTBackbone", tiny, 32))
    torch.save(networks.ViTBackbone(**tiny, in_channels=3).state_dict(), tmp_path / "vit.pth")
    words = ["convert", str(tmp_path / "vit.pth"), str(tmp_path / "encoder"), "--architecture", "vit_b_16"]
    assert cli.main(words) != 0
    assert not (tmp_path / "encoder").exists()
    weights = []
    for name in ("imagenet", "half", "0.5,0.5"):
        assert cli.main([*words, "--normalization", name]) == 0
        weights.append(networks.load_encoder(tmp_path / "encoder").patch_embed.proj.weight)
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])


def test_verify_names_a_damaged_file_of_a_prepared_folder(images, tmp_path, caplog):
    out = tmp_path / "out"
    words = ["prepare", str(images), str(out), "--size", "48", "--key-file", str(tmp_path / "key"), "--view", "any"]
    assert cli.main(words) == 0
    with caplog.at_level("INFO"):
        assert cli.main(["verify", str(out)]) == 0
    assert "all 3 images are intact" in caplog.text
    shard = out / shard_name(0)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert cli.main(["verify", str(out)]) == 2
    assert "is damaged" in caplog.text


def test_embed_takes_a_device(encoder, images, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(data, "write_embeddings", lambda *_, **options: seen.append(options["device"]))
    assert cli.main(["embed", str(encoder), str(images), str(tmp_path / "a"), "--device", "meta"]) == 0
    assert cli.main(["embed", str(encoder), str(images), str(tmp_path / "b")]) == 0
    assert seen == ["meta", "cuda" if torch.cuda.is_available() else "cpu"]


def test_demo_prints_what_the_demonstration_returns(monkeypatch, capsys):
    monkeypatch.setattr(verbs, "run_demo", lambda out: f"table of {out}")
    assert cli.main(["demo", "somewhere"]) == 0
    assert "table of somewhere" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["collapse,symmetry"], ["collapse", "symmetry"], ["collapse,", "symmetry"]])
def test_protocols_are_parted_by_commas_or_blanks(words, monkeypatch):
    seen = {}
    monkeypatch.setattr(evaluation, "evaluate_encoder", lambda *given, **further: seen.update(protocols=given[3]))
    assert cli.main(["evaluate", "encoder", "--data", "x", "--protocols", *words, "--out", "y"]) == 0
    assert [word for word in seen["protocols"].split(",") if word] == ["collapse", "symmetry"]


def test_evaluate_passes_arguments_to_protocols(encoder, tmp_path, capsys):
    words = ["evaluate", str(encoder), "--data", str(data.sample_folder()), "--protocols", "collapse"]
    options = ["--set", "collapse.max_images=4", "--set", "collapse.resamples=10", "--set", "encoder.name=mine"]
    assert cli.main([*words, *options, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]) == 0
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())["collapse"]
    assert result["n_images"] == result["settings"]["max_images"] == 4
    assert list((tmp_path / "cache").iterdir())
    with pytest.raises(SystemExit):
        cli.main([*words, "--set", "collapse=4"])
    assert "must look like landmarks.max_sources=20, got 'collapse=4'" in capsys.readouterr().err
