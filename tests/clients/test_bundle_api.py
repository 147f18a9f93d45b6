"""``monai.bundle``'s functions read both fine-tuning bundles from any directory, and change nothing by reading."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, create_workflow

from monai_anat.networks import read_encoder_record

BUNDLES = Path(__file__).parents[2] / "bundles"
NAMES = ("cxr_lung_segmentation", "cxr_classification")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def fingerprint(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["inference", "train"])
def test_load_gives_the_shipped_weights_and_writes_nothing(name, kind, elsewhere) -> None:
    before = fingerprint(BUNDLES / name)
    override = {"num_classes": 4} if (name, kind) == ("cxr_classification", "train") else {}
    network = monai.bundle.load(name, bundle_dir=str(BUNDLES), workflow_type=kind, net_override=override)
    weights = torch.load(BUNDLES / name / "models" / "model.pt", weights_only=True)
    state = network.state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[key], value.to(state[key].dtype)) for key, value in weights.items())
    assert not any(elsewhere.iterdir())
    assert fingerprint(BUNDLES / name) == before


def test_a_head_of_other_classes_is_an_error(elsewhere) -> None:
    with pytest.raises(ValueError, match="2 of 100 tensors would keep random values"):
        monai.bundle.load("cxr_classification", bundle_dir=str(BUNDLES), workflow_type="train")


@pytest.mark.parametrize("name", NAMES)
def test_initializing_a_training_replaces_nothing(name, elsewhere) -> None:
    before = fingerprint(BUNDLES / name)
    files = [str(BUNDLES / name / "configs" / f"{config}.json") for config in ("train", "cpu_demo")]
    create_workflow(config_file=files, workflow_type="train", bundle_root=str(BUNDLES / name))
    create_workflow(config_file=files, workflow_type="train")
    assert fingerprint(BUNDLES / name) == before
    assert not any(elsewhere.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_inference_runs_from_any_directory(name, elsewhere) -> None:
    workflow = ConfigWorkflow(str(BUNDLES / name / "configs" / "inference.json"), workflow_type="infer")
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    written = [path for path in elsewhere.rglob("*") if path.is_file()]
    assert written and all(path.is_relative_to(elsewhere / "out") for path in written)


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_carries_the_record_of_the_shipped_model(name) -> None:
    """An exported file has no folder beside it."""
    config = json.loads((BUNDLES / name / "configs" / "inference.json").read_text())
    record = json.loads((BUNDLES / name / "models" / "encoder" / "encoder.json").read_text())
    assert config["shipped_record"] == record


@pytest.mark.parametrize("name", NAMES)
def test_the_path_of_the_model_zoo_verifier(name, elsewhere) -> None:
    """Its checks in its order: metadata, properties, network, TorchScript by scripting, the exported file."""
    configs, models = BUNDLES / name / "configs", BUNDLES / name / "models"
    meta, inference = str(configs / "metadata.json"), str(configs / "inference.json")
    schema = Path(__file__).parents[1] / "reference" / "meta_schema_20240725.json"
    monai.bundle.verify_metadata(meta_file=meta, filepath=str(schema))
    for kind, config in (("train", configs / "train.json"), ("infer", configs / "inference.json")):
        workflow = ConfigWorkflow(str(config), workflow_type=kind, logging_file=False)
        workflow.initialize()
        assert workflow.check_properties() == []
    monai.bundle.verify_net_in_out(
        net_id="network_def", meta_file=meta, config_file=inference, device="cpu", bundle_root=str(BUNDLES / name)
    )
    monai.bundle.ckpt_export(
        filepath=str(elsewhere / "model.ts"),
        ckpt_file=str(models / "model.pt"),
        meta_file=meta,
        config_file=inference,
        bundle_root=str(BUNDLES / name),
    )
    side = read_encoder_record(models / "encoder").image_size[0]
    exported, extra = torch.jit.load(elsewhere / "model.ts", _extra_files=(found := {"inference.json": ""})), found
    assert json.loads(extra["inference.json"])["shipped_record"]["image_size"] == [side, side]
    network = monai.bundle.load(name, bundle_dir=str(BUNDLES), workflow_type="inference").eval()
    image = torch.rand(3, 1, side, side)
    with torch.no_grad():
        torch.testing.assert_close(exported(image), network(image), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_onnx_takes_any_batch_size(name, elsewhere) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    bundle = BUNDLES / name
    arguments = json.loads((bundle / "configs" / "onnx_export.json").read_text())
    for key in ("ckpt_file", "meta_file", "config_file"):
        arguments[key] = str(bundle / arguments[key])
    monai.bundle.onnx_export(**{**arguments, "filepath": str(elsewhere / "model.onnx")})
    session = onnxruntime.InferenceSession(elsewhere / "model.onnx")
    network = monai.bundle.load(name, bundle_dir=str(BUNDLES), workflow_type="inference").eval()
    for batch in (1, 3):
        image = torch.rand(batch, *arguments["input_shape"][1:])
        [out] = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(out, network(image).numpy(), atol=1e-3, rtol=1e-2)
