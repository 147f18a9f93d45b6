"""RSNA Pneumonia Challenge: 26,684 images of ChestX-ray14 in three classes, with boxes (Shih et al., 2019)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from monai_anat.data.items import DatalistError, Item
from monai_anat.data.lists.public_sets.set_tables import find_table, index_images, present_items, read_json
from monai_anat.data.lists.tables import iterate_table, table_columns
from monai_anat.keys import IMAGE, LABEL

__all__ = ["RSNA_CLASSES", "read_rsna_pneumonia"]

#: exclusive classes in the order of the class numbers
RSNA_CLASSES = ["Normal", "No Lung Opacity / Not Normal", "Lung Opacity"]
_CLASS_COLUMNS = ["patientId", "class"]
_BOX = ("x", "y", "width", "height")


def read_rsna_pneumonia(folder: str | os.PathLike[str]) -> list[Item]:
    """List the RSNA challenge: ``stage_2_detailed_class_info.csv`` and images (DICOM or PNG) in any sub-folder.

    ``label`` is a class number in the order of ``RSNA_CLASSES``. ``boxes`` are all boxes of the image, [x, y, width,
    height] in pixels, from ``stage_2_train_labels.csv`` if it is there. The tables' ``patientId`` names an image and
    not a person. Persons are known with ``pneumonia-challenge-dataset-mappings_2018.json`` only; without it, each image
    is a patient of its own, although many persons have several.

    Args:
        folder: folder of the download.

    Raises:
        DatalistError: if the table or all images are missing, or a row names another class or box.
    """
    root = Path(folder).expanduser()
    table = find_table(root, ["stage_2_detailed_class_info.csv", "*detailed_class_info*.csv"])
    classes = _classes(table)
    boxes = _boxes(root)
    persons = _persons(root)
    places = index_images(root)
    items: list[Item | None] = []
    for name, number in classes.items():
        if name not in places:
            items.append(None)
            continue
        patient = persons.get(name, name)
        items.append({IMAGE: str(places[name]), "patient": patient, LABEL: number, "boxes": boxes.get(name, [])})
    return present_items(items, table)


def _class_rows(table: Path) -> Iterator[tuple[str, str]]:
    """Yield image and class of each row; some copies of the table have no header."""
    columns = table_columns(table)
    if "patientId" not in columns:
        yield columns[0], columns[1] if len(columns) > 1 else ""
    for row in iterate_table(table, names=_CLASS_COLUMNS if "patientId" not in columns else None):
        yield row.get("patientId", ""), row.get("class", "")


def _classes(table: Path) -> dict[str, int]:
    classes: dict[str, int] = {}
    for name, word in _class_rows(table):
        if word not in RSNA_CLASSES:
            raise DatalistError(f"classes of {table} must be one of {RSNA_CLASSES}, got {word!r} for {name}")
        number = RSNA_CLASSES.index(word)
        if classes.setdefault(name, number) != number:
            raise DatalistError(f"{table} names two classes for {name}: {RSNA_CLASSES[classes[name]]!r} and {word!r}")
    return classes


def _boxes(root: Path) -> dict[str, list[list[float]]]:
    boxes: dict[str, list[list[float]]] = {}
    table = root / "stage_2_train_labels.csv"
    if not table.is_file():
        return boxes
    for row in iterate_table(table, ["patientId", *_BOX]):
        if "x" not in row:
            continue
        try:
            boxes.setdefault(row.get("patientId", ""), []).append([float(row[column]) for column in _BOX])
        except (KeyError, ValueError):
            raise DatalistError(f"boxes of {table} must be four numbers, got {row}") from None
    return boxes


def _persons(root: Path) -> dict[str, str]:
    """Return image -> person of ChestX-ray14, from the mappings of the RSNA site."""
    path = root / "pneumonia-challenge-dataset-mappings_2018.json"
    if not path.is_file():
        return {}
    entries = [entry for entry in read_json(path) if isinstance(entry, dict)]
    return {str(e.get("subset_img_id")): str(e["img_id"]).partition("_")[0] for e in entries if "img_id" in e}
