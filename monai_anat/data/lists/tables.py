"""Reader of tables and JSON lists: encodings, delimiters, blank cells, compression, and lists of millions of rows."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from monai_anat.data.items import DatalistError

__all__ = [
    "TABLE_SUFFIXES",
    "is_table",
    "iterate_json_items",
    "iterate_json_sections",
    "iterate_table",
    "table_columns",
]

#: endings of tables, also with ``.gz`` behind them
TABLE_SUFFIXES = (".csv", ".tsv")
_DELIMITERS = ",;\t"
_SPACES = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


def is_table(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a table by its ending.

    Args:
        path: path of a file.

    >>> is_table("train.csv.gz"), is_table("train.json")
    (True, False)
    """
    return str(path).lower().removesuffix(".gz").endswith(TABLE_SUFFIXES)


def table_columns(path: str | os.PathLike[str]) -> list[str]:
    """Read the column names of a table, without the blanks around them.

    Args:
        path: CSV or TSV file, plain or compressed by gzip.

    Raises:
        DatalistError: as :func:`iterate_table` does.
    """
    for columns, _ in _rows(Path(path)):
        return columns
    return []


def iterate_table(
    path: str | os.PathLike[str], required: Sequence[str] = (), *, names: Sequence[str] | None = None
) -> Iterator[dict[str, str]]:
    """Read a table one row at a time.

    Cells are separated by commas, semicolons or tabs, whichever the header has most of. A byte-order mark is skipped.
    Names and cells lose the blanks around them, empty cells are left out, and so are rows without any cell.

    Args:
        path: CSV or TSV file in UTF-8, plain or compressed by gzip.
        required: columns that the table must have.
        names: names for the columns, in their order, in place of those in the header.

    Yields:
        Column -> cell, for the cells that are not empty.

    Raises:
        DatalistError: if the file is missing, truncated or not a table in UTF-8, or a required column is missing.
    """
    file = Path(path)
    for columns, cells in _rows(file):
        missing = [name for name in required if name not in columns]
        if missing:
            raise DatalistError(f"table {file} must have the columns {missing}, got the columns {columns}")
        row = {
            name: value
            for name, cell in zip(names or columns, cells or (), strict=False)
            if name and (value := cell.strip())
        }
        if row:
            yield row


def _rows(file: Path) -> Iterator[tuple[list[str], list[str] | None]]:
    """Yield columns and cells of each row; a table without rows yields its columns once, with None."""
    try:
        with _open(file) as handle:
            header = handle.readline()
            delimiter = max(_DELIMITERS, key=header.count)
            reader = csv.reader(chain([header], handle), delimiter=delimiter)
            columns = [name.strip() for name in next(reader, [])]
            empty = True
            for cells in reader:
                empty = False
                yield columns, cells
            if empty:
                yield columns, None
    except FileNotFoundError:
        raise DatalistError(f"table {file} must be an existing file, got none there; check the path") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatalistError(f"table {file} is truncated or damaged ({error}); obtain it again") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatalistError(
            f"table {file} must be CSV in UTF-8, got something else ({error}); save it as such"
        ) from error


def _open(file: Path) -> TextIO:
    if file.name.lower().endswith(".gz"):
        return gzip.open(file, "rt", newline="", encoding="utf-8-sig")
    return file.open(newline="", encoding="utf-8-sig")


def iterate_json_items(path: str | os.PathLike[str], section: str) -> Iterator[Any]:
    """Read the items of one section of a JSON list one at a time.

    Args:
        path: JSON file: a dict of sections, or a bare list, which is every section.
        section: name of the section.

    Yields:
        Items as JSON values.

    Raises:
        DatalistError: if the file is not JSON or has no such section.
    """
    found = []
    for name, items in iterate_json_sections(path):
        if name is None or name == section:
            yield from items
            return
        found.append(name)
    raise DatalistError(f"section must be one of {found} of {path}, got {section!r}")


def iterate_json_sections(path: str | os.PathLike[str]) -> Iterator[tuple[str | None, Iterator[Any]]]:
    """Go through the sections of a JSON list: the values of its top level that are lists.

    Args:
        path: JSON file.

    Yields:
        Name and items of each section, one item at a time. A bare list has the name None. Items that were not read are
        skipped when the next section is asked for.

    Raises:
        DatalistError: if the file is not JSON.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
        place = _skip(text, 0)
        if text[place : place + 1] == "[":
            items = _Items(text, place, file)
            yield None, items
            _expect_end(text, items.finish())
            return
        if text[place : place + 1] != "{":
            _DECODER.raw_decode(text, place)
            return
        place = _skip(text, place + 1)
        while text[place : place + 1] != "}":
            name, place = _DECODER.raw_decode(text, place)
            place = _expect(text, place, ":")
            if text[place : place + 1] == "[":
                items = _Items(text, place, file)
                yield str(name), items
                place = items.finish()
            else:
                _, place = _DECODER.raw_decode(text, place)
            place = _next(text, place, "}")
        _expect_end(text, place + 1)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _no_json(file, error) from error


def _no_json(file: Path, error: ValueError) -> DatalistError:
    return DatalistError(f"datalist {file} must be JSON, got text that is not: {error}")


class _Items(Iterator[Any]):
    """Items of a JSON array, decoded one at a time."""

    def __init__(self, text: str, start: int, file: Path) -> None:
        self.text, self.file = text, file
        self.place = _skip(text, start + 1)
        self.ended = False

    def __next__(self) -> Any:
        if self.ended or self.text[self.place : self.place + 1] == "]":
            self.ended = True
            raise StopIteration
        try:
            value, place = _DECODER.raw_decode(self.text, self.place)
            self.place = _next(self.text, place, "]")
        except json.JSONDecodeError as error:
            raise _no_json(self.file, error) from error
        return value

    def finish(self) -> int:
        """Skip the rest and return the position behind the array."""
        for _ in self:
            continue
        return self.place + 1


def _skip(text: str, place: int) -> int:
    match = _SPACES.match(text, place)
    return match.end() if match else place


def _expect(text: str, place: int, mark: str) -> int:
    place = _skip(text, place)
    if text[place : place + 1] != mark:
        raise json.JSONDecodeError(f"Expecting '{mark}' delimiter", text, place)
    return _skip(text, place + 1)


def _next(text: str, place: int, end: str) -> int:
    """Return the position of the next value, or of the end mark."""
    place = _skip(text, place)
    if text[place : place + 1] == end:
        return place
    place = _expect(text, place, ",")
    if text[place : place + 1] == end:
        raise json.JSONDecodeError("Expecting value", text, place)
    return place


def _expect_end(text: str, place: int) -> None:
    place = _skip(text, place)
    if place != len(text):
        raise json.JSONDecodeError("Extra data", text, place)
