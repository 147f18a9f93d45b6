"""One self-contained HTML page: text, tables and figures, readable offline, on a phone, in the dark."""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from monai_anat.visualize.figures import encode_png

__all__ = ["Report", "ReportFigure", "ReportTable"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --page: #f4f6f8; --card: #ffffff; --line: #dde3ea;
  --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #a3aebc; --page: #12161c; --card: #1b2129; --line: #2f3844; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: .5rem 0 .25rem; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; }
.lead { color: var(--soft); margin: 0 0 1.5rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.2rem;
  margin: 0 0 1.1rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
figure { margin: .8rem 0; }
figcaption, .caption { color: var(--soft); font-size: .88rem; }
figcaption { margin-top: .4rem; } .caption { margin: 1.2rem 0 .4rem; }
.scroll { overflow-x: auto; border-radius: 6px; }
.picture { background: #fff; padding: 6px; }
.picture img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
@media (max-width: 640px) { .picture img.wide { max-width: none; max-height: 300px; } }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; min-width: 20rem; }
th, td { padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
@media (max-width: 640px) { th:first-child, td:first-child { white-space: normal; min-width: 7.5rem; } }
tr.strong td { font-weight: 700; color: var(--accent); }
summary { cursor: pointer; }
footer { color: var(--soft); font-size: .85rem; }
"""

#: rows of a table that is shown at once; a longer one is unfolded by its reader
_LONG = 24
#: inches of a figure that a phone still shows whole; what is wider can be scrolled there
_PHONE = 5.0


@dataclass(frozen=True)
class ReportTable:
    """A table of a report.

    Attributes:
        columns: headings.
        rows: cells; floats are written with ``digits`` decimals, None and NaN as a dash.
        caption: what the table shows; the line by which a long table is unfolded.
        digits: decimals of floats.
        strong: numbers of the rows to set off.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    digits: int = 3
    strong: Sequence[int] = ()


@dataclass(frozen=True)
class ReportFigure:
    """A picture of a report.

    Attributes:
        figure: what is drawn.
        caption: what the reader should see in it; also the text for those who cannot see it.
        dpi: pixels per inch.
    """

    figure: Figure
    caption: str = ""
    dpi: int = 110


@dataclass
class Report:
    """Sections of text, tables and figures that become one HTML file without any reference to another.

    Args:
        title: of the page.
        lead: the first sentences, under the title.

    >>> report = Report("Lungs", "Three images were enough.")
    >>> report.add_section("Dice", "Higher is better.", ReportTable(["arm", "Dice"], [["scratch", 0.5]]))
    >>> "<td>0.500</td>" in report.render()
    True
    """

    title: str
    lead: str = ""
    footer: str = ""
    sections: list[tuple[str, tuple[str | ReportTable | ReportFigure, ...]]] = field(default_factory=list)

    def add_section(self, heading: str, *blocks: str | ReportTable | ReportFigure) -> None:
        """Append a section; a string is a paragraph of plain text, in which blank lines divide paragraphs."""
        self.sections.append((heading, blocks))

    def render(self) -> str:
        """The page as text.

        Raises:
            TypeError: if a block is neither text, table nor figure.
        """
        parts = [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head><body><main>",
            f"<h1>{html.escape(self.title)}</h1>",
            f'<p class="lead">{html.escape(self.lead)}</p>' if self.lead else "",
        ]
        for heading, blocks in self.sections:
            body = "\n".join(_block(block) for block in blocks)
            parts.append(f"<section><h2>{html.escape(heading)}</h2>\n{body}</section>")
        if self.footer:
            parts.append(f"<footer>{html.escape(self.footer)}</footer>")
        parts.append("</main></body></html>\n")
        return "\n".join(part for part in parts if part)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, first under a temporary name, so that a stopped run leaves no half page; return its path."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".tmp")
        temporary.write_text(self.render(), encoding="utf-8")
        temporary.replace(target)
        return target


def _block(block: str | ReportTable | ReportFigure) -> str:
    if isinstance(block, str):
        return "".join(f"<p>{html.escape(part)}</p>" for part in block.split("\n\n") if part.strip())
    if isinstance(block, ReportTable):
        return _table(block)
    if isinstance(block, ReportFigure):
        return _figure(block)
    raise TypeError(
        f"a block must be a string, a ReportTable or a ReportFigure, got {type(block).__name__}; "
        "wrap a figure in ReportFigure"
    )


def _table(table: ReportTable) -> str:
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table.columns)
    rows = []
    for number, row in enumerate(table.rows):
        if len(row) != len(table.columns):
            raise ValueError(
                f"row {number} of the table {table.caption!r} must have {len(table.columns)} cells, got {len(row)}"
            )
        mark = ' class="strong"' if number in table.strong else ""
        cells = "".join(f"<td>{html.escape(_cell(value, table.digits))}</td>" for value in row)
        rows.append(f"<tr{mark}>{cells}</tr>")
    # beside the table and not in it: there it would be as wide, and run out of a phone's screen
    caption = html.escape(table.caption)
    body = "\n".join(rows)
    whole = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'
    if len(rows) > _LONG:
        return f'<details><summary class="caption">{len(rows)} rows. {caption}</summary>{whole}</details>'
    return (f'<p class="caption">{caption}</p>' if caption else "") + whole


def _cell(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _figure(picture: ReportFigure) -> str:
    data = base64.b64encode(encode_png(picture.figure, picture.dpi)).decode("ascii")
    width, height = picture.figure.get_size_inches()
    wide = ' class="wide"' if width > max(1.5 * height, _PHONE) else ""
    caption = html.escape(picture.caption)
    return (
        f'<figure><div class="scroll picture"><img{wide} alt="{caption}" src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
