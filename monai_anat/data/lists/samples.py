"""The radiographs that come with the package: enough to see everything work without a download.

200 frontal radiographs for pre-training, 130 of them with view and findings, and 65 with outlined lungs, at most 320
pixels wide or high, from public collections whose licenses allow redistribution. ``sample/ATTRIBUTION.md`` names the
sources, ``sample/attribution.csv`` the source, license and address of each image.
"""

from __future__ import annotations

from pathlib import Path

from monai_anat.data.items import Item
from monai_anat.data.lists.datalists import load_datalist

__all__ = [
    "classification_datalist",
    "pretraining_datalist",
    "sample_folder",
    "segmentation_datalist",
]

_SPLITS = ("training", "validation", "test")


def sample_folder() -> Path:
    """Return the folder of the images.

    >>> (sample_folder() / "ATTRIBUTION.md").is_file()
    True
    """
    return Path(__file__).resolve().parents[1] / "sample"


def pretraining_datalist() -> list[Item]:
    """List the 200 radiographs for pre-training; no patient of the test or validation images is among them.

    Returns:
        Items ``{"image": path, "patient": pseudonym}``.

    >>> len(pretraining_datalist())
    200
    """
    return load_datalist(sample_folder() / "datalist.json", "pretraining", check_files=False)


def classification_datalist(split: str = "training") -> list[Item]:
    """List the 130 radiographs of the NIH Clinical Center with their view and findings, divided by patient.

    Every class is a column, "0" or "1": ``AP view`` (of the radiographers) and the 14 findings of ChestX-ray14, which
    were read off the reports by a program (Wang et al., CVPR 2017). Most findings are rare here: ``AP view``,
    ``Pneumonia``, ``Infiltration`` and ``Atelectasis`` have positive images in every split. The images are among those
    of :func:`pretraining_datalist`, without their labels.

    Args:
        split: ``training``, ``validation`` or ``test``.

    Returns:
        Items ``{"image": path, "patient": pseudonym, "AP view": "1", ...}``.

    Raises:
        ValueError: there is no such split.

    >>> [len(classification_datalist(split)) for split in ("training", "validation", "test")]
    [78, 20, 32]
    """
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {_SPLITS}, got {split!r}")
    return load_datalist(sample_folder() / "classification.csv", split, check_files=False)


def segmentation_datalist(split: str = "training") -> list[Item]:
    """List the radiographs with lung masks: 41 for training, 8 for validation, 16 for testing, by patient.

    Labels are 0 background, 1 right lung, 2 left lung; the part of a lung behind the heart belongs to the lung.

    Args:
        split: ``training``, ``validation`` or ``test``.

    Returns:
        Items ``{"image": path, "label": path, "patient": pseudonym}``.

    Raises:
        ValueError: there is no such split.

    >>> [len(segmentation_datalist(split)) for split in ("training", "validation", "test")]
    [41, 8, 16]
    """
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {_SPLITS}, got {split!r}")
    return load_datalist(sample_folder() / "datalist.json", split, check_files=False)
