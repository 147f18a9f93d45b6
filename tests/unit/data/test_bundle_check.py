from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_anat.data import DatalistError, check_bundle


def test_lists_what_would_run_and_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    config = {
        "imports": ["$import os"],
        "device": "$torch.device('cpu')",
        "bad": f"$open({str(marker)!r}, 'w')",
        "network": {"_target_": "monai.networks.nets.BasicUNet", "x": [{"_target_": "os.system", "command": "x"}]},
        "short": {"_target_": "CrossEntropyLoss"},
        "own": {"_target_": "monai_anat.methods.PEACMethod"},
        "pickle": {"_target_": "torch.load", "f": "x"},
        "nested": {"_target_": "monai.bundle.ConfigWorkflow"},
        "plain": "text",
    }
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "train.json").write_text(json.dumps(config))
    (tmp_path / "configs" / "more.yaml").write_text(
        "a:\n  _target_: '%/etc/x.json::y'\nb: '%../x.json::y'\nc: '%a::b'\n"
    )
    (tmp_path / "configs" / "broken.json").write_text("{")
    found = check_bundle(tmp_path)
    assert not marker.exists()
    told = {(finding.kind, finding.key) for finding in found if finding.file == "configs/train.json"}
    assert told == {
        ("expression", "imports#0"),
        ("expression", "device"),
        ("expression", "bad"),
        ("target", "network#x#0#_target_"),
        ("target", "pickle#_target_"),
        ("target", "nested#_target_"),
    }
    assert [f.kind for f in found if f.file == "configs/broken.json"] == ["unreadable"]
    assert [f.key for f in found if f.file == "configs/more.yaml"] == ["a#_target_", "b"]
    assert "os.system" in str(next(f for f in found if "network" in f.key))


@pytest.mark.parametrize(
    "target",
    [
        "@x",
        "monai.utils.run_cmd",
        "monai.utils.misc.subprocess.Popen",
        "monai.utils.misc.os.system",
        "torch.nn.modules.module.warnings.sys.exit",
        "monai_anat.data.prepare.os.system",
        "ConfigParser",
        "Lambdad",
        "monai.transforms.utility.array.Lambda",
        "monai.apps.auto3dseg.AutoRunner",
        "run_cmd",
    ],
)
def test_ways_around_the_list_are_listed(tmp_path: Path, target: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"x": "os.system", "run": {"_target_": target, "command": "true"}}))
    assert [finding.text for finding in check_bundle(tmp_path)] == [target]


@pytest.mark.parametrize(
    "target",
    [
        "monai.transforms.Compose",
        "monai.networks.nets.unet.UNet",
        "monai_anat.data.radiograph_preprocessing",
        "torch.optim.AdamW",
        "torch.nn.Conv2d",
        "ignite.metrics.Accuracy",
    ],
)
def test_classes_of_known_packages_are_not_listed(tmp_path: Path, target: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"run": {"_target_": target}}))
    assert check_bundle(tmp_path) == []


def test_logging_configuration_is_read_too(tmp_path: Path) -> None:
    """Python evaluates its arguments, and a bundle run reads it unasked."""
    (tmp_path / "a.json").write_text("{}")
    plain = (
        "[handler_a]\nclass=StreamHandler\nargs=(sys.stdout,)\n[handler_b]\nclass=FileHandler\nargs=('a.log', 'w')\n"
    )
    (tmp_path / "logging.conf").write_text(plain + "[formatter_a]\nformat=%(message)s\n")
    assert check_bundle(tmp_path) == []
    bad = plain + "[handler_c]\nclass=mine.Handler\nargs=(__import__('os').system('true'),)\n"
    (tmp_path / "logging.conf").write_text(bad)
    assert [(f.kind, f.key) for f in check_bundle(tmp_path)] == [
        ("target", "handler_c#class"),
        ("expression", "handler_c#args"),
    ]
    (tmp_path / "logging.conf").write_text("no section")
    assert check_bundle(tmp_path)[0].kind == "unreadable"


def test_allow_list_is_an_argument(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"x": {"_target_": "mine.Net"}}')
    assert check_bundle(tmp_path)[0].text == "mine.Net"
    assert check_bundle(tmp_path, ["mine."]) == []


def test_folder_without_configurations(tmp_path: Path) -> None:
    with pytest.raises(DatalistError, match="JSON or YAML"):
        check_bundle(tmp_path)


def test_yaml_tags_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x: !!python/object/apply:os.system ['true']\n")
    assert check_bundle(tmp_path)[0].kind == "unreadable"
