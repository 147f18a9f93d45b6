"""README: its code runs, its links resolve, and it stays short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "benchmarks" / "results").glob("*.md"),
]
#: folders of the site whose pages are generated when it is built
GENERATED = ("bundles", "tutorials", "results", "reference")
GENERATED_FILES = ("changelog.md", "contributing.md", "methods/index.md")


def test_python_of_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    sample = names["sample"]
    assert sample["view_1"].shape == sample["view_2"].shape == (1, 448, 448)
    assert sample["correspondence"].shape == (196,)
    assert int((sample["correspondence"] >= 0).sum()) >= 100


def test_readme_is_short():
    assert len(README.split()) <= 600


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(page):
    """Links of the site to generated pages are checked by the strict build."""
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / link).resolve()
        inside = target.relative_to(ROOT / "docs").as_posix() if target.is_relative_to(ROOT / "docs") else ""
        generated = inside.split("/")[0] in GENERATED or inside in GENERATED_FILES
        assert generated or target.exists(), f"{page.name}: {link}"


def test_every_pretraining_bundle_is_in_the_tables():
    for folder in (ROOT / "bundles").glob("*_pretraining"):
        assert folder.name in README


def test_legal_notices():
    """The README and NOTICE name the patents and say that the license grants no rights under them."""
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for text in (README, notice, (ROOT / "docs" / "index.md").read_text(encoding="utf-8")):
        for number in ("US-12639932-B2", "US-20250316058-A1", "US20250078276A1", "US20260187795A1", "US20250272962"):
            assert number in text
        assert re.search(r"grants\s+no\s+rights", text)
