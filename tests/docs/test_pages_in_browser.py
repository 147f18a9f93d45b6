"""Five pages of the site in headless Chromium, as wide as a desktop and as a phone."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    # the page and the frame around it are both local files
    "--allow-file-access-from-files",
    # nothing may come from the network
    "--host-resolver-rules=MAP * ~NOTFOUND",
]
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
#: a window cannot be as narrow as a phone, but a frame can
FRAME = """<body style="margin: 0"><script>
addEventListener("message", (message) => { document.body.dataset.seen = JSON.stringify(message.data); });
</script><iframe src="PAGE" width="WIDTH" height="HEIGHT" style="border: 0; display: block"></iframe>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def pages(site, tmp_path_factory) -> Path:
    """A copy of the site: probes are written beside its pages, and other tests read the original."""
    return Path(shutil.copytree(site, tmp_path_factory.mktemp("pages") / "site"))


def open_page(
    page: Path, folder: Path, width: int, height: int, query: str = "", delay: int = 500
) -> tuple[dict, list[str], np.ndarray]:
    """Open a copy of the page beside it; what the probe reports, the browser's console, the screenshot (H, W, 3)."""
    copy, frame = page.with_name(f"_probe_{page.name}"), page.with_name("_frame.html")
    screenshot = folder / "screenshot.png"
    try:
        probe = PROBE.replace("DELAY", str(delay))
        copy.write_text(page.read_text(encoding="utf-8").replace("<head>", f"<head>{probe}", 1), encoding="utf-8")
        text = FRAME.replace("PAGE", copy.name + query).replace("WIDTH", str(width)).replace("HEIGHT", str(height))
        frame.write_text(text, encoding="utf-8")
        command = [
            str(CHROMIUM),
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},{height}",
            "--virtual-time-budget=20000",
            f"--screenshot={screenshot}",
            "--dump-dom",
            frame.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    finally:
        copy.unlink(missing_ok=True)
        frame.unlink(missing_ok=True)
    seen = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert seen, f"the page did not load:\n{done.stderr}"
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    with Image.open(screenshot) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return json.loads(html.unescape(seen[1])), console, pixels


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_page_opens_without_fault(pages, tmp_path, name, width, height):
    seen, console, pixels = open_page(pages / name, tmp_path, width, height)
    assert console == []
    assert seen["faults"] == []
    assert seen["missing"] == []
    assert seen["wrong"] == 0
    assert (seen["equations"] > 0) == bool(PAGES[name])
    assert seen["width"] == width
    assert seen["overflow"] <= 0
    assert pixels.shape == (height, width, 3)
    assert pixels.std() > 10  # text, and no blank page


def test_search_works_without_a_server(pages, tmp_path):
    seen, console, _ = open_page(pages / "index.html", tmp_path, 1280, 900, query="?q=correspondence", delay=5000)
    assert console == []
    assert seen["found"] > 1


def test_faults_are_seen(tmp_path):
    page = tmp_path / "faulty.html"
    page.write_text(
        '<!DOCTYPE html><head></head><p style="width: 900px">wide<img src="gone.png"><script>undefined_name()</script>'
    )
    seen, console, _ = open_page(page, tmp_path, 390, 844)
    assert len(seen["missing"]) == 1
    assert seen["overflow"] > 0
    assert any("undefined_name" in fault for fault in seen["faults"])
    assert any("undefined_name is not defined" in line for line in console)
