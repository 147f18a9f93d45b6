"""The documentation site: complete, offline, and with an entry for every public name."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import monai_anat

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent.name for path in Path(monai_anat.__file__).parent.glob("*/__init__.py"))
#: tags that make a browser load something
LOADED = re.compile(r"<(?:script|img|iframe|source|video|audio)[^>]+src=\"([^\"]+)\"|<link[^>]+href=\"([^\"]+)\"[^>]*>")


@pytest.mark.parametrize("package", [name for name in PACKAGES if name not in ("bundles", "cli")])
def test_every_public_name_has_an_entry_in_the_reference(site, package):
    page = (site / "reference" / f"{package}.html").read_text(encoding="utf-8")
    entries = set(re.findall(r'id="([\w.]+)"', page))
    names = importlib.import_module(f"monai_anat.{package}").__all__
    missing = [name for name in names if f"monai_anat.{package}.{name}" not in entries]
    assert not missing


def test_nothing_is_loaded_from_the_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        for found in LOADED.finditer(page.read_text(encoding="utf-8")):
            address = found[1] or found[2]
            canonical = 'rel="canonical"' in found[0]
            assert canonical or not re.match(r"(https?:)?//", address), f"{page.relative_to(site)} loads {address}"
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"url\([\"']?(https?:)?//", text), f"{style.relative_to(site)} loads from the network"


def test_links_between_pages_resolve(site):
    for page in site.rglob("*.html"):
        for link in re.findall(r"<(?:a|img)[^>]+(?:href|src)=\"([^\"#?]+)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", link) and not link.startswith("/") and page.name != "404.html":
                assert (page.parent / link).exists(), f"{page.relative_to(site)}: {link}"


@pytest.mark.parametrize("folder", sorted(path.name for path in (ROOT / "bundles").glob("cxr_*")))
def test_every_bundle_has_its_page(site, folder):
    page = (site / "bundles" / f"{folder}.html").read_text(encoding="utf-8")
    title = (ROOT / "bundles" / folder / "docs" / "README.md").read_text(encoding="utf-8").splitlines()[0]
    assert title.removeprefix("# ") in page


def test_every_protocol_has_its_page(site):
    for protocol in monai_anat.evaluation.PROTOCOLS:
        assert (site / "protocols" / f"{protocol}.html").exists(), protocol


def test_every_public_set_has_its_page(site):
    for name in monai_anat.data.PUBLIC_SETS:
        assert (site / "datasets" / f"{name}.html").exists(), name


def test_every_tutorial_is_shown_with_its_outputs(site):
    for notebook in (ROOT / "tutorials").glob("[0-9]*.ipynb"):
        page = (site / "tutorials" / f"{notebook.stem}.html").read_text(encoding="utf-8")
        assert "cell-output" in page
        assert f'src="{notebook.stem}_1.' in page
