"""Arguments of the command line: defaults, and values that are refused with their form."""

from __future__ import annotations

import importlib

import pytest

from monai_anat.cli.parser import build_parser

COMPLETE = {
    "prepare": ["source", "out"],
    "pretrain": ["peac"],
    "embed": ["encoder", "source", "out"],
    "evaluate": ["encoder", "--data", "list.json"],
    "convert": ["weights.pth", "out"],
    "verify": ["folder"],
    "demo": [],
}


@pytest.mark.parametrize("verb", COMPLETE)
def test_every_verb_names_a_function_that_exists(verb):
    module, _, function = build_parser().parse_args([verb, *COMPLETE[verb]]).run.partition(".")
    assert callable(getattr(importlib.import_module(f"monai_anat.cli.{module}"), function))


def test_shares_and_options_are_parsed():
    options = build_parser().parse_args(["prepare", "a", "b", "--splits", "training=0.8,test=0.2"])
    assert options.splits == {"training": 0.8, "test": 0.2}
    words = ["evaluate", "a", "--data", "b", "--set", "landmarks.max_sources=20", "--set", "encoder.name=mine"]
    options = build_parser().parse_args(words)
    assert options.set == [("landmarks", "max_sources", 20), ("encoder", "name", "mine")]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["prepare", "a", "b", "--splits", "0.5,0.5"], "must look like training=0.8,validation=0.2, got '0.5,0.5'"),
        (["evaluate", "a", "--data", "b", "--set", "x"], "must look like landmarks.max_sources=20, got 'x'"),
    ],
)
def test_other_forms_are_refused(words, sentence, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(words)
    assert sentence in capsys.readouterr().err
