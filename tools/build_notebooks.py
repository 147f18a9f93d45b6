"""Notebooks from the tutorial scripts.

python tools/build_notebooks.py [NAME ...]         make and execute
python tools/build_notebooks.py --text [NAME ...]  update the text cells only, and keep the outputs
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "tutorials"


def execute(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Run all cells in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day would differ at every build
    return notebook


def update_text(notebook: nbformat.NotebookNode, script: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take the text cells of the script into an executed notebook.

    Raises:
        ValueError: if the code cells differ, so that outputs could change.
    """
    code, new_code = ([cell.source for cell in book.cells if cell.cell_type == "code"] for book in (notebook, script))
    if code != new_code or len(notebook.cells) != len(script.cells):
        raise ValueError("the code cells differ; build the notebook without --text")
    for cell, new in zip(notebook.cells, script.cells, strict=True):
        cell.source = new.source
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", action="store_true", help="update the text cells only")
    parser.add_argument("names", nargs="*", help="tutorials without .py; all by default")
    options = parser.parse_args()
    for script in sorted(FOLDER.glob("[0-9][0-9]_*.py")):
        if options.names and script.stem not in options.names:
            continue
        target, notebook = script.with_suffix(".ipynb"), jupytext.read(script)
        if options.text:
            notebook = update_text(nbformat.read(target, as_version=4), notebook)
        else:
            notebook = execute(notebook)
        nbformat.write(notebook, target)


if __name__ == "__main__":
    main()
