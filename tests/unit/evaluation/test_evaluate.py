"""Evaluation of an encoder by all protocols."""

from __future__ import annotations

import json

import pytest
from torch import nn

from monai_anat.data import DatalistError, load_datalist, sample_folder
from monai_anat.evaluation import (
    FrozenEncoder,
    LandmarkProbe,
    compare_encoders,
    compare_evaluations,
    evaluate_encoder,
    load_results,
)
from monai_anat.evaluation.protocol import protocol_classes
from monai_anat.networks import ViTBackbone, load_encoder, save_encoder

FROZEN = {name: kind for name, kind in protocol_classes().items() if kind.sections == ("test",)}
CLASSES = [name for name, kind in protocol_classes().items() if kind.in_all and name not in FROZEN]
#: fast settings of every protocol on frozen features
TINY: dict[str, dict] = {name: {"resamples": 10, "random_seed": None} for name in FROZEN}
TINY["co-segmentation"] |= {"clusters": (3,), "restarts": 1}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    backbone = ViTBackbone(image_size=32, patch_size=8, embed_dim=8, depth=4, num_heads=2)
    return save_encoder(backbone, tmp_path_factory.mktemp("encoder"), image_size=32, mean=0.4, std=0.2)


@pytest.fixture
def few(tmp_path):
    """A datalist of four test images."""
    path = tmp_path / "few.json"
    path.write_text(json.dumps({"test": load_datalist(sample_folder(), "test")[:4]}))
    return path


def test_size_and_normalization_are_those_of_the_record(encoder, tmp_path) -> None:
    results = evaluate_encoder(encoder, sample_folder(), tmp_path, ["landmarks"], options=TINY)
    frozen = FrozenEncoder(load_encoder(encoder), image_size=32, mean=0.4, std=0.2)
    expected = LandmarkProbe(**TINY["landmarks"]).run(frozen, load_datalist(sample_folder(), "test"))
    assert results["landmarks"].metrics == expected.metrics
    assert json.loads((tmp_path / "evaluation.json").read_text())["landmarks"]["n_pairs"] == expected.extra["n_pairs"]
    assert (tmp_path / "report.html").read_text().count("data:image/png") == 4, "the panels and three cases"


def test_few_shot_takes_its_own_arguments_and_those_of_the_segmentation(encoder, tmp_path) -> None:
    few = {"steps": 1, "learning_rates": [1e-3], "seeds": [0], "progress": False}
    own = {"shots": [1, 2], "modes": ["fine-tuned"], "resamples": 10, "few_shot": {"warmup": 0.5}}
    options = {"few-shot": {**few, **own}}
    results = evaluate_encoder(encoder, sample_folder(), tmp_path, ["few-shot"], options=options)
    assert results["few-shot"].settings["few_shot"] == {**few, "warmup": 0.5}
    assert results["few-shot"].settings["encoder"]["std"] == 0.2
    (dice, *_) = results["few-shot"].extra["curves"]
    assert dice["ways"] == {"fine-tuned": [[1, "dice/1 label, fine-tuned"], [2, "dice/2 labels, fine-tuned"]]}
    assert (tmp_path / "few_shot" / "2_fine-tuned" / "few_shot_masks.npz").is_file()
    page = (tmp_path / "report.html").read_text()
    assert "Dice, by labeled images" in page


def test_unknown_protocols_and_data_without_sections_are_named(encoder, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"protocols must be among .*got \['speed'\]"):
        evaluate_encoder(encoder, sample_folder(), tmp_path, ["speed"])
    (tmp_path / "list.json").write_text(json.dumps({"training": [{"image": "a.png"}]}))
    with pytest.raises(DatalistError):
        evaluate_encoder(encoder, tmp_path / "list.json", tmp_path, ["landmarks"])


def test_unknown_arguments_of_a_protocol_are_named(encoder, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"arguments of collapse must be among .*min_rank.*, got \['speed'\]"):
        evaluate_encoder(encoder, sample_folder(), tmp_path, ["collapse"], options={"collapse": {"speed": 1}})
    with pytest.raises(ValueError, match=r"set for encoder and for .*, got some for \['speed'\]"):
        evaluate_encoder(encoder, sample_folder(), tmp_path, ["collapse"], options={"speed": {}})
    for name, options, sentence in (
        ("few-shot", {"speed": 1}, r"arguments of few-shot must be among .*steps.*, got \['speed'\]"),
        ("encoder", {"speed": 1}, r"arguments of encoder must be among .*level.*, got \['speed'\]"),
        ("encoder", {"level": 7}, r"level must be in -4 \.\. 3, one of the 4 maps, got 7"),
        ("collapse", {"cells": "many"}, r"collapse\.cells must be a value such as 256, got 'many'"),
        ("collapse", {"cells": None}, r"collapse\.cells must be a value such as 256, got None"),
        ("few-shot", {"few_shot": {"speed": 1}}, r"few_shot must hold arguments of .*steps.*, got \['speed'\]"),
        ("few-shot", {"shots": 3}, r"shots must be a list such as \[1, 3, 6, 12, 24\], got 3"),
    ):
        protocol = "collapse" if name == "encoder" else name
        with pytest.raises(ValueError, match=sentence):
            evaluate_encoder(encoder, sample_folder(), tmp_path, [protocol], options={name: options})


def test_everything_is_looked_at_before_anything_is_measured(encoder, tmp_path, monkeypatch) -> None:
    def measure(*_) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(FROZEN["collapse"], "run", measure)
    small = ViTBackbone(image_size=32, patch_size=16, embed_dim=8, depth=4, num_heads=2)
    for first, protocols, options, sentence in (
        (encoder, "collapse,symmetry", {"symmetry": {"speed": 1}}, "arguments of symmetry must be"),
        (encoder, "collapse,linear", {}, "every item must have a 'label' that is a class number"),
        (encoder, "collapse,few-shot", {"few-shot": {"shots": [99]}}, "shots must be between 1 and"),
        (encoder, "collapse,few-shot", {"few-shot": {"class_names": ["-", "lung"]}}, "0 to 1, got 2 in "),
        (FrozenEncoder(small, image_size=32), "collapse,landmarks", {}, "at least 4 x 4 cells, got 2 x 2"),
        (encoder, "collapse", {"collapse": {"max_images": 0}}, "max_images must be at least 1, got 0"),
        (encoder, "collapse,landmarks", {"landmarks": {"max_sources": 0}}, "max_sources must be at least 1, got 0"),
        (encoder, "collapse,co-segmentation", {"co-segmentation": {"clusters": [13]}}, "numbers up to 12 for 2"),
    ):
        with pytest.raises(ValueError, match=sentence):
            evaluate_encoder(first, sample_folder(), tmp_path, protocols, options=options)
    with pytest.raises(FileNotFoundError):
        compare_encoders([encoder, tmp_path / "nowhere"], sample_folder(), tmp_path, "collapse")


def test_any_encoder_gets_its_page(tmp_path, few) -> None:
    backbone = ViTBackbone(image_size=32, patch_size=8, embed_dim=8, depth=4, num_heads=2)
    frozen = FrozenEncoder(backbone, image_size=32, mean=0.4, std=0.2)
    options = {"collapse": TINY["collapse"]}
    results = evaluate_encoder(frozen, few, tmp_path, "collapse", options=options)
    assert results["collapse"].settings["encoder"]["mean"] == 0.4
    assert "ViTBackbone, 32 pixels." in (tmp_path / "report.html").read_text()
    own = {**options, "encoder": {"image_size": 32, "mean": 0.4, "std": 0.2}}
    assert evaluate_encoder(backbone, few, tmp_path, "collapse", options=own) == results
    with pytest.raises(TypeError, match="a backbone or a FrozenEncoder, got Linear; as_backbone makes"):
        evaluate_encoder(nn.Linear(1, 1), few, tmp_path, "collapse")
    with pytest.raises(ValueError, match="a FrozenEncoder has its own settings"):
        evaluate_encoder(frozen, few, tmp_path, "collapse", options=own)
    page = compare_encoders({"one": frozen, "two": frozen}, few, tmp_path / "both", "collapse", options=options)
    assert "one minus two" in page.read_text()


def test_what_takes_no_files_is_named_before_any_work(encoder, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"out must be a folder that can be written, got .*file: .*file is a file"):
        evaluate_encoder(encoder, sample_folder(), tmp_path / "file", ["collapse"])


def test_a_run_that_is_stopped_keeps_the_protocols_that_it_had(encoder, tmp_path, monkeypatch) -> None:
    def stop(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FROZEN["symmetry"], "run", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate_encoder(encoder, sample_folder(), tmp_path, ["collapse", "symmetry"], options=TINY)
    kept = load_results(tmp_path)
    assert list(kept) == ["collapse"]
    assert len(kept["collapse"].metrics["effective_rank"].replicates) == 10


def test_all_leaves_out_what_a_small_map_cannot_answer(tmp_path, few) -> None:
    backbone = ViTBackbone(image_size=32, patch_size=16, embed_dim=8, depth=4, num_heads=2)
    folder = save_encoder(backbone, tmp_path / "encoder", image_size=32, mean=0.4, std=0.2)
    options = {**TINY, "encoder": {"image_size": 32}}
    results = evaluate_encoder(folder, few, tmp_path / "out", ["all"], options=options)
    assert "at least 4 x 4 cells, got 2 x 2" in results["landmarks"].skipped
    assert results["collapse"].metrics
    assert "Left out" in (tmp_path / "out" / "report.html").read_text()


def test_all_runs_what_the_data_allow_and_says_what_they_do_not(encoder, tmp_path) -> None:
    options = {**TINY, "encoder": {"image_size": 32}}
    results = evaluate_encoder(encoder, sample_folder(), tmp_path, ["all"], options=options, cache_dir=tmp_path / "c")
    assert list(results) == [*FROZEN, *CLASSES]
    for name in FROZEN:
        assert results[name].metrics, name
    for name in CLASSES:
        assert results[name].skipped.startswith("every item must have a 'label' that is a class number")
    for name, result in load_results(tmp_path).items():
        assert result == results[name] or (result.skipped and results[name].skipped), name
    assert compare_evaluations(load_results(tmp_path), results)["landmarks"]["error"].difference == 0
    page = (tmp_path / "report.html").read_text()
    assert "<td>error/right apex ↓</td>" in page
    assert "by t-SNE" in page


@pytest.mark.real_data
def test_class_labels_of_a_whole_collection(encoder, real_data, tmp_path) -> None:
    options = {"linear": {"resamples": 20, "random_seed": None}, "k-nn": {"resamples": 20, "random_seed": None}}
    path = real_data / "cxr_cls" / "kermany_datalist.json"
    results = evaluate_encoder(encoder, path, tmp_path, ["linear", "k-nn"], options=options, outside="always")
    assert results["linear"].extra["class_names"] == ["normal", "bacteria", "virus"]
    assert results["linear"].metrics["auroc"].value > 0.5
    assert results["linear"].n_images == 90


@pytest.mark.real_data
def test_lungs_of_a_whole_collection(encoder, real_data, tmp_path) -> None:
    options = {name: {"resamples": 20, "random_seed": None} for name in ("landmarks", "symmetry")}
    results = evaluate_encoder(encoder, real_data / "cxr_seg", tmp_path, list(options), options=options)
    assert results["landmarks"].n_patients == 18
    assert 0.05 < results["landmarks"].baselines["same position"]["error"].value < 0.3


def test_all_goes_on_where_labels_are_names_of_findings(encoder, tmp_path, few) -> None:
    """A label that is no file is none for the protocols on masks, and no reason to stop."""
    items = [{**item, "label": "Edema|Mass"} for item in json.loads(few.read_text())["test"]]
    few.write_text(json.dumps({"test": items}))
    options = {**TINY, "encoder": {"image_size": 32}}
    results = evaluate_encoder(encoder, few, tmp_path / "out", ["all"], options=options)
    assert [name for name in FROZEN if results[name].skipped] == ["co-segmentation", "landmarks", "localizability"]


def test_all_can_stand_among_others(encoder, tmp_path, few) -> None:
    options = {**TINY, "encoder": {"image_size": 32}}
    with pytest.raises(DatalistError, match="section must be one of"):
        evaluate_encoder(encoder, few, tmp_path / "out", "all, few-shot", options=options)
    assert not (tmp_path / "out" / "evaluation.json").exists(), (
        "what is named is no longer left out, and looked at first"
    )


def test_data_that_allow_no_protocol_are_an_error(encoder, tmp_path) -> None:
    (tmp_path / "list.json").write_text(json.dumps({"training": load_datalist(sample_folder(), "test")[:2]}))
    with pytest.raises(DatalistError, match=r"at least one protocol, got none: co-segmentation, .*section must"):
        evaluate_encoder(encoder, tmp_path / "list.json", tmp_path / "out", ["all"], options=TINY)
    assert "Left out" in (tmp_path / "out" / "report.html").read_text()
