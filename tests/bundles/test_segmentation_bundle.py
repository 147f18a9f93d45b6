"""Lung segmentation bundle: the commands and claims of its README."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, onnx_export, verify_metadata, verify_net_in_out
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged, SaveImaged
from PIL import Image
from scipy.ndimage import label

from monai_anat.data import segmentation_datalist
from monai_anat.handlers.error_causes import root_cause
from monai_anat.networks import ViTBackbone, read_encoder_record, save_encoder

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "cxr_lung_segmentation"
CONFIGS = BUNDLE / "configs"
SCHEMA = ROOT / "tests" / "reference" / "meta_schema_20240725.json"
LAUNCH = (sys.executable, "-m", "monai.bundle")
TINY = ("--image_size", "32", "--shots", "4", "--max_epochs", "2", "--val_interval", "1", "--num_workers", "0")

pytestmark = pytest.mark.filterwarnings("ignore")  # MONAI's bundle commands raise warnings of their own


def configs(*names: str) -> str:
    return str([str(CONFIGS / f"{name}.json") for name in names])


def run(*arguments: str, launch: tuple[str, ...] = LAUNCH) -> str:
    """Run a bundle command in a process of its own and return its output."""
    command = [*launch, "run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    return output


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
    arguments = ("--bundle_root", str(folder), "--finetune_model_path", str(encoder), *TINY)
    run("--config_file", configs("train", "cpu_demo"), *arguments)
    return folder


def test_training_starts_from_the_encoder_and_keeps_its_record(trained, encoder) -> None:
    record, kept = read_encoder_record(encoder), read_encoder_record(trained / "models" / "encoder")
    assert (kept.backbone, kept.kwargs, kept.mean) == (record.backbone, record.kwargs, record.mean)
    state = torch.load(trained / "models" / "model.pt", weights_only=True)
    before = torch.load(encoder / "model.pt", weights_only=True)
    moved = [(state[f"backbone.{name}"] - value).abs().max() for name, value in before.items()]
    assert max(moved) > 0, "the encoder is trained"
    assert max(moved) < 0.05, "and it starts from the weights given, not from scratch"


def test_evaluation_needs_no_architecture_and_writes_three_metrics(trained, tmp_path) -> None:
    run("--config_file", configs("train", "evaluate"), "--bundle_root", str(trained), "--output_dir", str(tmp_path))
    for metric in ("val_mean_dice", "val_hd95_px", "val_surface_distance_px"):
        rows = (tmp_path / f"{metric}_raw.csv").read_text().splitlines()
        assert len(rows) == 1 + len(segmentation_datalist("test"))
        assert rows[1].split(",")[0] == "test 0", "a position, since names of files may hold names of patients"


def test_masks_have_the_size_and_the_orientation_of_their_image(tmp_path) -> None:
    """An upside-down, mirrored or transposed mask would not match the reader's mask.

    Images with the same name in several folders, as in CheXpert, get masks in folders of the same names.
    """
    items = segmentation_datalist("test")[1:4]
    images = [tmp_path / "images" / f"patient{number}" / "frontal.jpg" for number in range(len(items))]
    for item, image in zip(items, images, strict=True):
        image.parent.mkdir(parents=True)
        image.write_bytes(Path(item["image"]).read_bytes())
    datalist = json.dumps([{"image": str(image)} for image in images])
    run(
        "--config_file",
        configs("inference"),
        "--bundle_root",
        str(BUNDLE),
        "--output_dir",
        str(tmp_path / "masks"),
        "--datalist",
        datalist,
    )
    for item, image in zip(items, images, strict=True):
        name = f"{image.parent.name}/frontal"
        mask = np.asarray(Image.open(tmp_path / "masks" / f"{name}_lungs.png"))
        truth = np.asarray(Image.open(item["label"]))
        volume = nibabel.load(tmp_path / "masks" / f"{name}_lungs.nii.gz")
        assert mask.shape == truth.shape
        for number in (1, 2):
            dice = 2 * ((mask == number) & (truth == number)).sum() / ((mask == number).sum() + (truth == number).sum())
            assert dice > 0.8, (name, number)
        assert np.array_equal(np.asarray(volume.dataobj).squeeze().T, mask)
        assert nibabel.aff2axcodes(volume.affine)[:2] == ("L", "P"), "columns run to the patient's left, rows down"


def test_images_from_another_reader_give_the_same_mask() -> None:
    """MONAI Deploy removes LoadImaged and hands on a transposed image; the mask must be the same."""
    workflow = ConfigWorkflow(
        workflow_type="infer", config_file=str(CONFIGS / "inference.json"), bundle_root=str(BUNDLE)
    )
    workflow.initialize()
    chain, network = workflow.preprocessing, workflow.network_def.eval()
    network.load_state_dict(torch.load(BUNDLE / "models" / "model.pt", weights_only=True))
    after = Compose([step for step in workflow.postprocessing.transforms if not isinstance(step, SaveImaged)])
    bare = Compose([step for step in chain.transforms if not isinstance(step, LoadImaged)])
    path = segmentation_datalist("test")[2]["image"]
    foreign = LoadImage(image_only=True)(path)
    masks = []
    for steps, image in ((chain, path), (bare, foreign)):
        item = steps({"image": image})
        with torch.no_grad():
            item["pred"] = workflow.inferer(item["image"][None], network)[0]
        masks.append(after(item)["pred"])
    assert masks[0].shape == masks[1].shape
    assert (masks[0] != masks[1]).float().mean() < 0.002
    assert (masks[0] > 0).float().mean() > 0.1


def test_loading_and_channel_are_separate_steps() -> None:
    parser = ConfigParser.load_config_file(CONFIGS / "inference.json")
    chain = ConfigParser({**parser, "bundle_root": str(BUNDLE)}).get_parsed_content("preprocessing")
    kinds = [type(step) for step in chain.transforms]
    assert kinds[:2] == [LoadImaged, EnsureChannelFirstd]


@pytest.mark.parametrize(("kind", "names"), [("train", ["train"]), ("infer", ["inference"])])
def test_all_required_properties_are_there(kind, names) -> None:
    files = [str(CONFIGS / f"{name}.json") for name in names]
    workflow = ConfigWorkflow(
        workflow_type=kind, config_file=files, meta_file=str(CONFIGS / "metadata.json"), bundle_root=str(BUNDLE)
    )
    workflow.parser["ckpt_dir"] = str(BUNDLE / "models")
    workflow.parser["initialize"] = []
    workflow.initialize()
    assert workflow.check_properties() == []


def test_metadata_fit_the_schema_and_the_network() -> None:
    verify_metadata(meta_file=str(CONFIGS / "metadata.json"), filepath=str(SCHEMA))
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        device="cpu",
        bundle_root=str(BUNDLE),
    )
    meta = json.loads((CONFIGS / "metadata.json").read_text())
    inference = json.loads((CONFIGS / "inference.json").read_text())
    channels = meta["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert list(channels.values()) == inference["class_names"]
    assert channels["0"] == "background"


@pytest.mark.parametrize("export", [ckpt_export, onnx_export])
def test_network_exports(export, tmp_path) -> None:
    target = tmp_path / ("model.ts" if export is ckpt_export else "model.onnx")
    extra = (
        {"use_trace": True, "input_shape": [1, 1, 224, 224]}
        if export is ckpt_export
        else {"input_shape": [1, 1, 224, 224]}
    )
    export(
        net_id="network_def",
        filepath=str(target),
        ckpt_file=str(BUNDLE / "models" / "model.pt"),
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        bundle_root=str(BUNDLE),
        **extra,
    )
    assert target.stat().st_size > 1e5


def run_here(*names: str, **overrides: Any) -> None:
    """Run a bundle command in this process."""
    files = [str(CONFIGS / f"{name}.json") for name in names]
    monai.bundle.run(config_file=files, logging_file=False, **overrides)


def write_list(folder: Path, labels: Callable[[Path, np.ndarray], Any], **further: Any) -> str:
    """A list of four images for each section, with masks as ``labels(path, mask)`` writes them."""
    lists: dict[str, list[dict[str, Any]]] = {}
    for section in ("training", "validation", "test"):
        lists[section] = []
        for number, item in enumerate(segmentation_datalist(section)[:4]):
            image = Image.open(item["image"]).resize((96, 80))
            mask = np.asarray(Image.open(item["label"]).resize((96, 80), Image.Resampling.NEAREST))
            image.save(path := folder / f"{section}_{number}.png")
            entry = {"image": str(path), "label": labels(path.with_suffix(""), mask), "patient": f"{section} {number}"}
            lists[section].append({**entry, **(further if number else {})})
    (folder / "datalist.json").write_text(json.dumps(lists))
    return str(folder)


def save_array(array: np.ndarray, path: str) -> str:
    Image.fromarray(array).save(path)
    return path


BAD_MASKS: dict[str, tuple[Callable[[Path, np.ndarray], Any], str]] = {
    "0 and 255": (lambda path, mask: save_array((mask > 0) * np.uint8(255), f"{path}_m.png"), "mask values such as"),
    "JPEG": (lambda path, mask: save_array(mask * np.uint8(100), f"{path}_m.jpg"), "JPEG compression changes values"),
    "fractions": (lambda path, mask: save_array(mask * np.float32(0.4), f"{path}_m.tif"), "holds fractions"),
    "transposed": (lambda path, mask: save_array(np.ascontiguousarray(mask.T), f"{path}_m.png"), "96 x 80"),
}


@pytest.mark.parametrize("kind", BAD_MASKS)
@pytest.mark.parametrize("names", [("train",), ("few_shot",), ("train", "evaluate")])
def test_masks_that_are_no_class_numbers_stop_before_the_first_step(kind, names, tmp_path) -> None:
    labels, sentence = BAD_MASKS[kind]
    root = BUNDLE if "evaluate" in names else tmp_path
    arguments = {"dataset_dir": write_list(tmp_path, labels), "bundle_root": str(root), "output_dir": str(tmp_path)}
    with pytest.raises(RuntimeError) as caught:
        run_here(*names, **arguments)
    assert sentence in str(root_cause(caught.value))
    assert not (tmp_path / "best_model.pt").exists()


def test_masks_of_one_lung_each_and_a_map_of_values_give_the_same_labels(tmp_path) -> None:
    """MONAI's list form ``[right, left]``, and 255 mapped to a class number; further keys of some items are dropped."""
    found = []
    for name, labels, values in (
        ("plain", lambda path, mask: save_array(mask, f"{path}_m.png"), None),
        (
            "separate",
            lambda path, mask: [save_array((mask == n) * np.uint8(255), f"{path}_{n}.png") for n in (1, 2)],
            None,
        ),
        ("mapped", lambda path, mask: save_array(mask * np.uint8(100), f"{path}_m.png"), {"100": 1, "200": 2}),
    ):
        (tmp_path / name).mkdir()
        folder = write_list(tmp_path / name, labels, age=40)
        workflow = ConfigWorkflow(str(CONFIGS / "train.json"), workflow_type="train", dataset_dir=folder)
        workflow.parser["mask_values"] = values
        workflow.parser["image_size"] = 32
        workflow.initialize()
        batch = next(iter(workflow.parser.get_parsed_content("validate#dataloader")))
        found.append(batch["label"].as_tensor())
        assert found[-1].unique().tolist() == [0, 1, 2]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_outputs_of_files_with_one_stem_have_names_of_their_own(tmp_path) -> None:
    source = Image.open(segmentation_datalist("test")[0]["image"]).resize((64, 64))
    for name in ("same.png", "same.jpg", "1.2.840.7", "1.2.840.8"):
        source.save(tmp_path / name, format="JPEG" if name.endswith("jpg") else "PNG")
    items = [{"image": str(path)} for path in sorted(tmp_path.iterdir())]
    run_here("inference", bundle_root=str(BUNDLE), output_dir=str(tmp_path / "masks"), datalist=items)
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.png")) == [
        f"{name}_lungs.png" for name in ("1.2.840.7", "1.2.840.8", "same_jpg", "same_png")
    ]


def test_black_borders_are_no_lung(tmp_path) -> None:
    """Images with wide borders: without the crop, the air beside the patient counts as lung."""
    scores = {}
    for crop in (True, False):
        items = []
        for number, item in enumerate(segmentation_datalist("test")[:4]):
            framed = [
                np.pad(np.asarray(Image.open(item[key]).convert("L")), ((20, 60), (150, 120)))
                for key in item
                if key in ("image", "label")
            ]
            save_array(framed[0], str(tmp_path / f"{number}.png"))
            items.append(({"image": str(tmp_path / f"{number}.png")}, framed[1]))
        arguments = {"bundle_root": str(BUNDLE), "output_dir": str(tmp_path / str(crop))}
        run_here("inference", datalist=[item for item, _ in items], crop_borders=crop, **arguments)
        masks = [np.asarray(Image.open(tmp_path / str(crop) / f"{n}_lungs.png")) for n in range(len(items))]
        scores[crop] = [
            2 * ((mask > 0) & (truth > 0)).sum() / ((mask > 0).sum() + (truth > 0).sum())
            for mask, (_, truth) in zip(masks, items, strict=True)
        ]
        for mask in masks:
            assert all(label(mask == number, np.ones((3, 3)))[1] <= 1 for number in (1, 2)), "one piece per lung"
    assert min(scores[True]) > 0.85
    assert np.mean(scores[False]) < np.mean(scores[True]) - 0.1


def test_names_of_files_and_patients_leave_with_no_output(tmp_path) -> None:
    """Everything in the folders of output and model can be shared; the look-up file lies beside them."""
    source = tmp_path / "DOE_JANE_1970"
    source.mkdir()
    data = write_list(source, lambda path, mask: save_array(mask, f"{path}_m.png"), patient="DOE_JANE")
    listed = json.loads((source / "datalist.json").read_text())
    for section, items in listed.items():
        for number, item in enumerate(items):
            item["patient"] = f"DOE_JANE {section} {number}"
    (source / "datalist.json").write_text(json.dumps(listed))
    root = {"bundle_root": str(tmp_path), "dataset_dir": data, "num_workers": 0}
    run_here("train", image_size=32, max_epochs=1, val_interval=1, batch_size=2, **root)
    run_here("train", "evaluate", output_dir=str(tmp_path / "out" / "evaluated"), **root)
    written = [*(tmp_path / "out").rglob("*"), *(tmp_path / "models").rglob("*")]
    for path in written:
        if path.is_file() and not path.name.endswith(".files.json"):
            assert b"DOE_JANE" not in path.read_bytes(), path
    lookup = json.loads((tmp_path / "out" / "evaluated.files.json").read_text())
    assert lookup["test 0"] == listed["test"][0]["image"]


def test_a_failed_training_leaves_the_shipped_model_as_it_was(tmp_path) -> None:
    shutil.copytree(BUNDLE / "models", tmp_path / "models")
    before = {path: path.read_bytes() for path in (tmp_path / "models").rglob("*") if path.is_file()}
    with pytest.raises(RuntimeError):
        run_here("train", "cpu_demo", bundle_root=str(tmp_path), image_size=32, loss={"_target_": "torch.nn.NLLLoss"})
    assert {path: path.read_bytes() for path in (tmp_path / "models").rglob("*") if path.is_file()} == before


def test_few_shot_compares_both_arms(encoder, tmp_path) -> None:
    arguments = {"steps": "3", "seeds": "[0,1]", "learning_rates": "[0.001]", "finetune_model_path": str(encoder)}
    pairs = [word for name, value in arguments.items() for word in (f"--{name}", value)]
    run("--config_file", configs("few_shot"), "--bundle_root", str(tmp_path), *pairs)
    result = json.loads((tmp_path / "out" / "few_shot" / "few_shot.json").read_text())
    assert list(result["arms"]) == ["pre-trained", "scratch"]
    assert result["protocol"]["image_size"] == 32
    assert result["protocol"]["mean"] == 0.4
    assert [draw["seed"] for draw in result["arms"]["scratch"]["draws"]] == [0, 1]


def test_a_patient_in_two_splits_stops_the_run_with_a_sentence(tmp_path) -> None:
    items = [
        {"image": item["image"], "label": item["label"], "patient": "same"} for item in segmentation_datalist("test")
    ]
    (tmp_path / "datalist.json").write_text(
        json.dumps({"training": items[:4], "validation": items[4:6], "test": items[6:8]})
    )
    command = [
        *LAUNCH,
        "run",
        "--config_file",
        configs("train"),
        "--bundle_root",
        str(tmp_path),
        "--dataset_dir",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "must be in one split only" in done.stderr


@pytest.mark.parametrize("variant", ["evaluate", "multi_gpu_train", "cpu_demo"])
def test_variants_change_only_what_train_has(variant) -> None:
    """MONAI accepts mistyped keys without an error."""
    base = ConfigParser(json.loads((CONFIGS / "train.json").read_text()))
    new = {"train#sampler", "train#dataloader#sampler", "validate#sampler", "validate#dataloader#sampler"}
    for key in json.loads((CONFIGS / f"{variant}.json").read_text()):
        if key.startswith("validate#additional_metrics") or key in new:
            continue
        assert base.get(key, "missing") != "missing", key


@pytest.mark.slow
def test_two_processes_train_together(tmp_path) -> None:
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle")
    output = run(
        "--config_file",
        configs("train", "cpu_demo", "multi_gpu_train"),
        "--bundle_root",
        str(tmp_path),
        *TINY,
        launch=launch,
    )
    assert "val_mean_dice" in output
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert not any(name.startswith("module.") for name in state), "weights load without the wrapper"
