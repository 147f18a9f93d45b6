"""Tutorials: each notebook has the cells of its script and ran without error."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("build_notebooks", ROOT / "tools" / "build_notebooks.py")
assert SPEC is not None
assert SPEC.loader is not None
build_notebooks = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build_notebooks)
FOLDER = Path(__file__).parents[2] / "tutorials"
SCRIPTS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def cells_of(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_there_are_tutorials():
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_has_the_cells_of_its_script(script):
    notebook = script.with_suffix(".ipynb")
    assert notebook.exists(), f"make it: python tools/build_notebooks.py {script.stem}"
    assert cells_of(nbformat.read(notebook, as_version=4)) == cells_of(jupytext.read(script))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_committed_notebook_ran_without_error(script):
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_tutorial_runs(script, tmp_path):
    notebook = jupytext.read(script)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()


def test_text_is_updated_and_outputs_are_kept():
    def notebook(text, code):
        cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell(code)]
        return nbformat.v4.new_notebook(cells=cells)

    executed = notebook("old", "1 + 1")
    executed.cells[1].outputs = [nbformat.v4.new_output("stream", text="2")]
    updated = build_notebooks.update_text(executed, notebook("new", "1 + 1"))
    assert updated.cells[0].source == "new"
    assert updated.cells[1].outputs[0].text == "2"
    with pytest.raises(ValueError, match="without --text"):
        build_notebooks.update_text(executed, notebook("new", "1 + 2"))
