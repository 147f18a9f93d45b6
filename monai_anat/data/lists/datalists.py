"""Datalists: reading lists of images from folders, JSON files, tables and Python, and checking them.

Everything that can be wrong with a list is reported in one sentence before a network is built.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from monai_anat.data.items import DatalistError, Item, file_of
from monai_anat.data.lists.folder_images import FolderImages, scan_folder
from monai_anat.data.lists.folder_names import compile_patient_pattern, patient_from_name
from monai_anat.data.lists.folder_walk import IMAGE_SUFFIXES
from monai_anat.data.lists.tables import (
    is_table,
    iterate_json_items,
    iterate_json_sections,
    iterate_table,
    table_columns,
)
from monai_anat.keys import IMAGE, LABEL

__all__ = [
    "MASK_COLUMNS",
    "Outside",
    "load_datalist",
    "load_splits",
    "split_names",
]

#: paths outside the list's folder that a list may name: none, absolute ones, or relative ones as well
Outside = Literal["never", "absolute", "always"]
#: columns of masks per side, in the order of the list form ``label: [right, left]``
MASK_COLUMNS = ("right_mask", "left_mask")

_IMAGE_COLUMNS = (IMAGE, "path", "file", "filename", "Path", "Image Index", "ImageID", "image_id", "dicom_path")
#: column of a table, in small letters and without spaces and marks -> key of an item
_COLUMNS = {
    "split": "split",
    **dict.fromkeys(("patient", "patientid", "subject", "subjectid"), "patient"),
    **dict.fromkeys(("rightmask", "maskright", "rightlungmask"), MASK_COLUMNS[0]),
    **dict.fromkeys(("leftmask", "maskleft", "leftlungmask"), MASK_COLUMNS[1]),
    "label": LABEL,
}
_SHOWN = 5  # offenders that an error message names


def load_datalist(
    source: str | os.PathLike[str] | Iterable[Mapping[str, Any] | str],
    section: str = "training",
    *,
    base_dir: str | os.PathLike[str] | None = None,
    patient_pattern: str | None = None,
    check_files: bool = True,
    outside: Outside = "absolute",
) -> list[Item]:
    r"""Read a list of images from a folder, a file or Python objects.

    A folder with a ``datalist.json`` is read by that list, any other folder by its images (see
    :func:`~monai_anat.data.find_images`). Its sub-folders ``train``, ``val`` and ``test`` are sections, and masks of
    ``masks`` beside ``images``, or of ``leftMask`` and ``rightMask``, become labels. The numbers of files that are
    taken and passed over are logged.

    A JSON file has one of MONAI's forms: a dict of sections, each a list of items or of paths, or a bare list. A table
    (CSV or TSV, also with ``.gz``) has a column ``image``, ``path`` or ``file`` and optional columns ``label``,
    ``split``, ``patient`` (also as ``Patient ID`` or ``subject_id``), ``right_mask`` and ``left_mask``; the latter two
    become MONAI's list form, ``label: [right, left]``.

    Args:
        source: folder, file, or items or paths. ``~`` is the home folder.
        section: section of the list, or value of the column ``split``, to take.
        base_dir: folder that relative paths are relative to; by default the folder of the list.
        patient_pattern: regular expression that finds the patient in an image's file name; its first group is the
            patient: ``r"(\d+)_"`` for ``00001280_004.png``.
        check_files: whether every file must exist.
        outside: which paths outside the folder of a JSON file or table are allowed. ``"absolute"`` allows absolute
            paths and relative paths into a folder beside that of the list (``../images/a.png``), both of which are
            common, and refuses relative paths that climb further. ``"always"`` allows all paths, also with
            ``base_dir``. ``"never"`` refuses all: use it for lists from others. Paths in Python objects are not
            restricted.

    Returns:
        Items with absolute paths.

    Raises:
        DatalistError: if the list cannot be read, has no such section, is empty, leaves its folder, or names files
            that do not exist.

    >>> load_datalist([{"image": "a.png"}], check_files=False)[0]["image"].endswith("a.png")
    True
    """
    if outside not in ("never", "absolute", "always"):
        raise ValueError(f"outside must be 'never', 'absolute' or 'always', got {outside!r}")
    pattern = compile_patient_pattern(patient_pattern)
    if not isinstance(source, (str, os.PathLike)):
        name, folder, raw, outside = "the list given", Path.cwd(), iter(source), "always"
    else:
        path = _list_file(source)
        if path.is_dir():
            return _from_folder(scan_folder(path, patient_pattern), section)
        if not path.is_file():
            raise DatalistError(f"datalist must be an existing folder, JSON or CSV file, got {str(path)!r}")
        name, folder, raw = str(path), path.parent, _read_section(path, section)
    root = Path(base_dir).expanduser() if base_dir is not None else folder
    resolve = _Resolver(os.path.abspath(root), name, outside, check_files)  # noqa: PTH100 (keeps links)
    items = [resolve(item, position) for position, item in enumerate(raw)]
    if not items:
        raise DatalistError(f"section {section!r} of {name} must hold at least one item, got none")
    if pattern is not None:
        for item in items:
            patient = patient_from_name(Path(item[IMAGE]).name, pattern)
            if patient is not None:
                item.setdefault("patient", patient)
    resolve.check()
    return items


def load_splits(source: str | os.PathLike[str]) -> dict[str, list[Item]]:
    """Read every split of a list of images, for checks across splits.

    Args:
        source: folder or file, as for :func:`load_datalist`.

    Returns:
        Split -> items. A folder, list or table without splits has the split ``training`` alone.

    Raises:
        DatalistError: as :func:`load_datalist` does.
    """
    path = _list_file(source)
    if path.is_dir():
        found = scan_folder(path)
        names = dict.fromkeys([*(["training"] if None in found.splits else []), *found.split_names])
        return {name: _from_folder(found, name) for name in names}
    return {name: load_datalist(source, name) for name in split_names(source) or ["training"]}


def split_names(source: str | os.PathLike[str]) -> list[str]:
    """Return the names of the splits of a list of images.

    Args:
        source: folder or file, as for :func:`load_datalist`.

    Returns:
        Sections of a JSON file that list images, values of the column ``split`` of a table, or splits that sub-folders
        name. Empty if there are no splits.
    """
    path = _list_file(source)
    if path.is_dir():
        return scan_folder(path).split_names
    if path.is_file() and path.suffix.lower() == ".json":
        return [name for name, items in iterate_json_sections(path) if name is not None and _lists_images(items)]
    if path.is_file() and is_table(path):
        columns = _item_keys(table_columns(path))
        rows = iterate_table(path, names=columns)
        return sorted({row["split"] for row in rows if "split" in row}) if "split" in columns else []
    return []


def _list_file(source: str | os.PathLike[str]) -> Path:
    """Return the file or folder that a source names: a folder's ``datalist.json`` where there is one."""
    path = Path(source).expanduser()
    listed = path / "datalist.json"
    return listed if listed.is_file() else path


def _from_folder(found: FolderImages, section: str) -> list[Item]:
    items = found.section(section)
    found.log(section, len(items))
    return items


def _read_section(path: Path, section: str) -> Iterator[Any]:
    """Return the raw items of one section of a JSON, CSV or TSV file."""
    if is_table(path):
        return _read_table(path, section)
    if path.suffix.lower() != ".json":
        raise DatalistError(f"datalist must be a folder, a .json, .csv or .tsv file, got {str(path)!r}")
    return iterate_json_items(path, section)


def _lists_images(items: Iterable[Any]) -> bool:
    """Return whether a section lists images: MONAI's lists also hold names of channels and labels."""
    return any(
        IMAGE in item if isinstance(item, dict) else str(item).lower().endswith(IMAGE_SUFFIXES) for item in items
    )


def _item_keys(columns: Sequence[str]) -> list[str]:
    """Rename columns to the keys of items; a table that has the key itself keeps its other columns as they are.

    >>> _item_keys(["image", "Patient ID", "Split"]), _item_keys(["patient", "subject_id"])
    (['image', 'patient', 'split'], ['patient', 'subject_id'])
    """
    keys: list[str] = []
    for column in columns:
        key = _COLUMNS.get(re.sub(r"[\s_.-]", "", column).lower(), column)
        keys.append(column if key in keys or key in columns else key)
    return keys


def _read_table(path: Path, section: str) -> Iterator[Item]:
    """Yield the rows of a table as items; a column ``split`` chooses, where there is one."""
    columns = _item_keys(table_columns(path))
    named = {column.lower(): column for column in reversed(columns)}
    column = next((named[name.lower()] for name in _IMAGE_COLUMNS if name.lower() in named), None)
    if column is None:
        raise DatalistError(f"table {path} must have a column {IMAGE!r}, path or file, got the columns {columns}")
    found: set[str] = set()
    for row in iterate_table(path, names=columns):
        split = row.get("split", "")  # no word: images of no section
        found.add(split)
        if "split" not in columns or split == section:
            yield {IMAGE: row.pop(column, None), **row}
    if "split" in columns and found and section not in found:
        raise DatalistError(
            f"section must be one of {sorted(found - {''})}, the words in the column 'split' of {path}, got "
            f"{section!r}; write {section!r} there for the images of that section"
        )


class _Resolver:
    """Make paths absolute, item by item, and stop at a list that cannot be used.

    Args:
        root: absolute folder of relative paths.
        name: name of the list in messages.
        outside: which paths outside ``root`` are allowed.
        check_files: whether files must exist.
    """

    def __init__(self, root: str, name: str, outside: Outside, check_files: bool) -> None:
        self.root, self.name, self.outside, self.check_files = root, name, outside, check_files
        self.missing: list[str] = []
        self.seen = 0

    def __call__(self, item: Any, position: int) -> Item:
        if not isinstance(item, (str, os.PathLike, Mapping)):
            raise DatalistError(f"item {position} of {self.name} must be a path or have {IMAGE!r}, got {item!r}")
        entry = {IMAGE: item} if isinstance(item, (str, os.PathLike)) else dict(item)
        if entry.get(IMAGE) in (None, ""):
            raise DatalistError(f"item {position} of {self.name} must have {IMAGE!r}, got {sorted(entry)}")
        _join_sides(entry, position, self.name)
        for key, value in entry.items():
            if isinstance(value, (list, tuple)) and key in (IMAGE, LABEL):
                if value and all(isinstance(part, (str, os.PathLike)) and _is_path(part) for part in value):
                    entry[key] = [self._path(key, part, position) for part in value]
            elif isinstance(value, (str, os.PathLike)) and (key == IMAGE or (key != "patient" and _is_path(value))):
                entry[key] = self._path(key, value, position)
        self.seen += 1
        return entry

    def _path(self, key: str, value: str | os.PathLike[str], position: int) -> str:
        text = os.fspath(value)
        text = os.path.expanduser(text) if text.startswith("~/") else text  # noqa: PTH111 (a million times)
        path = os.path.join(self.root, text)  # noqa: PTH118
        if self.outside != "always":
            self._check_inside(text, path, position)
        # stop early: a list with a wrong base folder may name a million missing files
        if self.check_files and key in (IMAGE, LABEL) and not os.path.isfile(file_of(path)):  # noqa: PTH113
            self.missing.append(f"item {position}: {path}")
            if len(self.missing) > _SHOWN:
                self.check()
        return path

    def _check_inside(self, text: str, path: str, position: int) -> None:
        absolute = os.path.isabs(text)  # noqa: PTH117
        if (absolute and self.outside == "absolute") or (not absolute and ".." not in text):
            return
        normal = os.path.normpath(path)
        if normal.startswith(os.path.join(self.root, "")):  # noqa: PTH118
            return
        if self.outside == "absolute" and self._is_in_sibling_folder(normal):
            return
        if absolute:
            way = "write it relative to the list, or pass outside='absolute'"
        else:
            way = "write an absolute path, move the list up, or pass outside='always'"
        raise DatalistError(f"item {position} of {self.name} leaves the folder {self.root} by {text!r}; {way}")

    def _is_in_sibling_folder(self, path: str) -> bool:
        """Whether a path is in a folder beside that of the list, as in ``lists/`` and ``images/`` of one data set."""
        parent = os.path.join(os.path.dirname(self.root), "")  # noqa: PTH118, PTH120
        return path.startswith(parent) and os.sep in path[len(parent) :]

    def check(self) -> None:
        """Refuse a list that names files which do not exist."""
        if self.missing:
            shown = "; ".join(self.missing[:_SHOWN]) + ("; ..." if len(self.missing) > _SHOWN else "")
            count = f"{len(self.missing)} of the first {self.seen + 1}" if len(self.missing) > _SHOWN else ""
            raise DatalistError(
                f"every file of {self.name} must exist, got {count or f'{len(self.missing)} of {self.seen}'} missing "
                f"({shown}); relative paths are relative to the list's folder, or to base_dir"
            )


def _is_path(value: str | os.PathLike[str]) -> bool:
    return file_of(os.fspath(value)).lower().endswith((*IMAGE_SUFFIXES, ".npy"))


def _join_sides(entry: Item, position: int, name: str) -> None:
    """Bring the columns of the right and left mask to the form ``label: [right, left]``."""
    sides = [entry.pop(column, None) for column in MASK_COLUMNS]
    given = [side for side in sides if side not in (None, "")]
    if not given:
        return
    if len(given) != len(sides) or entry.get(LABEL) not in (None, ""):
        raise DatalistError(
            f"item {position} of {name} must have both of {list(MASK_COLUMNS)} and no other {LABEL!r}, got "
            f"{dict(zip(MASK_COLUMNS, sides, strict=True))} and {LABEL}={entry.get(LABEL)!r} for {entry[IMAGE]}"
        )
    entry[LABEL] = given
