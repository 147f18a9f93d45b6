"""Bundle generator: the written bundles equal their recipes, and one edit of the base reaches all of them."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import build_bundles  # noqa: E402

RECIPES = sorted((ROOT / "recipes" / "pretraining").glob("*.yaml"))


@pytest.fixture(scope="module")
def base():
    return {path.stem: build_bundles.read_yaml(path) for path in (ROOT / "recipes" / "base").glob("*.yaml")}


def test_the_written_bundles_are_up_to_date(capsys):
    assert build_bundles.main(["--check"]) == 0, f"run python tools/build_bundles.py\n{capsys.readouterr().out}"


def test_every_pretraining_bundle_has_a_recipe():
    folders = {path.name for path in (ROOT / "bundles").glob("cxr_*_pretraining")}
    assert folders == {f"cxr_{path.stem}_pretraining" for path in RECIPES}


def test_one_line_of_the_base_changes_the_schedule_of_every_bundle(base):
    changed = copy.deepcopy(base)
    changed["train"]["train"]["trainer"]["schedules"]["lr"]["warmup_epochs"] = "$2 * @warmup_epochs"
    for path in RECIPES:
        files = dict(build_bundles.build_pretraining(build_bundles.read_yaml(path), changed))
        schedule = json.loads(files["configs/train.json"])["train"]["trainer"]["schedules"]["lr"]
        assert schedule["warmup_epochs"] == "$2 * @warmup_epochs", path.stem


def test_handlers_are_a_literal_list_in_the_order_of_the_base(base):
    recipe = build_bundles.read_yaml(ROOT / "recipes" / "pretraining" / "popar.yaml")
    train = json.loads(dict(build_bundles.build_pretraining(recipe, base))["configs/train.json"])
    names = [handler["_target_"].rpartition(".")[2] for handler in train["train"]["handlers"]]
    expected = ["RunManifest", "NonFiniteGuard", "CollapseMonitor", "EncoderProbe", "TrainingLog", "MLflowTracker"]
    assert names == expected


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_no_file_addresses_a_handler_by_its_position(path, base):
    for name, content in build_bundles.build_pretraining(build_bundles.read_yaml(path), base):
        assert "handlers#" not in content, f"{path.stem}: {name} addresses a handler by its position"


def test_a_changed_class_replaces_the_arguments_of_the_old_one():
    old = {"network": {"_target_": "a.ResNet", "depth": 50}}
    assert build_bundles.merge(old, {"network": {"_target_": "a.ViT"}}) == {"network": {"_target_": "a.ViT"}}
    assert build_bundles.merge(old, {"network": {"depth": 18}})["network"] == {"_target_": "a.ResNet", "depth": 18}


def test_numbers_that_yaml_reads_as_text_are_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("train:\n  learning_rate: 1e-5\n")
    with pytest.raises(ValueError, match=r"recipe\.yaml: YAML reads train\.learning_rate: 1e-5 as text"):
        build_bundles.read_yaml(tmp_path / "recipe.yaml")


def test_a_readme_describes_only_arguments_that_exist(base):
    recipe = build_bundles.read_yaml(ROOT / "recipes" / "pretraining" / "peac.yaml")
    recipe["readme"]["arguments"].append({"nothing": "an argument that train.json does not have"})
    train = build_bundles.merge(base["train"], recipe["train"])
    with pytest.raises(ValueError, match=r"PEAC: the README describes \['nothing'\], which train\.json does not have"):
        build_bundles.build_readme("", recipe, train, base["arguments"])
