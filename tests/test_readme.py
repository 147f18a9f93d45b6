"""The README's code runs, and the files that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_python_of_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    sample = names["sample"]
    assert sample["view_1"].shape == sample["view_2"].shape == (1, 448, 448)
    assert sample["correspondence"].shape == (196,)
    assert int((sample["correspondence"] >= 0).sum()) >= 100


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_method_and_bundle_is_in_the_table():
    for folder in (ROOT / "bundles").glob("*_pretraining"):
        assert folder.name in README
        assert f"bundles/{folder.name}" in (ROOT / "docs" / "methods.md").read_text()
