"""Every pre-training bundle: what MONAI's own checks ask of it, and short real runs on the shipped radiographs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out
from monai.transforms import Transform

from monai_anat import networks
from monai_anat.methods import TeacherStudentMethod
from monai_anat.resources import bundle_names, bundle_path
from monai_anat.schedules import Progress
from monai_anat.transforms import RandAppearance, RandDistort
from monai_anat.transforms.elastic import ElasticDraw, displacement_field

# MONAI warns that a config can run code, and that a schema has no hash
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

BUNDLES = [name for name in bundle_names() if name.endswith("_pretraining")]
SCHEMA = Path(__file__).parents[1] / "reference" / "meta_schema_20240725.json"
#: small enough for seconds: 14 images, 2 epochs of 3 steps, 7 x 7 cells of 8 px
TINY = {
    "datalist": "$monai_anat.data.pretraining_datalist()[:14]",
    "image_size": 56,
    "batch_size": 4,
    "max_epochs": 2,
    "log_every": 1,
    "network_def": {
        "_target_": "monai_anat.networks.SwinBackbone",
        "patch_size": 4,
        "embed_dim": 16,
        "depths": [2, 2],
        "num_heads": [2, 4],
    },
}
TINY_VIT = {
    "_target_": "monai_anat.networks.ViTBackbone",
    "image_size": 56,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
}
RESNET = {"_target_": "monai_anat.networks.ResNetBackbone", "depth": 18}
#: what a bundle needs besides
TINY_OF: dict[str, dict[str, Any]] = {
    "cxr_ace_pretraining": {"image_size": 48, "num_prototypes": 64},  # an even number of cells
    "cxr_adam_pretraining": {"levels": [0, 2], "stage_epochs": [1, 1], "queue_size": 16},
    "cxr_adam_v2_pretraining": {
        "stages": [["L", 0], ["LCD", 0]],
        "stage_epochs": [1, 1],
        "local_size": 24,
        "num_prototypes": 64,
    },
    "cxr_beit_pretraining": {
        "cell_size": 8,
        "min_cells": 4,
        "stage_epochs": [1, 1],
        "num_tokens": 32,
        "network_def": TINY_VIT,
    },
    "cxr_lamps_pretraining": {"image_size": 48, "kept": 4, "num_prototypes": 64},  # an even number of cells
    # its two networks see the joint batch image by image
    "cxr_dira_pretraining": {"stage_epochs": [1, 1], "queue_size": 16, "decoder_norm": "instance"},
    "cxr_dino_pretraining": {"local_size": 24, "num_prototypes": 64},
    "cxr_mae_pretraining": {
        "cell_size": 8,
        "network_def": TINY_VIT,
    },
    "cxr_moco_v2_pretraining": {"queue_size": 16},
    "cxr_simmim_pretraining": {"cell_size": 8},
    # batch normalization over four embeddings magnifies rounding, and so does Adam where a gradient is 0: small steps
    "cxr_barlow_twins_pretraining": {"optimizer": "sgd", "learning_rate": 1e-6},
    "cxr_mlvicx_pretraining": {"learning_rate": 1e-4},
    "cxr_moco_v3_pretraining": {"learning_rate": 1e-4},
    "cxr_vicreg_pretraining": {"optimizer": "sgd", "learning_rate": 1e-6},
    "cxr_peac_pretraining": {"margin": 2},
}


def files_of(name: str) -> list[Path]:
    return sorted((bundle_path(name) / "configs").glob("*.json"))


def config_of(name: str, *files: str) -> list[str]:
    return [str(bundle_path(name) / "configs" / f"{file}.json") for file in files]


def keys_of(config: Any, prefix: str = "") -> set[str]:
    """Every key of a configuration, nested ones joined by #; what stands below a ``_target_`` is that class's own."""
    keys: set[str] = set()
    if isinstance(config, dict):
        for key, value in config.items():
            keys |= {prefix + key} | keys_of(value, f"{prefix}{key}#")
    elif isinstance(config, list):
        for number, value in enumerate(config):
            keys |= {f"{prefix}{number}"} | keys_of(value, f"{prefix}{number}#")
    return keys


@pytest.mark.parametrize("name", BUNDLES)
def test_metadata_follows_the_schema(name):
    verify_metadata(meta_file=str(bundle_path(name) / "configs" / "metadata.json"), filepath=str(SCHEMA))
    metadata = json.loads((bundle_path(name) / "configs" / "metadata.json").read_text())
    for key in ("references", "intended_use", "data_source"):
        assert metadata[key], f"{key} is empty"


@pytest.mark.parametrize("name", BUNDLES)
def test_variants_only_change_what_train_has(name):
    """MONAI takes a mistyped key silently."""
    known = keys_of(json.loads((bundle_path(name) / "configs" / "train.json").read_text()))
    for path in files_of(name):
        if path.stem in ("train", "inference", "metadata"):
            continue
        for key in json.loads(path.read_text()):
            parent, _, leaf = key.removeprefix("+").rpartition("#")
            arguments = leaf in ("_target_", "progress", "every", "by_epoch")
            assert key.removeprefix("+") in known or (arguments and parent in known), f"{path.name}: {key}"


@pytest.mark.parametrize(
    "method", ["barlow_twins", "beit", "dino", "mae", "moco_v2", "moco_v3", "simmim", "simsiam", "vicreg"]
)
def test_every_baseline_can_have_the_distortions_of_the_anatomy_methods(method):
    parser = ConfigParser()
    parser.read_config(config_of(f"cxr_{method}_pretraining", "train", "distorted"))
    assert isinstance(parser.get_parsed_content("train#preprocessing").distorter, RandDistort)


@pytest.mark.parametrize(
    "method", ["adam", "adam_v2", "barlow_twins", "dino", "dira", "lamps", "moco_v2", "moco_v3", "simsiam", "vicreg"]
)
def test_views_are_blurred_by_their_size(method):
    """2 pixels at most are published for 224 (Lamps: .8 to 1.4 for 448); beside each other, methods must not differ."""
    least, most, published = (0.8, 1.4, 448) if method == "lamps" else (0.1, 2.0, 224)
    for size in (published, published // 2):
        parser = ConfigParser()
        parser.read_config(config_of(f"cxr_{method}_pretraining", "train"))
        parser["image_size"] = size
        if method == "lamps":
            parser["cell_size"] = size // 14
        found = appearances_of(parser.get_parsed_content("train#preprocessing"))
        scale = size / published
        assert {tuple(appearance.blur_sigma) for appearance in found} == {
            (least * scale if method == "lamps" else least, most * scale)
        }


def appearances_of(views):
    """Every change of appearance that a transform holds."""
    if isinstance(views, RandAppearance):
        return [views]
    if isinstance(views, Transform):
        return appearances_of(list(vars(views).values()))
    if isinstance(views, dict):
        return appearances_of(list(views.values()))
    return [found for part in views for found in appearances_of(part)] if isinstance(views, list | tuple) else []


#: epochs, batch, optimizer, rate, weight decay, teacher momentum, drop path, eps: as published, but for the optimizer
#: and the batch of PEAC, about which its scripts contradict each other
RECIPES = {
    "cxr_popar_pretraining": (2000, 256, "sgd", 0.1, 0.0, None, 0.1, 1e-5),
    "cxr_peac_pretraining": (400, 64, "adamw", 5e-4 * 64 / 256, 0.05, 0.999, 0.1, 1e-5),
    "cxr_lamps_pretraining": (302, 16, "adamw", 5e-4 * 16 / 256, 0.04, 0.996, 0.2, 1e-6),
    "cxr_ace_pretraining": (302, 16, "adamw", 5e-4 * 16 / 256, 0.04, 0.996, 0.2, 1e-6),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_of_a_swin_method_is_the_published_one(name):
    parser = ConfigParser()
    parser.read_config(config_of(name, "train"))
    rate, network = parser.get_parsed_content("learning_rate"), parser["network_def"]
    momentum = parser.get().get("teacher_momentum")
    recipe = (
        *(parser[key] for key in ("max_epochs", "batch_size", "optimizer")),
        rate,
        parser["weight_decay"],
        momentum,
    )
    assert (*recipe, network["drop_path_rate"], network["norm_eps"]) == RECIPES[name]
    schedule = parser.get_parsed_content("train#trainer#schedules#lr")
    epochs, warmup = parser["max_epochs"], parser["warmup_epochs"]
    by_epoch = name in ("cxr_popar_pretraining", "cxr_peac_pretraining")
    assert warmup == (5 if by_epoch else 10)
    # in the middle of the last epoch of the warm-up the rate is full, or still rising
    last = schedule(Progress(warmup - 1, epochs, 10 * warmup - 5, 10 * epochs))
    assert (last == rate) if by_epoch else (0.9 * rate < last < rate)


def test_lamps_deforms_small_views_as_much_as_large_ones_for_their_size():
    shares = []
    for side in (448, 112):
        parser = ConfigParser()
        parser.read_config(config_of("cxr_lamps_pretraining", "train"))
        parser["image_size"] = side
        lengths = (parser.get_parsed_content(f"elastic_{name}") for name in ("magnitude", "smoothness"))
        still = ElasticDraw(np.zeros((3, 2)), *lengths, seed=0)
        shares.append(displacement_field((side, side), still).std().item() / side)
    assert shares[1] == pytest.approx(shares[0], rel=0.1)


@pytest.mark.parametrize("name", BUNDLES)
def test_inference_has_the_network_of_train_where_there_is_no_record(name, tmp_path):
    train, inference = (json.loads(Path(file).read_text()) for file in config_of(name, "train", "inference"))
    drop_path = {"drop_path_rate"}
    assert {k: v for k, v in train["network_def"].items() if k not in drop_path} == inference["network_def"]
    parser = ConfigParser({**inference, "encoder_dir": str(tmp_path), "imports": ["$import monai_anat"]})
    for key in ("image_size", "mean", "std"):
        assert parser.get_parsed_content(key) == train[key]


@pytest.mark.parametrize("name", ["cxr_peac_pretraining", "cxr_mlvicx_pretraining"])
def test_inference_takes_network_size_and_statistics_from_the_record(name, tmp_path):
    """An encoder of cpu_demo, or of any other variant, is embedded by inference.json as it stands."""
    encoder = networks.ViTBackbone(image_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2)
    networks.save_encoder(encoder, tmp_path, image_size=32, mean=0.4, std=0.3)
    parser = ConfigParser()
    parser.read_config(config_of(name, "inference"))
    parser["encoder_dir"], parser["device"] = str(tmp_path), "cpu"
    assert parser.get_parsed_content("image_size") == 32
    assert (parser.get_parsed_content("mean"), parser.get_parsed_content("std")) == (0.4, 0.3)
    assert parser.get_parsed_content("network").config == encoder.config


@pytest.mark.parametrize("name", BUNDLES)
def test_targets_are_full_public_names_and_short_ones_resolve(name):
    """``$import monai_anat`` is enough for ``"_target_": "PEACMethod"``."""
    parser = ConfigParser()
    parser.read_config(config_of(name, "train"))
    import_line = parser["imports"]
    assert "$import monai_anat" in import_line

    def targets(config: Any) -> list[str]:
        if isinstance(config, dict):
            own = [config["_target_"]] if "_target_" in config else []
            return own + [t for value in config.values() for t in targets(value)]
        return [t for value in config for t in targets(value)] if isinstance(config, list) else []

    for target in targets(parser.get()):
        assert target.startswith(("monai_anat.", "monai.")), target
        short = target.rpartition(".")[2]
        if target.startswith("monai_anat.") and short[0].isupper():
            located = ConfigParser({"x": {"_target_": short, "_mode_": "callable"}}).get_parsed_content("x")
            assert located.__module__.startswith("monai_anat."), f"{short} resolves to {located}"


@pytest.mark.parametrize("name", BUNDLES)
def test_properties_are_complete(name, tmp_path):
    for kind, files in (("train", ("train", "cpu_demo")), ("inference", ("inference",))):
        tiny = {**TINY, **TINY_OF.get(name, {}), "output_dir": str(tmp_path)}
        options = tiny if kind == "train" else {key: TINY[key] for key in ("datalist", "network_def")}
        workflow = ConfigWorkflow(
            config_file=config_of(name, *files),
            meta_file=config_of(name, "metadata")[0],
            logging_file=None,
            workflow_type=kind,
            **options,
        )
        workflow.initialize()
        assert workflow.check_properties() == []


def weights_file(path: Path, definition: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Write weights for the network of a configuration as they are published, for color images, with a classifier."""
    definition = {**definition.get("backbone", definition)}  # without the gates of a GatedBackbone
    swin, resnet = (definition["_target_"].endswith(kind) for kind in ("SwinBackbone", "ResNetBackbone"))
    torch.manual_seed(1)
    network = ConfigParser({**definition, "in_channels": 3 if swin or resnet else 1}).get_parsed_content()
    state = network.state_dict()
    head = {"fc.weight": torch.zeros(10, 512)} if resnet else {"head.weight": torch.zeros(10, 8)} if swin else {}
    torch.save({"model": state | head} if swin else state | head, path)
    return {key: value for key, value in state.items() if not key.startswith(("patch_embed", "conv1", "bn1"))}


@pytest.mark.parametrize("name", BUNDLES)
def test_it_starts_from_the_weights_that_init_names(name, tmp_path):
    tiny = {**TINY, **TINY_OF.get(name, {}), "output_dir": str(tmp_path), "init": str(tmp_path / "weights.pth")}
    definition = {**tiny["network_def"], "image_size": 56} if "ViT" in str(tiny["network_def"]) else tiny["network_def"]
    expected = weights_file(tmp_path / "weights.pth", definition)
    workflow = ConfigWorkflow(
        config_file=config_of(name, "train", "cpu_demo"), logging_file=None, workflow_type="train", **tiny
    )
    workflow.initialize()
    method = workflow.parser.get_parsed_content("method")
    encoder = method.export_networks()["encoder"].state_dict()
    pairs = method.student_teacher_pairs() if isinstance(method, TeacherStudentMethod) else []
    for key, value in expected.items():
        assert torch.equal(encoder.get(f"backbone.{key}", encoder.get(key)), value), key
    for student, teacher in pairs:
        assert all(torch.equal(*both) for both in zip(student.parameters(), teacher.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("cxr_peac_pretraining", TINY["network_def"]),
        ("cxr_lamps_pretraining", TINY["network_def"]),
        ("cxr_adam_pretraining", RESNET),
        ("cxr_mlvicx_pretraining", {"_target_": "monai_anat.networks.GatedBackbone", "backbone": RESNET}),
    ],
)
def test_the_real_command_starts_from_published_weights(name, network, tmp_path):
    expected = weights_file(tmp_path / "weights.pth", network)
    words = ("--init", str(tmp_path / "weights.pth"), "--network_def", json.dumps(network), "--learning_rate", "0.0")
    said = run(tmp_path / "run", name, *words)
    assert "tensors loaded" in said
    encoder = networks.load_encoder(tmp_path / "run" / "encoder").state_dict()
    for key in (key for key in expected if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))):
        got = encoder.get(f"backbone.{key}", encoder.get(key))
        torch.testing.assert_close(got, expected[key], rtol=0, atol=1e-5, msg=key)  # a schedule may end above 0


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if "peac" in n else [pytest.mark.slow]) for n in BUNDLES])
def test_network_takes_and_gives_what_the_metadata_say(name):
    verify_net_in_out(
        net_id="network_def",
        meta_file=config_of(name, "metadata")[0],
        config_file=config_of(name, "inference")[0],
        device="cpu",
    )


def run(
    folder: Path, name: str, *words: str, processes: int = 1, files: tuple[str, ...] = ("train", "cpu_demo")
) -> str:
    """Run the bundle's real command on the tiny settings."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny = {**TINY, **TINY_OF.get(name, {})}
    (folder / "tiny.json").write_text(json.dumps(tiny))
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    configs = [*config_of(name, *files), str(folder / "tiny.json")]
    command = [sys.executable, "-W", "ignore", *torchrun, "-m", "monai.bundle", "run", "--config_file", str(configs)]
    command += ["--bundle_root", str(bundle_path(name)), "--output_dir", str(folder / "out")]
    command += [
        "--encoder_dir",
        str(folder / "encoder"),
        "--logging_file",
        config_of(name, "train")[0][:-10] + "logging.conf",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, *words], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
    return result.stdout + result.stderr


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if "peac" in n else [pytest.mark.slow]) for n in BUNDLES])
def test_real_command_leaves_an_encoder_a_log_and_a_manifest(name, tmp_path):
    run(tmp_path, name)
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in lines) == 6
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in lines if "loss" in line)
    assert any("effective_rank" in line for line in lines)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())["starts"][0]
    assert manifest["config"]["max_epochs"] == 2
    assert manifest["data"]["items"] == 14
    encoder = networks.load_encoder(tmp_path / "encoder")
    assert encoder(torch.zeros(1, 1, 56, 56)).shape == (1, 32, 7, 7)
    state = torch.load(tmp_path / "encoder" / "model.pt", weights_only=True)
    assert state.keys() == encoder.state_dict().keys()
    again = run(tmp_path, name)
    assert "The run is complete (6 of 6 steps)" in again


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if "peac" in n else [pytest.mark.slow]) for n in BUNDLES])
def test_torchrun_on_two_processes_repeats_one(name, tmp_path):
    words = ("--precision", "fp32")
    run(tmp_path / "one", name, *words)
    run(tmp_path / "two", name, *words, processes=2, files=("train", "cpu_demo", "multi_gpu_train"))
    one, two = (networks.load_encoder(tmp_path / folder / "encoder").state_dict() for folder in ("one", "two"))
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=2e-3, atol=2e-4)
    assert len(list((tmp_path / "two" / "out" / "checkpoints").glob("*.pt"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
def test_encoder_exports_to_torchscript_and_onnx(name, tmp_path):
    """The network of inference.json, with the weights that pre-training leaves, at the published size."""
    root = bundle_path(name)
    network = ConfigParser(json.loads((root / "configs" / "inference.json").read_text())["network_def"])
    encoder = network.get_parsed_content()
    torch.save(encoder.state_dict(), tmp_path / "model.pt")
    common = ["--net_id", "network_def", "--meta_file", str(root / "configs" / "metadata.json"), "--ckpt_file"]
    common += [str(tmp_path / "model.pt"), "--config_file", str(root / "configs" / "inference.json")]
    for verb, words in (
        (
            "ckpt_export",
            ["--filepath", str(tmp_path / "model.ts")],  # scripted, the default of MONAI's model zoo
        ),
        ("onnx_export", ["--filepath", str(tmp_path / "model.onnx"), "--input_shape", "[1,1,448,448]"]),
    ):
        command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", verb, *common, *words]
        result = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
    assert (tmp_path / "model.ts").stat().st_size > 4 * sum(p.numel() for p in encoder.parameters())
    assert (tmp_path / "model.onnx").exists()
