"""Build ``monai_anat/data/sample`` from a folder of public radiographs and their ``manifest.csv``.

Run: ``python tools/build_sample.py FOLDER [--contact-sheet sheet.png]``.

FOLDER holds ``manifest.csv`` (file, split, source, source_id, patient_group, view, sex, age, annotation, license, url,
doi) and ``cxr_seg/datalist.json``. The sample takes every image with lung masks that has a license for redistribution
and modification (never NC or ND), and 200 frontal radiographs of *training* patients for pre-training, one per patient
if there are enough patients. Images become gray JPEG files with a long side of 320 pixels, masks become PNG files. The
choice depends on the source ids alone, so the same folder always gives the same sample.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

LONG_SIDE = 320
JPEG_QUALITY = 90
SAMPLE = Path(__file__).resolve().parents[1] / "monai_anat" / "data" / "sample"
#: source -> number of pre-training images, and the most of one patient
PRETRAINING = {"nih": (130, 1), "hannover": (45, 2), "kermany": (25, 1)}
#: found on the contact sheet: oblique views, or hardly any lung visible
EXCLUDED = frozenset({"00003490_010", "00008691_005", "3a81faf3", "bcb814aa", "1479fa94", "fd389adb"})
#: findings of ChestX-ray14, and the view, which can be learned from so few images
CLASSES = (
    *(
        "AP view",
        "Atelectasis",
        "Cardiomegaly",
        "Consolidation",
        "Edema",
        "Effusion",
        "Emphysema",
        "Fibrosis",
        "Hernia",
    ),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)
#: shares of the NIH images, one per patient, by their number in the order of a hash
CLASSIFICATION = {"training": 0.6, "validation": 0.15, "test": 0.25}
FIELDS = ["file", "part", "source", "source_id", "patient", "view", "annotation", "license", "url", "doi"]


def is_free(row: dict[str, str]) -> bool:
    """Return whether the license allows redistribution and modification for any purpose."""
    license = row["license"]
    if "NC" in license.replace("NIH Clinical Center", "") or "ND" in license:
        return False
    return license.startswith(("CC BY", "NIH Clinical Center: no restriction"))


def pick_pretraining(rows: list[dict[str, str]], held_out: set[str]) -> list[dict[str, str]]:
    """Choose the pre-training images: adults first from NIH, PA and AP in turn, few per patient."""
    chosen = []
    for source, (count, per_patient) in PRETRAINING.items():
        pool = [r for r in rows if r["source"] == source and not r["annotation"] and r["split"] == "training"]
        pool = [r for r in pool if is_free(r) and r["patient_group"] not in held_out and r["source_id"] not in EXCLUDED]
        if source == "nih":
            pool = [r for r in pool if int(r["age"]) >= 18]
        pool.sort(key=lambda r: hashlib.sha256(r["source_id"].encode()).hexdigest())
        groups: dict[str, int] = {}
        by_view: dict[str, list[dict[str, str]]] = {"PA": [], "AP": []}
        for row in pool:
            if groups.get(row["patient_group"], 0) < per_patient:
                groups[row["patient_group"]] = groups.get(row["patient_group"], 0) + 1
                by_view[row["view"][:2]].append(row)
        half = min(count // 2, len(by_view["PA"]))
        chosen += by_view["PA"][:half] + by_view["AP"][: count - half]
    return chosen


def write_image(source: Path, target: Path) -> tuple[int, int]:
    """Write one radiograph as a gray JPEG and return its size (width, height)."""
    image = Image.open(source).convert("L")
    scale = LONG_SIDE / max(image.size)
    size = image.size if scale >= 1 else (round(image.width * scale), round(image.height * scale))
    image.resize(size, Image.Resampling.LANCZOS).save(target, quality=JPEG_QUALITY, optimize=True)
    return size


def write_mask(source: Path, target: Path, size: tuple[int, int]) -> None:
    """Write one label map (0 background, 1 right lung, 2 left lung) as PNG."""
    mask = Image.open(source)
    array = np.asarray(mask.resize(size, Image.Resampling.NEAREST)).astype(np.uint8)
    Image.fromarray(array).save(target, optimize=True)


def record(row: dict[str, str], file: str, part: str) -> dict[str, str]:
    """Return one row of attribution.csv."""
    kept = {key: row[key] for key in ("source", "source_id", "view", "annotation", "license", "url", "doi")}
    return {"file": file, "part": part, "patient": row["patient_group"], **kept}


def build(folder: Path) -> None:
    """Write the images, the masks, datalist.json and attribution.csv."""
    rows = list(csv.DictReader((folder / "manifest.csv").open(newline="")))
    by_file = {row["file"]: row for row in rows}
    segmentation = json.loads((folder / "cxr_seg" / "datalist.json").read_text())
    for sub in ("pretraining", "segmentation"):
        shutil.rmtree(SAMPLE / sub, ignore_errors=True)
        (SAMPLE / sub).mkdir(parents=True)
    records: list[dict[str, str]] = []
    datalist: dict[str, list[dict[str, str]]] = {"pretraining": [], "training": [], "validation": [], "test": []}
    held_out = {row["patient_group"] for row in rows if row["split"] != "training"}
    for row in pick_pretraining(rows, held_out):
        name = f"pretraining/{Path(row['file']).stem}.jpg"
        write_image(folder / row["file"], SAMPLE / name)
        datalist["pretraining"].append({"image": name, "patient": row["patient_group"]})
        records.append(record(row, name, "pretraining"))
    for split in ("training", "validation", "test"):
        for item in segmentation[split]:
            row = by_file[f"cxr_seg/{item['image']}"]
            if not is_free(row):
                continue
            stem = f"segmentation/{Path(item['image']).stem}"
            size = write_image(folder / row["file"], SAMPLE / f"{stem}.jpg")
            write_mask(folder / "cxr_seg" / item["label"], SAMPLE / f"{stem}_lungs.png", size)
            datalist[split].append(
                {"image": f"{stem}.jpg", "label": f"{stem}_lungs.png", "patient": row["patient_group"]}
            )
            records.append(record(row, f"{stem}.jpg", f"segmentation/{split}"))
    write_class_labels([row for row in rows if row["source"] == "nih"], datalist["pretraining"])
    (SAMPLE / "datalist.json").write_text(json.dumps(datalist, indent=1) + "\n")
    with (SAMPLE / "attribution.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def write_class_labels(rows: list[dict[str, str]], items: list[dict[str, str]]) -> None:
    """Write classification.csv: view and findings of the NIH images, split by patient, both views in every split."""
    by_stem = {Path(row["file"]).stem: row for row in rows}
    chosen = [(item, by_stem[Path(item["image"]).stem]) for item in items if Path(item["image"]).stem in by_stem]
    chosen.sort(key=lambda pair: hashlib.sha256(pair[1]["patient_group"].encode()).hexdigest())
    lines = []
    for is_ap in (False, True):
        group = [pair for pair in chosen if (pair[1]["view"] != "PA") == is_ap]
        ends = [round(len(group) * share) for share in (CLASSIFICATION["training"], 1 - CLASSIFICATION["test"])]
        for number, (item, row) in enumerate(group):
            split = "training" if number < ends[0] else "validation" if number < ends[1] else "test"
            found = set(row["labels"].split("|")) | ({"AP view"} if is_ap else set())
            lines.append([item["image"], item["patient"], split, *(int(name in found) for name in CLASSES)])
    with (SAMPLE / "classification.csv").open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["image", "patient", "split", *CLASSES])
        writer.writerows(sorted(lines, key=str))


def contact_sheet(target: Path, tile: int = 96, columns: int = 20) -> None:
    """Draw all images for visual inspection, the right lungs in red and the left lungs in blue."""
    datalist = json.loads((SAMPLE / "datalist.json").read_text())
    items = [item for part in datalist.values() for item in part]
    sheet = Image.new("RGB", (columns * tile, -(-len(items) // columns) * tile))
    for index, item in enumerate(items):
        image = Image.open(SAMPLE / item["image"]).convert("RGB")
        if "label" in item:
            mask = np.asarray(Image.open(SAMPLE / item["label"]))
            array = np.asarray(image).copy()
            array[mask == 1, 0] = 255
            array[mask == 2, 2] = 255
            image = Image.fromarray(array)
        image.thumbnail((tile, tile))
        sheet.paste(image, (index % columns * tile, index // columns * tile))
    sheet.save(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--contact-sheet", type=Path)
    arguments = parser.parse_args()
    build(arguments.folder)
    if arguments.contact_sheet is not None:
        contact_sheet(arguments.contact_sheet)
