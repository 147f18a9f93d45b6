"""Lists of what to train on: read, and checked before the first step.

An item is a dict ``{"image": path, "label": path or value, "patient": str, ...}``, as MONAI's own datalists have it.
Everything that can be wrong with a list is found here and said in a sentence, before any network is built.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_anat.data.items import DatalistError, Item
from monai_anat.keys import IMAGE, LABEL

__all__ = [
    "DICOM_SUFFIXES",
    "find_images",
    "is_image_file",
    "leads_out",
    "load_datalist",
    "load_splits",
    "patient_from_name",
    "split_names",
    "walk_images",
]

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")
IMAGE_SUFFIXES = RASTER_SUFFIXES + DICOM_SUFFIXES + VOLUME_SUFFIXES
_IMAGE_COLUMNS = (IMAGE, "path", "file", "filename", "Path", "Image Index", "ImageID", "image_id", "dicom_path")
#: what a table may call a column, in small letters and without spaces and marks -> what an item calls it
_COLUMNS = {"split": "split", **dict.fromkeys(("patient", "patientid", "subject", "subjectid"), "patient")}
_SHOWN = 5  # how many offenders an error message names


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Say whether a file looks like an image: by its ending, or, without one, by DICOM's mark at byte 128.

    Args:
        path: a file.

    >>> is_image_file("chest.PNG"), is_image_file("notes.txt")
    (True, False)
    """
    name = Path(path).name
    if name.startswith(".") or name.upper() == "DICOMDIR":
        return False
    if name.lower().endswith(IMAGE_SUFFIXES):
        return True
    # DICOM names are often UIDs: digits and dots, whose last part is no ending
    if "." in name and not re.fullmatch(r"[0-9.]+", name):
        return False
    try:
        if not Path(path).is_file():  # a pipe would be waited for
            return False
        with Path(path).open("rb") as handle:
            return handle.read(132)[128:] == b"DICM"
    except OSError:
        return False


def leads_out(path: Path, root: Path) -> bool:
    """Say whether a symbolic link leads out of a folder; one that leads in a circle leads nowhere.

    Args:
        path: a file or folder.
        root: the folder, without links in it.
    """
    try:
        return path.is_symlink() and not path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def walk_images(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the image files under a folder in a fixed order, holding one folder's names in memory at a time.

    Hidden files, DICOMDIR files and symbolic links that lead out of the folder are passed over.

    Args:
        folder: where to look.
    """
    root = Path(folder).resolve()
    for current, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(current) / name
            if is_image_file(path) and not leads_out(path, root):
                yield path


def find_images(folder: str | os.PathLike[str], patient_pattern: str | None = None) -> list[Item]:
    r"""List the images under a folder.

    Args:
        folder: where to look, sub-folders included.
        patient_pattern: regular expression whose first group, searched in the path relative to ``folder``, is the
            patient: ``r"(\d+)_"`` for ``00001280_004.png``.

    Returns:
        Items with ``image`` (absolute path) and, where the pattern matches, ``patient``, in sorted order.

    Raises:
        DatalistError: the folder does not exist or holds no image.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DatalistError(f"folder must be an existing folder of images, got {str(root)!r}; check the path")
    items: list[Item] = []
    for path in walk_images(root):
        item: Item = {IMAGE: str(path)}
        patient = patient_from_name(str(path.relative_to(root.resolve())), patient_pattern)
        if patient is not None:
            item["patient"] = patient
        items.append(item)
    if not items:
        endings = Counter(path.suffix or "no ending" for path in root.rglob("*") if path.is_file())
        seen = ", ".join(f"{count} x {ending}" for ending, count in endings.most_common(_SHOWN)) or "no file at all"
        raise DatalistError(
            f"folder must hold radiographs, got none in {str(root)!r} ({seen}); "
            f"files that are read end in {', '.join(IMAGE_SUFFIXES)} or start like DICOM"
        )
    return items


def patient_from_name(name: str, patient_pattern: str | None) -> str | None:
    r"""Take the patient out of a file name by a rule.

    Args:
        name: the file name or relative path.
        patient_pattern: regular expression whose first group is the patient; None finds nobody.

    >>> patient_from_name("00001280_004.png", r"(\d+)_")
    '00001280'
    """
    if patient_pattern is None:
        return None
    match = re.search(patient_pattern, name)
    if match is None:
        return None
    return match.group(1) if match.re.groups else match.group(0)


def load_datalist(
    source: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
    section: str = "training",
    *,
    base_dir: str | os.PathLike[str] | None = None,
    patient_pattern: str | None = None,
    check_files: bool = True,
) -> list[Item]:
    """Read a list of images from whatever a user has.

    Args:
        source: a folder (its ``datalist.json`` where it has one, else its images), a JSON file in one of MONAI's
            forms (a dict of sections, of items or of paths; or a bare list), a CSV or TSV file (a column ``image``,
            ``path`` or ``file``; where wanted ``label``, ``split``, ``patient``, also as ``Patient ID`` or
            ``subject_id``), or a list of items.
        section: the part of the list, or the value of the ``split`` column, to take.
        base_dir: what relative paths are relative to; the list's own folder by default.
        patient_pattern: rule that finds the patient in an image's file name; see ``find_images``.
        check_files: look whether every file is there.

    Returns:
        Items with absolute paths.

    Raises:
        DatalistError: the list cannot be read, has no such section, is empty, or names files that are not there.

    >>> load_datalist([{"image": "a.png"}], check_files=False)[0]["image"].endswith("a.png")
    True
    """
    if not isinstance(source, (str, os.PathLike)):
        name, folder, raw = "the list given", Path.cwd(), list(source)
    else:
        path = Path(source)
        if path.is_dir() and not (path / "datalist.json").is_file():
            return find_images(path, patient_pattern)
        path = path / "datalist.json" if path.is_dir() else path
        if not path.is_file():
            raise DatalistError(f"datalist must be an existing folder, JSON or CSV file, got {str(path)!r}")
        name, folder, raw = str(path), path.parent, _read_section(path, section)
    root = Path(base_dir) if base_dir is not None else folder
    items = [_resolve(item, root.absolute(), position, name) for position, item in enumerate(raw)]
    if not items:
        raise DatalistError(f"section {section!r} of {name} must hold at least one item, got none")
    if patient_pattern is not None:
        for item in items:
            patient = patient_from_name(Path(item[IMAGE]).name, patient_pattern)
            if patient is not None:
                item.setdefault("patient", patient)
    if check_files:
        _check_files(items, name)
    return items


def load_splits(source: str | os.PathLike[str]) -> dict[str, list[Item]]:
    """Read every split of a list of images, for checks across them.

    Args:
        source: as of ``load_datalist``, on disk.

    Returns:
        Split -> items; ``training`` alone for a folder of images, or a list or table without splits.

    Raises:
        DatalistError: as ``load_datalist`` does.
    """
    return {name: load_datalist(source, name) for name in split_names(source) or ["training"]}


def split_names(source: str | os.PathLike[str]) -> list[str]:
    """Name the splits of a list of images: sections of a JSON file that list images, or values of the column ``split``.

    Args:
        source: as of ``load_datalist``, on disk.

    Returns:
        Names; none for a folder of images, or a list or table without splits.
    """
    path = Path(source) / "datalist.json" if Path(source).is_dir() else Path(source)
    if path.is_file() and path.suffix.lower() == ".json":
        content = _read_json(path)
        if isinstance(content, dict):
            return [name for name, items in content.items() if isinstance(items, list) and _lists_images(items)]
    elif path.is_file() and path.suffix.lower() in (".csv", ".tsv"):
        _, rows = _rows_of_table(path)
        return sorted({row["split"] for row in rows if "split" in row})
    return []


def _read_section(path: Path, section: str) -> list[Any]:
    """The raw items of one section of a JSON, CSV or TSV file."""
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _read_table(path, section)
    if suffix != ".json":
        raise DatalistError(f"datalist must be a folder, a .json, .csv or .tsv file, got {str(path)!r}")
    content = _read_json(path)
    if isinstance(content, list):
        return content
    sections = [k for k, v in content.items() if isinstance(v, list)] if isinstance(content, dict) else []
    if section not in sections:
        raise DatalistError(f"section must be one of {sections} of {path}, got {section!r}")
    return list(content[section])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatalistError(f"datalist {path} must be JSON, got text that is not: {error}") from error


def _lists_images(items: Sequence[Any]) -> bool:
    """Whether a list of a JSON file is one of images: MONAI's lists also hold channel and label names."""
    return any(
        IMAGE in item if isinstance(item, dict) else str(item).lower().endswith(IMAGE_SUFFIXES) for item in items
    )


def _rows_of_table(path: Path) -> tuple[list[str], list[Item]]:
    """Columns and rows of a table, without its empty cells; values stand between commas, semicolons or tabs."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            header = handle.readline()
            handle.seek(0)
            reader = csv.DictReader(handle, delimiter=max(",;\t", key=header.count))
            reader.fieldnames = _item_keys(reader.fieldnames or [])
            rows = [{k: v for k, v in row.items() if k is not None and v not in (None, "")} for row in reader]
            return list(reader.fieldnames), rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatalistError(
            f"table {path} must be CSV in UTF-8, got something else ({error}); save it as such"
        ) from error


def _item_keys(columns: Sequence[str]) -> list[str]:
    """Column names as items have them; a table that has the item's own name already keeps the others as they are.

    >>> _item_keys(["image", "Patient ID", "Split"]), _item_keys(["patient", "subject_id"])
    (['image', 'patient', 'split'], ['patient', 'subject_id'])
    """
    keys: list[str] = []
    for column in columns:
        key = _COLUMNS.get(re.sub(r"[\s_.-]", "", column).lower(), column)
        keys.append(column if key in keys or key in columns else key)
    return keys


def _read_table(path: Path, section: str) -> list[Item]:
    """The rows of a table as items; a column ``split`` chooses, where there is one."""
    columns, rows = _rows_of_table(path)
    column = next((name for name in _IMAGE_COLUMNS if name in columns), None)
    if column is None:
        raise DatalistError(f"table {path} must have a column {IMAGE!r}, path or file, got the columns {columns}")
    if "split" in columns:
        found = {row.get("split", "") for row in rows}  # no word: images of no section
        if rows and section not in found:
            raise DatalistError(
                f"section must be one of {sorted(found - {''})}, the words in the column 'split' of {path}, got "
                f"{section!r}; write {section!r} there for the images of that section"
            )
        rows = [row for row in rows if row.get("split", "") == section]
    return [{IMAGE: row.pop(column, None), **row} for row in rows]


def _resolve(item: Any, root: Path, position: int, name: str) -> Item:
    """One item with absolute paths."""
    if not isinstance(item, (str, os.PathLike, Mapping)):
        raise DatalistError(f"item {position} of {name} must be a path or have {IMAGE!r}, got {item!r}")
    entry = {IMAGE: item} if isinstance(item, (str, os.PathLike)) else dict(item)
    if entry.get(IMAGE) in (None, ""):
        raise DatalistError(f"item {position} of {name} must have {IMAGE!r}, got {sorted(entry)}")
    for key, value in entry.items():
        is_path = key == IMAGE or (key != "patient" and str(value).split("#")[0].lower().endswith(IMAGE_SUFFIXES))
        if isinstance(value, (str, os.PathLike)) and is_path:
            home = str(value).startswith("~/")
            entry[key] = str(root / (Path(value).expanduser() if home else value))
    return entry


def _check_files(items: Sequence[Mapping[str, Any]], name: str) -> None:
    """Refuse a list that names files which are not there."""
    missing = []
    for position, item in enumerate(items):
        for key in (IMAGE, LABEL):
            value = item.get(key)
            is_path = isinstance(value, str) and (key == IMAGE or value.lower().endswith(IMAGE_SUFFIXES))
            if is_path and not Path(str(value).split("#")[0]).is_file():
                missing.append(f"item {position}: {value}")
    if missing:
        shown = "; ".join(missing[:_SHOWN]) + ("; ..." if len(missing) > _SHOWN else "")
        raise DatalistError(
            f"every file of {name} must exist, got {len(missing)} of {len(items)} missing ({shown}); "
            "relative paths are relative to the list's folder, or to base_dir"
        )
