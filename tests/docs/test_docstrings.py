"""Docstrings: every section parses, and every documented parameter exists."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

griffe = pytest.importorskip("griffe")

ROOT = Path(__file__).parents[2]
#: parameters of a constructor that is inherited from MONAI
INHERITED = ("drop_prob",)
OPTIONS = {"warn_missing_types": False, "returns_multiple_items": False, "returns_named_value": False}


def parse_docstrings(item: griffe.Object | griffe.Alias) -> None:
    if item.is_alias:
        return
    if item.docstring is not None:
        _ = item.docstring.parsed
    for member in item.members.values():
        parse_docstrings(member)


def warnings_of(folder: Path, package: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    options = {"docstring_parser": griffe.Parser.google, "docstring_options": OPTIONS}
    with caplog.at_level(logging.WARNING, logger="griffe"):
        parse_docstrings(griffe.load(package, search_paths=[str(folder)], **options))
    return [record.getMessage() for record in caplog.records if record.name.startswith("griffe")]


def test_docstrings_parse(caplog):
    messages = warnings_of(ROOT, "monai_anat", caplog)
    assert [text for text in messages if not any(f"'{name}'" in text for name in INHERITED)] == []


def test_a_broken_docstring_is_found(tmp_path, caplog):
    (tmp_path / "broken.py").write_text(
        'def add(a: int) -> int:\n    """Add.\n\n    Args:\n        b: a number.\n    """\n    return a\n'
    )
    assert warnings_of(tmp_path, "broken", caplog)
