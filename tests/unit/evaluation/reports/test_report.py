"""Self-contained HTML pages."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from monai_anat.evaluation import Report, ReportFigure
from monai_anat.evaluation.reports.report import ReportTable
from monai_anat.visualize import draw_curves

CURVE = draw_curves([{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.0}])


class Tags(HTMLParser):
    """Collects every tag with its attributes, and checks that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def full_page() -> str:
    report = Report("Title & more", "Lead <b>", footer="made today")
    report.add_section("First", "One.\n\nTwo < three.", ReportTable(["a", "b"], [["x", 0.12345], ["y", float("nan")]]))
    report.add_section("Second", ReportFigure(CURVE, 'a "curve"'))
    return report.render()


def test_page_is_well_formed_and_refers_to_nothing_outside() -> None:
    page = full_page()
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    sources = [attrs["src"] for tag, attrs in tags.seen if "src" in attrs]
    assert len(sources) == 1
    assert base64.b64decode(sources[0].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert not re.search(r"https?://|url\(|@import|<script|<link", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_text_is_escaped_and_numbers_are_written_alike() -> None:
    page = full_page()
    assert "Title &amp; more" in page
    assert "<p>Two &lt; three.</p>" in page
    assert "<td>0.123</td>" in page
    assert "<td>–</td>" in page
    assert 'alt="a &quot;curve&quot;"' in page


def test_only_wide_figures_scroll_on_a_phone() -> None:
    for size, wide in (((9, 3), True), ((9, 8), False), ((4, 1), False)):
        report = Report("t")
        report.add_section("s", ReportFigure(Figure(figsize=size)))
        assert ('<img class="wide"' in report.render()) == wide
    assert "max-height: 300px" in report.render(), "a low one is not blown up"


def test_long_tables_are_folded_under_their_captions() -> None:
    for rows, folded in ((24, False), (25, True)):
        report = Report("t")
        report.add_section(
            "s", ReportTable(["a", "b"], [[str(number), 0.5] for number in range(rows)], "What it shows")
        )
        page = report.render()
        assert ("<details>" in page) is folded
        assert page.count("<td>0.500</td>") == rows
        assert page.count("What it shows") == 1


def test_writing_leaves_one_file(tmp_path) -> None:
    path = Report("t").write(tmp_path / "new" / "report.html")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_wrong_blocks_are_named() -> None:
    report = Report("t")
    report.add_section("s", CURVE)
    with pytest.raises(TypeError, match="got Figure; wrap a figure in ReportFigure"):
        report.render()
    report = Report("t")
    report.add_section("s", ReportTable(["a", "b"], [[1]], caption="Dice"))
    with pytest.raises(ValueError, match="row 0 of the table 'Dice' must have 2 cells, got 1"):
        report.render()
