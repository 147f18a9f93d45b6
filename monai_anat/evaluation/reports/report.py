"""Self-contained HTML pages of text, tables and figures."""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_anat.evaluation.pictures import ReportFigure
from monai_anat.files import write_text_atomically
from monai_anat.visualize.figures import encode_png

__all__ = ["Report", "ReportTable"]

#: style sheet of every page
_STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")

#: most rows of a table that is shown expanded
_LONG = 24
#: widest figure in inches that a phone shows completely; a wider one scrolls
_PHONE = 5.0


@dataclass(frozen=True)
class ReportTable:
    """A table of a report.

    Attributes:
        columns: column headings.
        rows: cells. Floats are written with ``digits`` decimals, None and NaN as a dash.
        caption: what the table shows; also the summary line of a collapsed table.
        digits: decimals of floats.
        strong: indices of the rows in bold.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    digits: int = 3
    strong: Sequence[int] = ()


@dataclass
class Report:
    """Sections of text, tables and figures that become a single HTML file without external files.

    Args:
        title: title of the page.
        lead: first sentences, below the title.
        footer: last line of the page.
        sections: headings and their blocks; see :meth:`add_section`.

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
        """Append a section.

        Args:
            heading: heading of the section.
            blocks: tables, figures, and plain text in which blank lines separate paragraphs.
        """
        self.sections.append((heading, blocks))

    def render(self, hide: Callable[[str], str] | None = None) -> str:
        """Render the page as HTML.

        Args:
            hide: applied to every text of the page, to remove file names and patients.

        Raises:
            TypeError: if a block is neither text, table nor figure.
        """
        text = hide or str
        parts = [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head><body><main>",
            f"<h1>{html.escape(self.title)}</h1>",
            f'<p class="lead">{html.escape(self.lead)}</p>' if self.lead else "",
        ]
        for heading, blocks in self.sections:
            body = "\n".join(_block(block, text) for block in blocks)
            parts.append(f"<section><h2>{html.escape(heading)}</h2>\n{body}</section>")
        if self.footer:
            parts.append(f"<footer>{html.escape(self.footer)}</footer>")
        parts.append("</main></body></html>\n")
        return "\n".join(part for part in parts if part)

    def write(self, path: str | os.PathLike[str], hide: Callable[[str], str] | None = None) -> Path:
        """Write the page and return its path.

        Args:
            path: the HTML file; its folder is created if it does not exist.
            hide: as for :meth:`render`.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(target, self.render(hide))
        return target


def _block(block: str | ReportTable | ReportFigure, hide: Callable[[str], str]) -> str:
    if isinstance(block, str):
        return "".join(f"<p>{html.escape(part)}</p>" for part in hide(block).split("\n\n") if part.strip())
    if isinstance(block, ReportTable):
        return _table(block, hide)
    if isinstance(block, ReportFigure):
        return _figure(block, hide)
    raise TypeError(
        f"a block must be a string, a ReportTable or a ReportFigure, got {type(block).__name__}; "
        "wrap a figure in ReportFigure"
    )


def _table(table: ReportTable, hide: Callable[[str], str]) -> str:
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
    # not inside the table, where it would be as wide as the table and exceed a phone's screen
    caption = html.escape(hide(table.caption))
    body = "\n".join(rows)
    whole = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'
    if len(rows) > _LONG:
        return f'<details><summary class="caption">{len(rows)} rows. {caption}</summary>{whole}</details>'
    return (f'<p class="caption">{caption}</p>' if caption else "") + whole


def _cell(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _figure(picture: ReportFigure, hide: Callable[[str], str]) -> str:
    data = base64.b64encode(encode_png(picture.figure, picture.dpi)).decode("ascii")
    width, height = picture.figure.get_size_inches()
    wide = ' class="wide"' if width > max(1.5 * height, _PHONE) else ""
    caption = html.escape(hide(picture.caption))
    return (
        f'<figure><div class="scroll picture"><img{wide} alt="{caption}" src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
