"""Commands and code on the pages: verbs, options, configuration files and keys exist; Python blocks run."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_anat.cli.parser import build_parser

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "benchmarks" / "results").glob("*.md"),
        *(ROOT / "bundles").glob("*/docs/README.md"),
    ]
)
#: pages whose Python needs nothing but the package
RUNNABLE = ("guides/transforms.md", "guides/evaluate.md", "concepts/correspondence.md", "datasets/sample.md")
#: arguments of ``python -m monai.bundle run`` itself and of its trackers
BUNDLE_ARGUMENTS = {"config_file", "bundle_root", "meta_file", "logging_file", "tracking", "net_id", "filepath"}
BUNDLE_ARGUMENTS |= {"ckpt_file", "input_shape", "args_file", "workflow_type"}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands_of(page: Path) -> Iterator[list[str]]:
    """Words of every command in the shell blocks of a page, after the comments are removed."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        lines = [line for line in block.splitlines() if not line.lstrip().startswith("#")]
        for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
            if line.strip():
                yield shlex.split(line, comments=True)


def settings_of(bundle: Path, files: list[str]) -> set[str]:
    """Top-level keys of a bundle's configuration files."""
    return {key for file in files for key in json.loads((bundle / file).read_text(encoding="utf-8"))}


def check_overrides(words: list[str], known: set[str]) -> None:
    for word in words:
        if word.startswith("--"):
            name = re.split("#|::|=", word[2:])[0]
            assert name in known, f"{word} is not an argument of this command"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_verbs_and_options_exist(page):
    for words in commands_of(page):
        if words[:3] != ["python", "-m", "monai_anat"] and words[:1] != ["monai-anat"]:
            continue
        arguments = words[3:] if words[0] == "python" else words[1:]
        if arguments[0].isupper() or arguments == ["VERB", "--help"] or "--help" in arguments:
            continue
        options, rest = build_parser().parse_known_args(arguments)
        if options.verb == "pretrain" and options.method.isidentifier() and options.method.islower():
            bundle = ROOT / "bundles" / f"cxr_{options.method}_pretraining"
            files = [f"configs/{file}.json" for file in ("train", *options.variant)]
            check_overrides(rest, settings_of(bundle, files) | BUNDLE_ARGUMENTS)
        elif options.verb != "pretrain":
            assert not rest


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_keys_of_bundle_commands_exist(page):
    folder = page.parents[1] if page.name == "README.md" and page.parent.name == "docs" else ROOT
    for words in commands_of(page):
        if words[0] == "cd":
            folder = (folder / words[1]).resolve() if words[1].startswith("..") else ROOT / words[1]
        if "monai.bundle" not in words or "--config_file" not in words:
            continue
        text = words[words.index("--config_file") + 1]
        files = re.findall(r"[\w./-]+\.json", text)
        assert files, words
        if files[0].startswith("/"):  # a path inside a container
            continue
        base = folder if files[0].startswith("configs/") else ROOT
        for file in files:
            assert (base / file).is_file(), f"{page.name}: {file} of {base.name}"
        position = words.index("monai.bundle")
        check_overrides(words[position + 1 :], settings_of(base, files) | BUNDLE_ARGUMENTS)


@pytest.mark.parametrize("name", RUNNABLE)
def test_python_of_the_page_runs(name):
    names: dict = {}
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)):
        exec(compile(block, f"{name}, block {number}", "exec"), names)


def test_a_wrong_command_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```sh\npython -m monai_anat embed a b c --colour\n```\n")
    with pytest.raises(AssertionError):
        test_verbs_and_options_exist(page)
    page.write_text("```sh\npython -m monai_anat pretrain peac --learnig_rate 1\n```\n")
    with pytest.raises(AssertionError, match="learnig_rate"):
        test_verbs_and_options_exist(page)
    run = "python -m monai.bundle run --config_file configs/no.json"
    page.write_text(f"```sh\ncd bundles/cxr_peac_pretraining\n{run}\n```\n")
    with pytest.raises(AssertionError, match=r"no\.json"):
        test_files_and_keys_of_bundle_commands_exist(page)
