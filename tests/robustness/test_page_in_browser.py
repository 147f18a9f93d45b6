"""A comparison page in a real browser: script errors, missing images and overflow on a phone."""

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

from monai_anat.data import segmentation_datalist
from monai_anat.evaluation import PatientBootstrap, Result, compare_report

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
]
PATIENTS = [f"p{number}" for number in range(20)]
TRUTH = np.random.default_rng(0).normal(0.6, 0.1, len(PATIENTS))
POINTS = [[100.0, 90.0], [100.0, 160.0]]

#: script appended to a copy of the page, which has none of its own
PROBE = """<script>addEventListener("load", () => {
  const pictures = [...document.images];
  parent.postMessage({
    pictures: pictures.length,
    missing: pictures.filter((picture) => !picture.complete || picture.naturalWidth === 0).length,
    width: innerWidth,
    overflow: document.documentElement.scrollWidth - innerWidth,
  }, "*");
});</script>"""
#: a browser window cannot be as narrow as a phone, but a frame can
FRAME = """<body style="margin: 0"><script>
addEventListener("message", (message) => { document.body.dataset.seen = JSON.stringify(message.data); });
</script><iframe src="page.html" width="WIDTH" height="HEIGHT" style="border: 0; display: block"></iframe>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


def result_of(shift: float) -> Result:
    bootstrap = PatientBootstrap(PATIENTS)
    first, second = (item["image"] for item in segmentation_datalist("test")[:2])
    case = {
        "score": 0.1,
        "source": {"image": first, "landmarks": POINTS},
        "target": {"image": second, "landmarks": POINTS, "found": [[120.0, 95.0], [90.0, 150.0]]},
    }
    names = ["error", "pck/0.1", *(f"error/landmark number {number} of the right lung" for number in range(8))]
    return Result(
        "landmarks",
        settings={"seed": 0},
        n_patients=len(PATIENTS),
        patients=bootstrap.fingerprint,
        metrics={name: bootstrap.mean(TRUTH + shift, better="lower", unit="thorax widths") for name in names},
        baselines={"same position": {"error": bootstrap.mean(TRUTH + 0.3, better="lower")}},
        cases={"best": case},
        notes=["A note."],
        extra={"landmark_names": ["right apex", "left apex"]},
    )


def open_page(page: str, folder: Path, width: int, height: int) -> tuple[dict[str, int], list[str], np.ndarray]:
    """Return measurements of a script in the page, console messages, and the screenshot (H, W, 3)."""
    (folder / "page.html").write_text(page + PROBE, encoding="utf-8")
    frame = FRAME.replace("WIDTH", str(width)).replace("HEIGHT", str(height))
    (folder / "frame.html").write_text(frame, encoding="utf-8")
    screenshot = folder / "screenshot.png"
    command = [
        str(CHROMIUM),
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},{height}",
        f"--screenshot={screenshot}",
        "--dump-dom",
        (folder / "frame.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    seen = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert seen, f"the page did not load:\n{done.stdout}\n{done.stderr}"
    console = [line for line in done.stderr.splitlines() if ":CONSOLE:" in line]
    with Image.open(screenshot) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return json.loads(html.unescape(seen[1])), console, pixels


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_comparison_opens_without_fault(tmp_path, width, height):
    page = compare_report({"a": {"landmarks": result_of(0.0)}, "b": {"landmarks": result_of(0.1)}}).render()
    seen, console, pixels = open_page(page, tmp_path, width, height)
    assert console == []
    assert seen == {"pictures": 3, "missing": 0, "width": width, "overflow": 0}  # wide tables scroll inside the page
    assert pixels.shape == (height, width, 3)
    assert pixels.std() > 10  # not a blank page


def test_faults_would_be_seen(tmp_path):
    page = '<!DOCTYPE html><p style="width: 900px">wide<img src="gone.png"><script>undefined_name()</script>'
    seen, console, pixels = open_page(page, tmp_path, 390, 844)
    assert seen["missing"] == 1
    assert seen["overflow"] > 0
    assert any("undefined_name is not defined" in line for line in console)
    assert pixels.std() < 10
