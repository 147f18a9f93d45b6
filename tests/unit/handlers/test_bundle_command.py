from __future__ import annotations

import json
import re
import sys

import pytest
from fire import Fire

from monai_anat.handlers import check_bundle_arguments, check_choice
from monai_anat.handlers.bundle_command import command_line_config, root_cause


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
    (tmp_path / "a.json").write_text(json.dumps({"batch_size": 4, "train": {"lr": "@batch_size"}, "x": "$1 + @extra"}))
    return str(tmp_path / "a.json")


def test_a_mistyped_argument_is_refused_with_the_one_that_is_meant(config):
    with pytest.raises(ValueError, match="--bacth_size is no argument of this bundle; --batch_size is; its README"):
        check_bundle_arguments(["run", "--config_file", config, "--bacth_size", "8"])
    with pytest.raises(ValueError, match="--quux is no argument of this bundle; its README"):
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


def test_nothing_is_touched_outside_of_a_bundle_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest", "--quux", "1"])
    before = sys.excepthook
    check_bundle_arguments()
    assert sys.excepthook is before


@pytest.mark.parametrize(
    ("text", "meant"),
    [("true", "True"), ("FALSE", "False"), ("false", "False"), ("null", "None"), ("[1, true]", "True")],
)
@pytest.mark.parametrize("form", ["apart", "joined"])
def test_constants_that_would_become_texts_are_refused_with_the_word_to_write(config, text, meant, form):
    """``--class_balance false`` is the text "false" for MONAI, which counts as true."""
    words = ["--batch_size", text] if form == "apart" else [f"--batch_size={text}"]
    with pytest.raises(ValueError, match=rf"--batch_size {re.escape(text)} would be taken for a text.*write {meant}$"):
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


def test_a_choice_that_there_is_not_is_refused_with_those_there_are():
    check_choice("select_by", "val_loss", ["val_loss", "val_auroc"])
    with pytest.raises(ValueError, match="select_by must be one of val_loss, val_auroc, got 'val_auc'"):
        check_choice("select_by", "val_auc", ["val_loss", "val_auroc"])


def failure() -> RuntimeError:
    try:
        try:
            try:
                raise KeyError("low level")
            except KeyError as error:
                raise ValueError("batch_size must be at least 1") from error
        except ValueError as error:
            raise RuntimeError("Failed to instantiate component 'x'") from error
    except RuntimeError as error:
        return error


def test_an_error_ends_in_our_sentence(config, capsys):
    check_bundle_arguments(["run", "--config_file", config])
    error = failure()
    assert str(root_cause(error)) == "batch_size must be at least 1"
    sys.excepthook(type(error), error, error.__traceback__)
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.endswith("The cause: ValueError: batch_size must be at least 1\n")
    sys.excepthook(ValueError, ValueError("plain"), None)
    assert "cause" not in capsys.readouterr().err
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "\nStopped by hand.\n"
