"""Argument parser and entry point: help, errors, and how fast the help is."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from monai_anat import cli

VERBS = ("prepare", "pretrain", "embed", "evaluate", "convert", "verify", "demo")


def test_module_help_names_every_verb():
    result = subprocess.run([sys.executable, "-m", "monai_anat", "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert all(verb in result.stdout for verb in VERBS)


@pytest.mark.parametrize("words", [["--help"], *[[verb, "--help"] for verb in VERBS]], ids=" ".join)
def test_help_imports_neither_torch_nor_monai(words):
    code = (
        "import sys; sys.argv = ['monai-anat', *sys.argv[1:]]\n"
        "from monai_anat.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(' '.join(sorted({'torch', 'monai', 'numpy'} & set(sys.modules))))"
    )
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert "usage: monai-anat" in result.stdout
    assert result.stderr == ""


def test_help_takes_at_most_half_a_second_more_than_python_itself():
    def fastest(*words: str) -> float:
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            subprocess.run([sys.executable, *words], capture_output=True, check=False)
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    assert fastest("-m", "monai_anat", "--help") < fastest("-c", "pass") + 0.5


def test_unknown_arguments_and_missing_files_are_errors_of_use(caplog, tmp_path):
    assert cli.main(["evaluate", str(tmp_path), "--data", "x", "--protocols", "luck"]) == 2
    assert "monai-anat evaluate: " in caplog.text
    with pytest.raises(SystemExit):
        cli.main(["embed", "a", "b", "c", "--unknown"])
    with pytest.raises(ValueError, match="method must be one of"):
        cli.main(["--debug", "pretrain", "nothing"])
