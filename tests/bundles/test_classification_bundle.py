"""Classification bundle: the claims of its README, and its commands with ``--slow``."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, onnx_export, verify_metadata, verify_net_in_out
from monai.transforms import EnsureChannelFirstd, LoadImaged
from PIL import Image

from monai_anat.data import classification_datalist
from monai_anat.networks import ViTBackbone, read_encoder_record, save_encoder

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "cxr_classification"
CONFIGS = BUNDLE / "configs"
SCHEMA = ROOT / "tests" / "reference" / "meta_schema_20240725.json"
DEMO_CLASSES = ["AP view", "Atelectasis", "Infiltration", "Pneumonia"]
TINY: dict[str, Any] = {"image_size": 32, "max_epochs": 1, "num_workers": 0, "batch_size": 16}

pytestmark = pytest.mark.filterwarnings("ignore")  # MONAI's bundle commands raise warnings of their own


def files(*names: str) -> list[str]:
    return [str(CONFIGS / f"{name}.json") for name in names]


def run(*names: str, folder: Path, **overrides: Any) -> None:
    """Run a bundle command in this process."""
    monai.bundle.run(config_file=files(*names), bundle_root=str(folder), logging_file=False, **overrides)


def evaluate(folder: Path, **overrides: Any) -> dict[str, Any]:
    """Evaluate a trained folder and return its classification.json."""
    out = folder / "evaluated"
    run("train", "evaluate", folder=folder, output_dir=str(out), num_workers=0, **overrides)
    result: dict[str, Any] = json.loads((out / "classification.json").read_text())
    return result


def predictions(folder: Path) -> np.ndarray:
    rows = csv.reader((folder / "evaluated" / "predictions.csv").read_text().splitlines()[1:])
    count = len(read_encoder_record(folder / "models" / "encoder").provenance["class_names"])
    return np.array([[float(value) for value in row[1 : 1 + count]] for row in rows])


def workflow(name: str, kind: str = "train", **overrides: Any) -> ConfigWorkflow:
    made = ConfigWorkflow(
        workflow_type=kind,
        config_file=files(name),
        meta_file=str(CONFIGS / "metadata.json"),
        bundle_root=str(BUNDLE),
        **overrides,
    )
    made.parser["initialize"] = []
    made.initialize()
    return made


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """Pre-trained encoder with another architecture than the bundle's default."""
    torch.manual_seed(0)
    backbone = ViTBackbone(image_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=2)
    return save_encoder(backbone, tmp_path_factory.mktemp("encoder"), image_size=32, mean=0.4, std=0.2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, encoder) -> Path:
    """Folder of a short fine-tuning of that encoder."""
    folder = tmp_path_factory.mktemp("trained")
    run("train", "cpu_demo", folder=folder, finetune_model_path=str(encoder), **TINY)
    return folder


def test_training_starts_from_the_encoder_and_keeps_its_record_and_the_classes(trained, encoder) -> None:
    record, kept = read_encoder_record(encoder), read_encoder_record(trained / "models" / "encoder")
    assert (kept.backbone, kept.kwargs, kept.mean) == (record.backbone, record.kwargs, record.mean)
    assert kept.provenance["class_names"] == DEMO_CLASSES
    state = torch.load(trained / "models" / "model.pt", weights_only=True)
    before = torch.load(encoder / "model.pt", weights_only=True)
    moved = [(state[f"backbone.{name}"] - value).abs().max() for name, value in before.items()]
    assert 0 < max(moved) < 0.05


def test_evaluation_needs_no_architecture_and_writes_all_that_the_readme_names(trained) -> None:
    result = evaluate(trained)
    assert result["class_names"] == DEMO_CLASSES
    assert result["settings"]["test_crops"] == "ten"
    assert result["n_images"] == len(classification_datalist("test"))
    for name in DEMO_CLASSES:
        assert 0 <= result["metrics"][f"auroc/{name}"]["value"] <= 1
    rows = list(csv.DictReader((trained / "evaluated" / "predictions.csv").read_text().splitlines()))
    items = classification_datalist("test")
    assert [row["image"] for row in rows] == [f"test {number}" for number in range(len(items))]
    lookup = json.loads((trained / "evaluated.files.json").read_text())
    assert lookup["test 3"] == items[3]["image"]
    assert [row["label of AP view"] for row in rows] == [item["AP view"] for item in classification_datalist("test")]
    for name in ("calibration.png", "attributions.png"):
        assert np.asarray(Image.open(trained / "evaluated" / name)).std() > 0


def test_a_list_with_a_test_section_alone_can_be_evaluated(trained, tmp_path) -> None:
    (tmp_path / "datalist.json").write_text(json.dumps({"test": classification_datalist("test")}))
    result = evaluate(trained, dataset_dir=str(tmp_path), ckpt_dir=str(trained / "models"))
    assert result["n_images"] == len(classification_datalist("test"))


def test_averages_of_ten_crops_and_the_center_differ(trained) -> None:
    found = []
    for arguments in ({"average": "prob"}, {"average": "logit"}, {"test_crops": "center"}):
        evaluate(trained, **arguments)
        found.append(predictions(trained))
    assert 0 < np.abs(found[0] - found[1]).max() < 0.1
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_a_linear_probe_keeps_the_encoder_bit_for_bit(tmp_path, encoder) -> None:
    run("train", "cpu_demo", "linear_probe", folder=tmp_path, finetune_model_path=str(encoder), **TINY)
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    before = torch.load(encoder / "model.pt", weights_only=True)
    assert all(torch.equal(state[f"backbone.{name}"], value) for name, value in before.items())
    assert state["norm.num_batches_tracked"] > 0
    assert evaluate(tmp_path)["metrics"]["auroc"]["value"] is not None


def test_findings_without_positive_images_are_reported_and_undefined(tmp_path, encoder, caplog) -> None:
    """The 14 published findings on a sample without hernia: no NaN, and no average that hides it."""
    with caplog.at_level("WARNING"):
        run("train", folder=tmp_path, finetune_model_path=str(encoder), **TINY)
    assert "training: only one kind of image for Hernia, Pneumothorax" in caplog.text
    result = evaluate(tmp_path)
    assert len(result["class_names"]) == 14
    assert result["metrics"]["auroc/Hernia"]["value"] is None
    assert "are negative" in result["metrics"]["auroc/Hernia"]["why"]
    assert "NaN" not in json.dumps(result)


def test_exclusive_classes_train_and_have_an_accuracy(tmp_path, encoder) -> None:
    lists = {
        split: [
            {"image": item["image"], "patient": item["patient"], "label": number % 3}
            for number, item in enumerate(classification_datalist(split)[:16])
        ]
        for split in ("training", "validation", "test")
    }
    (tmp_path / "datalist.json").write_text(json.dumps(lists))
    data = {"dataset_dir": str(tmp_path), "class_names": ["normal", "bacterial", "viral"], "exclusive": True}
    run("train", folder=tmp_path, finetune_model_path=str(encoder), **data, **TINY)
    result = evaluate(tmp_path, dataset_dir=str(tmp_path))
    assert result["class_names"] == ["normal", "bacterial", "viral"]
    assert 0 <= result["metrics"]["accuracy"]["value"] <= 1
    np.testing.assert_allclose(predictions(tmp_path).sum(axis=1), 1, atol=1e-3)


def test_a_table_with_uncertain_labels_and_the_weights_of_its_classes(tmp_path) -> None:
    lines = ["Path,patient,split,Edema,Mass"]
    for split in ("training", "validation", "test"):
        for number, item in enumerate(classification_datalist(split)[:8]):
            lines.append(f"{item['image']},{item['patient']},{split},{(-1.0, 0.0, 1.0, '')[number % 4]},{number % 2}")
    (tmp_path / "chexpert.csv").write_text("\n".join(lines))
    made = workflow(
        "train",
        dataset_dir=str(tmp_path / "chexpert.csv"),
        class_names=["Edema", "Mass"],
        uncertain="smooth",
    )
    labels = np.stack([item["label"] for item in made.parser.get_parsed_content("train_items")])
    assert ((labels[::4, 0] >= 0.55) & (labels[::4, 0] <= 0.85)).all()
    assert set(labels[1::2, 0]) == {0.0}
    validation = np.stack([item["label"] for item in made.parser.get_parsed_content("val_items")])
    assert np.isnan(validation[::4, 0]).all()
    positive = labels[:, 0].sum()
    weight = made.parser.get_parsed_content("loss_def").weight
    assert weight.tolist() == pytest.approx([(8 - positive) / positive, 1])


def test_probabilities_of_a_folder_of_images_come_from_the_weights_inside(tmp_path) -> None:
    items = classification_datalist("test")[:4]
    run("inference", folder=BUNDLE, output_dir=str(tmp_path), datalist=[{"image": item["image"]} for item in items])
    rows = list(csv.reader((tmp_path / "predictions.csv").read_text().splitlines()))
    assert [row[0] for row in rows] == [item["image"] for item in items]
    values = np.array([[float(value) for value in row[1:]] for row in rows])
    assert values.shape == (4, len(DEMO_CLASSES))
    assert ((values > 0) & (values < 1)).all()
    assert np.ptp(values, axis=0).min() > 1e-3, "the weights tell images apart"


def test_loading_and_channel_are_separate_steps() -> None:
    chain = workflow("inference", kind="infer").parser.get_parsed_content("preprocessing")
    assert [type(step) for step in chain.transforms][:2] == [LoadImaged, EnsureChannelFirstd]


@pytest.mark.parametrize(("kind", "name"), [("train", "train"), ("infer", "inference")])
def test_all_required_properties_are_there(kind, name) -> None:
    assert workflow(name, kind=kind).check_properties() == []


def test_metadata_fit_the_schema_the_network_and_its_classes() -> None:
    meta_file = str(CONFIGS / "metadata.json")
    verify_metadata(meta_file=meta_file, filepath=str(SCHEMA))
    verify_net_in_out(
        net_id="network_def",
        meta_file=meta_file,
        config_file=str(CONFIGS / "inference.json"),
        device="cpu",
        bundle_root=str(BUNDLE),
    )
    meta = json.loads(Path(meta_file).read_text())
    channels = meta["network_data_format"]["outputs"]["pred"]["channel_def"]
    record = read_encoder_record(BUNDLE / "models" / "encoder")
    assert list(channels.values()) == record.provenance["class_names"] == DEMO_CLASSES
    assert meta["network_data_format"]["inputs"]["image"]["spatial_shape"] == list(record.image_size)
    assert (BUNDLE / "models" / "model.pt").stat().st_size < 5e6


@pytest.mark.parametrize("export", [ckpt_export, onnx_export])
def test_network_exports(export, tmp_path) -> None:
    target = tmp_path / ("model.ts" if export is ckpt_export else "model.onnx")
    side = read_encoder_record(BUNDLE / "models" / "encoder").image_size[0]
    extra = {"use_trace": True} if export is ckpt_export else {}
    export(
        net_id="network_def",
        filepath=str(target),
        ckpt_file=str(BUNDLE / "models" / "model.pt"),
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        bundle_root=str(BUNDLE),
        input_shape=[1, 1, side, side],
        **extra,
    )
    assert target.stat().st_size > 1e5


def test_a_patient_in_two_splits_stops_the_run_with_a_sentence(tmp_path) -> None:
    items = [{**item, "patient": "same"} for item in classification_datalist("test")]
    lists = {"training": items[:4], "validation": items[4:6], "test": items[6:8]}
    (tmp_path / "datalist.json").write_text(json.dumps(lists))
    with pytest.raises(RuntimeError) as caught:
        run("train", folder=tmp_path, dataset_dir=str(tmp_path), class_names=DEMO_CLASSES)
    assert "must be in one split only" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("names", "argument"),
    [
        (["train"], {"select_by": "val_auc"}),
        (["train"], {"test_crops": "five"}),
        (["train", "evaluate"], {"test_crops": "five"}),
        (["inference"], {"test_crops": "five"}),
    ],
)
def test_an_unknown_choice_stops_the_run_before_it_starts(tmp_path, names, argument) -> None:
    """Otherwise an epoch is trained in vain, or only the center crop is tested."""
    with pytest.raises(RuntimeError) as caught:
        run(*names, folder=BUNDLE, output_dir=str(tmp_path), ckpt_dir=str(tmp_path), **argument)
    assert f"{next(iter(argument))} must be one of" in str(caught.value.__cause__)
    assert not any(tmp_path.iterdir()), "nothing is written"


def test_a_false_that_would_count_as_true_stops_the_run(tmp_path, monkeypatch) -> None:
    command = ["run", "--config_file", *files("train"), "--class_balance", "false"]
    monkeypatch.setattr(sys, "argv", ["monai.bundle", *command])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(RuntimeError) as caught:
        run("train", folder=tmp_path, class_balance="false")
    assert "the command line does not define 'false'; write False" in str(caught.value.__cause__)


def test_the_readmes_show_no_constant_that_the_command_line_refuses() -> None:
    for readme in sorted(BUNDLE.parent.glob("*/docs/README.md")):
        assert not re.findall(r"--[\w#:@]+[ =](?:true|false|null)\b", readme.read_text()), readme


@pytest.mark.parametrize("variant", ["evaluate", "linear_probe", "multi_gpu_train", "cpu_demo"])
def test_variants_change_only_what_train_has(variant) -> None:
    """MONAI accepts mistyped keys without an error."""
    base = ConfigParser(json.loads((CONFIGS / "train.json").read_text()))
    new = {"train#sampler", "train#dataloader#sampler", "validate#sampler", "validate#dataloader#sampler", "visualizer"}
    for key in set(json.loads((CONFIGS / f"{variant}.json").read_text())) - new:
        assert base.get(key, "missing") != "missing", key


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_the_commands_of_the_readme(processes, tmp_path) -> None:
    several = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2") if processes == 2 else ()
    variants = ["cpu_demo", "multi_gpu_train"][:processes]
    small = [word for key, value in TINY.items() for word in (f"--{key}", str(value))]
    for names, extra in ((["train", *variants], several), (["train", "evaluate"], ())):
        command = [sys.executable, *extra, "-m", "monai.bundle", "run", "--config_file", str(files(*names))]
        command += ["--bundle_root", str(tmp_path), *(small if "evaluate" not in names else [])]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        assert "val_auroc" in done.stdout + done.stderr
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert not any(name.startswith("module.") for name in state), "weights load without the wrapper"
    assert (tmp_path / "out" / "classification.json").is_file()


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["nih", "kermany"])
def test_real_lists_train_and_are_measured(name, tmp_path, encoder, real_data) -> None:
    """Train NIH's 14 findings and Kermany's three classes for one epoch."""
    file = real_data / "cxr_cls" / f"{name}_datalist.json"
    names = json.loads(file.read_text())["label_names"]
    data = {"dataset_dir": str(file), "class_names": names, "exclusive": name == "kermany"}
    run("train", folder=tmp_path, finetune_model_path=str(encoder), **data, **TINY)
    result = evaluate(tmp_path, dataset_dir=str(file))
    assert 0.3 < result["metrics"]["auroc"]["value"] <= 1
    assert result["metrics"]["auroc"]["low"] is not None
    assert ("accuracy" in result["metrics"]) == (name == "kermany")
