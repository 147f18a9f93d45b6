"""Lists of what to train on: read, checked before the first step, and divided by patient.

An item is a dict ``{"image": path, "label": path or value, "patient": str, ...}``, as MONAI's own datalists have it.
Everything that can be wrong with a list is found here and said in a sentence, before any network is built.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..keys import IMAGE, LABEL

__all__ = [
    "DICOM_SUFFIXES",
    "DatalistError",
    "check_splits",
    "find_images",
    "is_image_file",
    "leads_out",
    "load_datalist",
    "load_splits",
    "patient_from_name",
    "split_by_patient",
    "split_names",
    "take_fraction",
    "take_shots",
    "walk_images",
]

Item = dict[str, Any]

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")
IMAGE_SUFFIXES = RASTER_SUFFIXES + DICOM_SUFFIXES + VOLUME_SUFFIXES
_IMAGE_COLUMNS = (IMAGE, "path", "file", "filename", "Path", "Image Index", "ImageID", "image_id", "dicom_path")
_SHOWN = 5  # how many offenders an error message names


class DatalistError(ValueError):
    """A list of images that cannot be trained on; the message says which item and the way out."""


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
            ``path`` or ``file``; ``label``, ``patient`` and ``split`` where wanted), or a list of items.
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


def check_splits(splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Refuse lists in which one patient, or one image file, is in two splits.

    Args:
        splits: name of the split -> its items; items without ``patient`` are compared by their files only.

    Raises:
        DatalistError: names the patients or files and the two splits.

    >>> check_splits({"training": [{"image": "a", "patient": "1"}], "test": [{"image": "b", "patient": "2"}]})
    """
    for key, what in (("patient", "patient"), (IMAGE, "image file")):
        owner: dict[Any, str] = {}
        shared: dict[tuple[str, str], list[str]] = {}
        for split, items in splits.items():
            for value in {str(item[key]) for item in items if item.get(key) is not None}:
                if owner.setdefault(value, split) != split:
                    shared.setdefault((owner[value], split), []).append(value)
        for (first, second), values in shared.items():
            names = ", ".join(repr(value) for value in sorted(values)[:_SHOWN])
            raise DatalistError(
                f"every {what} must be in one split only, got {len(values)} in both {first!r} and {second!r} "
                f"({names}{', ...' if len(values) > _SHOWN else ''}); divide with split_by_patient"
            )


def split_by_patient(
    datalist: Sequence[Mapping[str, Any]],
    fractions: Mapping[str, float],
    seed: int,
    stratify: str | None = None,
) -> dict[str, list[Item]]:
    """Divide a list so that all images of a patient land in the same split.

    Args:
        datalist: items; one without ``patient`` counts as a patient of its own.
        fractions: split -> share of the patients, summing to 1.
        seed: the same seed gives the same split.
        stratify: key (a class label, a source) whose values are spread evenly over the splits; a patient counts
            under the value that most of his images have.

    Returns:
        Split -> items, in their original order.

    Raises:
        ValueError: the fractions do not sum to 1.

    >>> items = [{"image": str(i), "patient": str(i // 2)} for i in range(20)]
    >>> parts = split_by_patient(items, {"training": 0.8, "test": 0.2}, seed=0)
    >>> len(parts["training"]), len(parts["test"])
    (16, 4)
    """
    if abs(sum(fractions.values()) - 1) > 1e-6 or min(fractions.values()) < 0:
        raise ValueError(f"fractions must be at least 0 and sum to 1, got {dict(fractions)}")
    groups = _by_patient(datalist)
    strata: dict[str, list[str]] = {}
    for patient, members in groups.items():
        values = Counter(str(datalist[i].get(stratify)) if stratify else "" for i in members)
        strata.setdefault(sorted(values, key=lambda v: (-values[v], v))[0], []).append(patient)
    generator = np.random.default_rng(seed)
    names = list(fractions)
    home: dict[str, str] = {}
    taken, wanted = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for value in sorted(strata):
        patients = strata[value]
        for name in names:
            wanted[name] += fractions[name] * len(patients)
        for number in generator.permutation(len(patients)):
            # the split that is furthest behind its share takes the next patient: exact to one patient per stratum
            name = max(names, key=lambda n: wanted[n] - taken[n])
            taken[name] += 1
            home[patients[int(number)]] = name
    result: dict[str, list[Item]] = {name: [] for name in names}
    owner = {i: home[patient] for patient, members in groups.items() for i in members}
    for i, item in enumerate(datalist):
        result[owner[i]].append(dict(item))
    return result


def take_shots(datalist: Sequence[Mapping[str, Any]], shots: int, seed: int) -> list[Item]:
    """Draw a few labelled images, from as many patients as there are; smaller draws are parts of larger ones.

    Args:
        datalist: items to draw from.
        shots: how many images.
        seed: the draw; 3 shots of a seed are among the 6 shots of the same seed.

    Raises:
        ValueError: more shots than items, or none.

    >>> items = [{"image": str(i), "patient": str(i % 5)} for i in range(10)]
    >>> few, more = take_shots(items, 3, seed=1), take_shots(items, 6, seed=1)
    >>> few == more[:3], len({item["patient"] for item in few})
    (True, 3)
    """
    if not 1 <= shots <= len(datalist):
        raise ValueError(f"shots must be between 1 and the {len(datalist)} images of the list, got {shots}")
    generator = np.random.default_rng(seed)
    queues = []
    groups = list(_by_patient(datalist).values())
    for number in generator.permutation(len(groups)):
        members = groups[int(number)]
        queues.append([members[int(i)] for i in generator.permutation(len(members))])
    order = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    return [dict(datalist[i]) for i in order[:shots]]


def take_fraction(datalist: Sequence[Mapping[str, Any]], fraction: float, seed: int) -> list[Item]:
    """Keep a share of the labelled images, whole patients at a time; smaller shares are parts of larger ones.

    Args:
        datalist: items.
        fraction: share of the images, in (0, 1].
        seed: the draw.

    Returns:
        The images of so many patients that the share is just reached, in the list's order.

    Raises:
        ValueError: the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}")
    groups = list(_by_patient(datalist).values())
    wanted = math.ceil(fraction * len(datalist) - 1e-9)
    chosen: list[int] = []
    for number in np.random.default_rng(seed).permutation(len(groups)):
        if len(chosen) >= wanted:
            break
        chosen += groups[int(number)]
    return [dict(datalist[i]) for i in sorted(chosen)]


def _by_patient(datalist: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Positions of each patient's items; an item without a patient is a patient of its own."""
    groups: dict[str, list[int]] = {}
    for i, item in enumerate(datalist):
        patient = item.get("patient")
        groups.setdefault(f"item {i}" if patient is None else f"patient {patient}", []).append(i)
    return groups


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
            rows = [{k: v for k, v in row.items() if k is not None and v not in (None, "")} for row in reader]
            return list(reader.fieldnames or []), rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatalistError(
            f"table {path} must be CSV in UTF-8, got something else ({error}); save it as such"
        ) from error


def _read_table(path: Path, section: str) -> list[Item]:
    """The rows of a table as items; a column ``split`` chooses, where there is one."""
    columns, rows = _rows_of_table(path)
    column = next((name for name in _IMAGE_COLUMNS if name in columns), None)
    if column is None:
        raise DatalistError(f"table {path} must have a column {IMAGE!r}, path or file, got the columns {columns}")
    if "split" in columns:
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
