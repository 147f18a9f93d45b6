"""A comparison page in a real browser: script errors, missing images and overflow on a phone."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.data import segmentation_datalist
from monai_anat.evaluation import PatientBootstrap, Result, compare_report

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


@pytest.fixture
def open_page(open_in_browser, tmp_path):
    """A function of the text of a page, width and height: opens it with the probe at its end."""

    def open_text(text: str, width: int, height: int):
        page = tmp_path / "page.html"
        page.write_text(text + PROBE, encoding="utf-8")
        return open_in_browser(page, width, height)

    return open_text


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_comparison_opens_without_fault(open_page, width, height):
    page = compare_report({"a": {"landmarks": result_of(0.0)}, "b": {"landmarks": result_of(0.1)}}).render()
    seen, console, pixels = open_page(page, width, height)
    assert console == []
    assert seen == {"pictures": 3, "missing": 0, "width": width, "overflow": 0}  # wide tables scroll inside the page
    assert pixels.shape == (height, width, 3)
    assert pixels.std() > 10  # not a blank page


def test_faults_would_be_seen(open_page):
    page = '<!DOCTYPE html><p style="width: 900px">wide<img src="gone.png"><script>undefined_name()</script>'
    seen, console, pixels = open_page(page, 390, 844)
    assert seen["missing"] == 1
    assert seen["overflow"] > 0
    assert any("undefined_name is not defined" in line for line in console)
    assert pixels.std() < 10
