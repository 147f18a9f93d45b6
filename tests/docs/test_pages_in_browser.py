"""Five pages of the site in headless Chromium, as wide as a desktop and as a phone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

PAGES = {
    "index.html": 0,
    "guides/pretrain.html": 0,
    "reference/losses.html": 1,
    "tutorials/01_peac_in_ten_minutes.html": 0,
    "methods/peac.html": 1,
}
#: added to a copy of the page; reports once the page has loaded and its equations are set
PROBE = """<script>
const faults = [];
addEventListener("error", (event) => faults.push(event.message || event.target.src || "resource"), true);
addEventListener("load", () => setTimeout(() => {
  const pictures = [...document.images];
  parent.postMessage({
    missing: pictures.filter((picture) => picture.complete && picture.naturalWidth === 0).map((picture) => picture.src),
    equations: document.querySelectorAll(".katex").length,
    wrong: document.querySelectorAll(".katex-error").length,
    found: document.querySelectorAll(".md-search-result__item").length,
    faults: faults,
    width: innerWidth,
    overflow: document.documentElement.scrollWidth - innerWidth,
  }, "*");
}, DELAY));</script>"""


@pytest.fixture(scope="module")
def pages(site, tmp_path_factory) -> Path:
    """A copy of the site: probes are written beside its pages, and other tests read the original."""
    return Path(shutil.copytree(site, tmp_path_factory.mktemp("pages") / "site"))


@pytest.fixture
def open_page(open_in_browser):
    """A function of a page, width and height, query and delay of the probe: opens a copy with the probe beside it."""

    def open_copy(page: Path, width: int, height: int, query: str = "", delay: int = 500):
        copy, probe = page.with_name(f"_probe_{page.name}"), PROBE.replace("DELAY", str(delay))
        copy.write_text(page.read_text(encoding="utf-8").replace("<head>", f"<head>{probe}", 1), encoding="utf-8")
        try:
            return open_in_browser(copy, width, height, query)
        finally:
            copy.unlink()

    return open_copy


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_page_opens_without_fault(open_page, pages, name, width, height):
    seen, console, pixels = open_page(pages / name, width, height)
    assert console == []
    assert seen["faults"] == []
    assert seen["missing"] == []
    assert seen["wrong"] == 0
    assert (seen["equations"] > 0) == bool(PAGES[name])
    assert seen["width"] == width
    assert seen["overflow"] <= 0
    assert pixels.shape == (height, width, 3)
    assert pixels.std() > 10  # text, and no blank page


def test_search_works_without_a_server(open_page, pages):
    seen, console, _ = open_page(pages / "index.html", 1280, 900, query="?q=correspondence", delay=5000)
    assert console == []
    assert seen["found"] > 1


def test_faults_are_seen(open_page, tmp_path):
    page = tmp_path / "faulty.html"
    page.write_text(
        '<!DOCTYPE html><head></head><p style="width: 900px">wide<img src="gone.png"><script>undefined_name()</script>'
    )
    seen, console, _ = open_page(page, 390, 844)
    assert len(seen["missing"]) == 1
    assert seen["overflow"] > 0
    assert any("undefined_name" in fault for fault in seen["faults"])
    assert any("undefined_name is not defined" in line for line in console)
