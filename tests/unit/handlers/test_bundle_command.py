from __future__ import annotations

import json
import re
import sys

import pytest
from fire import Fire

from monai_anat.handlers import check_bundle_arguments, check_choice
from monai_anat.handlers.bundle_command import command_line_config
from monai_anat.handlers.error_causes import show_root_cause
from monai_anat.resources import bundle_names, bundle_path


def test_config_of_a_bundle_command(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"lr": 1.0, "train": {"n": 1, "m": 2}}))
    (tmp_path / "b.json").write_text(json.dumps({"lr": 2.0}))
    files = str([str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    arguments = ["run", "--config_file", files, "--train#n", "5", "--name=x y", "--logging_file", "l.conf"]
    assert command_line_config(arguments) == {"lr": 2.0, "train": {"n": 5, "m": 2}, "name": "x y"}
    assert command_line_config(["pytest", "-q"]) == {}


def test_words_are_read_as_fire_reads_them(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    words = ["run", f"--config_file={tmp_path / 'a.json'}", "--compile", "--init", "None", "--batch-size", "-1"]
    assert command_line_config(words) == {"compile": True, "init": None, "batch_size": -1}


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    (tmp_path / "a.json").write_text(
        json.dumps({"batch_size": 4, "train": {"lr": "@batch_size"}, "x": "$1 + @extra", "run": ["$@train", "$@x"]})
    )
    return str(tmp_path / "a.json")


def test_a_mistyped_argument_is_refused_with_the_one_that_is_meant(config):
    with pytest.raises(ValueError, match=r"unknown argument --bacth_size; did you mean --batch_size\? The bundle"):
        check_bundle_arguments(["run", "--config_file", config, "--bacth_size", "8"])
    with pytest.raises(ValueError, match=r"unknown argument --quux\? The bundle's README"):
        check_bundle_arguments(["run", "--config_file", config, "--quux", "8"])


@pytest.mark.parametrize(
    "words",
    [
        ["--batch_size", "8"],
        ["--train#lr", "0.1"],
        ["--train::new", "0.1"],
        ["--tracking", "mlflow", "--experiment_name", "mine", "--meta_file", "m.json", "--run_id", "evaluate"],
        ["--extra", "1"],
        ["--side", "64", "--batch_size", "$2 * @side"],
    ],
)
def test_known_arguments_and_those_that_others_refer_to_are_taken(config, words):
    check_bundle_arguments(["run", "--config_file", config, *words])


def test_nothing_changes_outside_of_a_bundle_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest", "--quux", "1"])
    before = sys.excepthook
    check_bundle_arguments()
    assert sys.excepthook is before


@pytest.mark.parametrize(
    ("text", "meant"),
    [("true", "True"), ("FALSE", "False"), ("false", "False"), ("null", "None"), ("[1, true]", "True")],
)
@pytest.mark.parametrize("form", ["apart", "joined"])
def test_constants_that_would_be_read_as_text_are_refused_with_the_right_word(config, text, meant, form):
    """``--class_balance false`` is the text "false" for MONAI, which counts as true."""
    words = ["--batch_size", text] if form == "apart" else [f"--batch_size={text}"]
    with pytest.raises(ValueError, match=rf"--batch_size {re.escape(text)} would be read as text.*write {meant}$"):
        check_bundle_arguments(["run", "--config_file", config, *words])


@pytest.mark.parametrize(
    "text", ["True", "False", "None", "none", "['true', 1]", "true-to-life", "$not true", "/null/a"]
)
def test_constants_of_python_and_real_texts_are_taken(config, text):
    check_bundle_arguments(["run", "--config_file", config, "--batch_size", text])


@pytest.mark.parametrize(
    "text", ["true", "[a, true]", "{'a': None}", "(1, 2)", "1e-3", "05", "'5'", "a b", "$x + 1", "-1"]
)
def test_the_check_reads_values_as_the_run_does(tmp_path, text):
    (tmp_path / "a.json").write_text("{}")
    read = command_line_config(["run", "--config_file", str(tmp_path / "a.json"), "--value", text])["value"]
    run = Fire(lambda **pairs: pairs, ["--value", text], serialize=lambda _: "")["value"]
    assert (type(read), read) == (type(run), run)


def test_an_unknown_choice_is_refused_with_the_known_ones():
    check_choice("select_by", "val_loss", ["val_loss", "val_auroc"])
    with pytest.raises(ValueError, match="select_by must be one of val_loss, val_auroc, got 'val_auc'"):
        check_choice("select_by", "val_auc", ["val_loss", "val_auroc"])


LIST = {"images": "$load(@dataset_dir)", "dataset_dir": "/data", "run": ["$@train#trainer.run()"]}
TRAINER = {"trainer": {"data": "@images", "out": "$str(@output_dir) + '/x'"}, "other": {"lr": "@unused"}}


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A bundle whose demonstration replaces the list that reads ``dataset_dir``."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    (tmp_path / "train.json").write_text(json.dumps({**LIST, "train": TRAINER, "output_dir": "out", "unused": 1}))
    (tmp_path / "demo.json").write_text(json.dumps({"images": "$sample()", "dataset_dir": "$folder()"}))
    return tmp_path


def words_of(folder, *names: str) -> list[str]:
    return ["run", "--config_file", str([str(folder / f"{name}.json") for name in names])]


def test_an_argument_that_a_variant_disconnects_is_refused_with_the_variant(bundle):
    check_bundle_arguments([*words_of(bundle, "train"), "--dataset_dir", "mine"])
    with pytest.raises(
        ValueError,
        match=r"--dataset_dir has no effect: nothing that this command runs uses 'dataset_dir' "
        r"\('images' used it and is replaced by demo.json\)",
    ):
        check_bundle_arguments([*words_of(bundle, "train", "demo"), "--dataset_dir", "mine"])
    with pytest.raises(ValueError, match="'images' used it and is replaced by --images"):
        check_bundle_arguments([*words_of(bundle, "train"), "--dataset_dir", "mine", "--images", "[1]"])
    check_bundle_arguments(
        [*words_of(bundle, "train", "demo"), "--images", "$mine(@dataset_dir)", "--dataset_dir", "a"]
    )


@pytest.mark.parametrize("key", ["unused", "train#other#lr", "train::other", "train#nothing"])
def test_an_argument_that_nothing_uses_is_refused(bundle, key):
    with pytest.raises(ValueError, match=f"--{key} has no effect"):
        check_bundle_arguments([*words_of(bundle, "train"), f"--{key}", "1"])


def test_only_what_this_command_runs_counts(bundle):
    (bundle / "more.json").write_text(json.dumps({"check": ["$@unused"]}))
    words = words_of(bundle, "train", "more")
    for extra in (["--run_id", "check"], ["--init_id", "check"]):
        check_bundle_arguments([*words, *extra, "--unused", "2"])
    check_bundle_arguments(["run", "check", *words[1:], "--unused", "2"])
    with pytest.raises(ValueError, match="--unused has no effect"):
        check_bundle_arguments([*words, "--unused", "2"])


def test_arguments_of_a_file_count_as_those_of_the_command(bundle):
    (bundle / "args.json").write_text(json.dumps({"config_file": str(bundle / "train.json"), "unused": 2}))
    with pytest.raises(ValueError, match="--unused has no effect"):
        check_bundle_arguments(["run", "--args_file", str(bundle / "args.json")])


def test_a_folder_whose_name_is_a_number(bundle):
    check_bundle_arguments([*words_of(bundle, "train"), "--output_dir", "20241130"])
    for text in ("2024_11_30", "1e5"):
        with pytest.raises(ValueError, match=rf"{text} is read as a .* and not as a path; write \./{text}"):
            check_bundle_arguments([*words_of(bundle, "train"), "--output_dir", text])
    with pytest.raises(ValueError, match=r"--dataset_dir 7 is read as a int and not as a path; write \./7"):
        check_bundle_arguments([*words_of(bundle, "train"), "--dataset_dir", "7"])


@pytest.mark.parametrize("name", [name for name in bundle_names() if name.endswith("_pretraining")])
def test_the_demonstrations_refuse_images_that_they_would_not_use(name, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    configs = bundle_path(name) / "configs"
    check_bundle_arguments([*words_of(configs, "train"), "--dataset_dir", "mine", "--output_dir", "20241130"])
    with pytest.raises(ValueError, match=r"--dataset_dir has no effect.*'datalist' used it.*replaced by cpu_demo.json"):
        check_bundle_arguments([*words_of(configs, "train", "cpu_demo"), "--dataset_dir", "mine"])


def test_every_argument_that_a_readme_lists_has_an_effect(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    for name in bundle_names():
        if not name.endswith("_pretraining"):
            continue
        table = re.findall(r"^\| `(\w+)` \|", (bundle_path(name) / "docs" / "README.md").read_text(), re.MULTILINE)
        assert table
        for argument in table:
            check_bundle_arguments([*words_of(bundle_path(name) / "configs", "train"), f"--{argument}", "x1"])


def test_an_error_is_followed_by_its_root_cause(config, capsys):
    check_bundle_arguments(["run", "--config_file", config])
    assert sys.excepthook is show_root_cause
