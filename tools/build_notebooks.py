"""Make each tutorial's notebook from its script, and run it: python tools/build_notebooks.py [NAME ...]"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "tutorials"


def main(names: list[str]) -> None:
    for script in sorted(FOLDER.glob("[0-9][0-9]_*.py")):
        if names and script.stem not in names:
            continue
        notebook = jupytext.read(script)
        with tempfile.TemporaryDirectory() as folder:
            NotebookClient(notebook, timeout=900, resources={"metadata": {"path": folder}}).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times of day would differ at every build
        nbformat.write(notebook, script.with_suffix(".ipynb"))


if __name__ == "__main__":
    main(sys.argv[1:])
