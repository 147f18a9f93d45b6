"""The large public collections as lists, read from their own tables and folders.

Every function takes the folder as the collection is downloaded and returns items with ``image``, ``patient`` where the
collection names patients, ``view``, ``split`` where it has an official one, and ``label`` (numbers, in the order of the
names given in its docstring). Images that the table names and the disk lacks are left out, and counted in the log.
"""

from __future__ import annotations

import csv
import gzip
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_anat.data.items import DatalistError, Item
from monai_anat.keys import IMAGE, LABEL

__all__ = [
    "CHESTXRAY14_FINDINGS",
    "CHEXPERT_FINDINGS",
    "PUBLIC_SETS",
    "mix_datalists",
    "read_chestxray14",
    "read_chexpert",
    "read_mimic_cxr",
    "read_padchest",
    "read_vindr_cxr",
]

logger = logging.getLogger(__name__)

CHESTXRAY14_FINDINGS = [
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
]
CHEXPERT_FINDINGS = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
]


def read_chestxray14(folder: str | os.PathLike[str]) -> list[Item]:
    """List ChestX-ray14: ``Data_Entry_2017*.csv``, ``train_val_list.txt``, ``test_list.txt``, images in any sub-folder.

    Labels are 0 or 1 in the order of ``CHESTXRAY14_FINDINGS``. The official training and validation list becomes
    ``training``.

    Args:
        folder: the download.

    Raises:
        DatalistError: the table or all images are missing.
    """
    root = Path(folder)
    table = _one_of(root, ["Data_Entry_2017*.csv"])
    places = {path.name: path for path in root.rglob("*.png")}
    official: dict[str, str] = {}
    for name, split in (("train_val_list.txt", "training"), ("test_list.txt", "test")):
        if (root / name).is_file():
            official.update(dict.fromkeys((root / name).read_text().split(), split))
    items: list[Item | None] = []
    for row in _rows(table):
        findings = row["Finding Labels"].split("|")
        item: Item = {
            IMAGE: str(places.get(row["Image Index"], "")),
            "patient": row["Patient ID"],
            "view": row.get("View Position", ""),
            LABEL: [int(name in findings) for name in CHESTXRAY14_FINDINGS],
        }
        if row["Image Index"] in official:
            item["split"] = official[row["Image Index"]]
        items.append(item if item[IMAGE] else None)
    return _present(items, table)


def read_chexpert(folder: str | os.PathLike[str]) -> list[Item]:
    """List CheXpert: ``train.csv`` and ``valid.csv`` beside the folders ``train`` and ``valid``.

    Labels are 1, 0 (also where not mentioned) or -1 (uncertain), in the order of ``CHEXPERT_FINDINGS``.

    Args:
        folder: the download.

    Raises:
        DatalistError: the tables or all images are missing.
    """
    root = Path(folder)
    items: list[Item | None] = []
    tables = [
        (name, split) for name, split in (("train.csv", "training"), ("valid.csv", "validation"), ("test.csv", "test"))
    ]
    table = _one_of(root, [name for name, _ in tables])
    for name, split in tables:
        if not (root / name).is_file():
            continue
        for row in _rows(root / name):
            parts = Path(row["Path"]).parts
            # the table's paths begin with the name that the archive had
            path = next((p for p in (root.joinpath(*parts[n:]) for n in range(len(parts))) if p.is_file()), None)
            patient = next((part for part in parts if part.startswith("patient")), None)
            frontal = row.get("Frontal/Lateral", "Frontal") == "Frontal"
            view = (row.get("AP/PA") or "FRONTAL") if frontal else "LATERAL"
            label = [int(float(row.get(finding) or 0)) for finding in CHEXPERT_FINDINGS]
            item = {IMAGE: str(path), "patient": patient, "view": view, "split": split, LABEL: label}
            items.append(item if path is not None else None)
    return _present(items, table)


def read_mimic_cxr(folder: str | os.PathLike[str]) -> list[Item]:
    """List MIMIC-CXR-JPG: its ``-metadata``, ``-split`` and ``-chexpert`` tables (plain or gzip) beside ``files``.

    Labels as for CheXpert, from the study's report.

    Args:
        folder: the download.

    Raises:
        DatalistError: the metadata table or all images are missing.
    """
    root = Path(folder)
    table = _one_of(root, ["mimic-cxr-*-metadata.csv*"])
    splits: dict[str, str] = {}
    names = {"train": "training", "validate": "validation", "test": "test"}
    for path in sorted(root.glob("mimic-cxr-*-split.csv*")):
        splits.update({row["dicom_id"]: names[row["split"]] for row in _rows(path)})
    labels: dict[tuple[str, str], list[int]] = {}
    for path in sorted(root.glob("mimic-cxr-*-chexpert.csv*")):
        for row in _rows(path):
            label = [int(float(row.get(finding) or 0)) for finding in CHEXPERT_FINDINGS]
            labels[row["subject_id"], row["study_id"]] = label
    items: list[Item | None] = []
    for row in _rows(table):
        subject, study, name = row["subject_id"], row["study_id"], row["dicom_id"]
        path = root / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{name}.jpg"
        item: Item = {IMAGE: str(path), "patient": subject, "view": row.get("ViewPosition", "")}
        if name in splits:
            item["split"] = splits[name]
        if (subject, study) in labels:
            item[LABEL] = labels[subject, study]
        items.append(item if path.is_file() else None)
    return _present(items, table)


def read_vindr_cxr(folder: str | os.PathLike[str]) -> list[Item]:
    """List VinDr-CXR: ``train`` and ``test`` with DICOM files, ``annotations/image_labels_*.csv``.

    Labels are 1 where most of the readers of an image say so, in the order of the table's columns. The collection names
    no patients; each image counts as one.

    Args:
        folder: the download.

    Raises:
        DatalistError: the tables or all images are missing.
    """
    root = Path(folder)
    table = _one_of(root, ["annotations/image_labels_train.csv", "annotations/image_labels_test.csv"])
    items: list[Item | None] = []
    for name, split in (("train", "training"), ("test", "test")):
        path = root / "annotations" / f"image_labels_{name}.csv"
        if not path.is_file():
            continue
        votes: dict[str, list[list[float]]] = {}
        for row in _rows(path):
            marks = [float(value) for key, value in row.items() if key not in ("image_id", "rad_id", "rad_ID")]
            votes.setdefault(row["image_id"], []).append(marks)
        for image, marks_of_readers in votes.items():
            label = (np.mean(marks_of_readers, axis=0) > 0.5).astype(int).tolist()
            place = next((p for s in (".dicom", ".dcm", ".png") if (p := root / name / f"{image}{s}").is_file()), None)
            item = {IMAGE: str(place), "split": split, LABEL: label}
            items.append(item if place is not None else None)
    return _present(items, table)


def read_padchest(folder: str | os.PathLike[str]) -> list[Item]:
    """List PadChest: ``PADCHEST_chest_x_ray_images_labels_*.csv`` (plain or gzip), images in numbered folders or flat.

    Its labels are words and are left out; ``Projection`` becomes ``view``.

    Args:
        folder: the download.

    Raises:
        DatalistError: the table or all images are missing.
    """
    root = Path(folder)
    table = _one_of(root, ["PADCHEST_chest_x_ray_images_labels*.csv*"])
    views = {"L": "LATERAL", "PA": "PA", "AP": "AP", "AP_horizontal": "AP"}
    items: list[Item | None] = []
    for row in _rows(table):
        places = (root / row.get("ImageDir", "") / row["ImageID"], root / row["ImageID"])
        path = next((place for place in places if place.is_file()), None)
        # COSTAL views show ribs at another exposure and often one side: no frontal chest radiograph
        view = views.get(row.get("Projection", ""), "OBLIQUE" if row.get("Projection") else "")
        item = {IMAGE: str(path), "patient": row["PatientID"], "view": view}
        items.append(item if path is not None else None)
    return _present(items, table)


#: name -> reader, for a command line
PUBLIC_SETS: dict[str, Callable[[str | os.PathLike[str]], list[Item]]] = {
    "chestxray14": read_chestxray14,
    "chexpert": read_chexpert,
    "mimic": read_mimic_cxr,
    "padchest": read_padchest,
    "vindr": read_vindr_cxr,
}


def mix_datalists(
    sources: Mapping[str, Sequence[Mapping[str, Any]]],
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    length: int | None = None,
) -> list[Item]:
    """Mix several lists so that each has its share of an epoch, repeating a short list and thinning a long one.

    Args:
        sources: name -> items.
        weights: name -> share, in any unit; by default each list counts by its length.
        seed: which items of a list that is thinned, or repeated in part.
        length: items in all; by default as many as the lists hold together.

    Returns:
        Items with ``source``, ordered by source: shuffling is the sampler's work.

    Raises:
        ValueError: weights and sources differ, or a weight is not positive.

    >>> parts = {"a": [{"image": "1"}], "b": [{"image": "2"}, {"image": "3"}, {"image": "4"}]}
    >>> [item["source"] for item in mix_datalists(parts, {"a": 1, "b": 1})]
    ['a', 'a', 'b', 'b']
    """
    shares = dict(weights) if weights is not None else {name: float(len(items)) for name, items in sources.items()}
    if set(shares) != set(sources) or min(shares.values(), default=1) <= 0:
        raise ValueError(f"weights must be positive and name the sources {sorted(sources)}, got {shares}")
    total = length if length is not None else sum(len(items) for items in sources.values())
    names = sorted(sources)
    bounds = np.rint(np.cumsum([0.0] + [shares[name] for name in names]) / sum(shares.values()) * total).astype(int)
    mixed: list[Item] = []
    for number, name in enumerate(names):
        items, wanted = sources[name], int(bounds[number + 1] - bounds[number])
        if not items:
            raise ValueError(f"every source must hold items, got none in {name!r}")
        whole, rest = divmod(wanted, len(items))
        extra = np.sort(np.random.default_rng((seed, number)).permutation(len(items))[:rest]).tolist()
        mixed += [{**items[i], "source": name} for i in [*list(range(len(items))) * whole, *extra]]
    return mixed


def _one_of(root: Path, patterns: Sequence[str]) -> Path:
    """The first table that is there."""
    for pattern in patterns:
        found = sorted(root.glob(pattern))
        if found:
            return found[0]
    raise DatalistError(f"folder must hold {' or '.join(patterns)}, got none in {str(root)!r}")


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as handle:
        yield from csv.DictReader(handle)


def _present(items: Sequence[Item | None], table: Path) -> list[Item]:
    present = [item for item in items if item is not None]
    missing = len(items) - len(present)
    if not present:
        raise DatalistError(
            f"the images of {table.name} must be on disk, got none of {len(items)} under {table.parent}"
        )
    if missing:
        logger.warning(
            "%d of %d images that %s names are not on disk and are left out", missing, len(items), table.name
        )
    return present
