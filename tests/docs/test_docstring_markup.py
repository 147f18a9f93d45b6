"""Docstrings become Markdown: roles, equations, examples."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("griffe")
PATH = Path(__file__).parents[2] / "tools" / "docstring_markup.py"
SPEC = importlib.util.spec_from_file_location("docstring_markup", PATH)
assert SPEC is not None
assert SPEC.loader is not None
markup = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(markup)

PUBLIC = {"PEACMethod": "monai_anat.methods.PEACMethod"}


def test_roles_become_links_where_the_name_is_public():
    text = "See :class:`~monai_anat.methods.PEACMethod` and :func:`_hidden`."
    assert markup.markdown_of(text, PUBLIC) == "See [`PEACMethod`][monai_anat.methods.PEACMethod] and `_hidden`."


def test_equations():
    assert markup.markdown_of(r"The share :math:`\tau`.", PUBLIC) == r"The share $\tau$."
    text = "Sum:\n\n.. math::\n\n    a + b\n\nEnd."
    assert "$$a + b$$" in markup.markdown_of(text, PUBLIC)
    assert "End." in markup.markdown_of(text, PUBLIC)


def test_examples_are_fenced():
    text = "Add.\n\n    >>> 1 + 1\n    2\n\nMore."
    assert markup.fence_examples(text) == "Add.\n\n    ```pycon\n    >>> 1 + 1\n    2\n    ```\n\nMore."
    assert markup.fence_examples(">>> 1\n1").endswith("\n```")


def test_literal_blocks_keep_one_colon():
    assert markup.markdown_of("A list::\n\n    {}\n", PUBLIC).startswith("A list:\n")
