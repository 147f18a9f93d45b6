"""Sample radiographs of the package, with which every feature runs without a download.

The sample has 200 frontal radiographs for pre-training, 130 of them with view and findings, and 65 radiographs with
lung masks. They are at most 320 pixels wide or high and come from public collections with licenses that allow
redistribution. ``sample/ATTRIBUTION.md`` names the sources, ``sample/attribution.csv`` the source, license and
address of each image.
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
    """Return the folder of the sample images.

    >>> (sample_folder() / "ATTRIBUTION.md").is_file()
    True
    """
    return Path(__file__).resolve().parents[1] / "sample"


def pretraining_datalist() -> list[Item]:
    """List the 200 radiographs for pre-training. No patient of the validation and test images is among them.

    Returns:
        Items ``{"image": path, "patient": pseudonym}``.

    >>> len(pretraining_datalist())
    200
    """
    return load_datalist(sample_folder() / "datalist.json", "pretraining", check_files=False)


def classification_datalist(split: str = "training") -> list[Item]:
    """List the 130 radiographs of the NIH Clinical Center with their view and findings, split by patient.

    Every class is a key with the value "0" or "1": ``AP view``, recorded by the radiographers, and the 14 findings of
    ChestX-ray14, mined from the reports (Wang et al., CVPR 2017). Most findings are rare here. ``AP view``,
    ``Pneumonia``, ``Infiltration`` and ``Atelectasis`` have positive images in every split. The images, without labels,
    are part of :func:`pretraining_datalist`.

    Args:
        split: ``training``, ``validation`` or ``test``.

    Returns:
        Items ``{"image": path, "patient": pseudonym, "AP view": "1", ...}``.

    Raises:
        ValueError: if there is no such split.

    >>> [len(classification_datalist(split)) for split in ("training", "validation", "test")]
    [78, 20, 32]
    """
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {_SPLITS}, got {split!r}")
    return load_datalist(sample_folder() / "classification.csv", split, check_files=False)


def segmentation_datalist(split: str = "training") -> list[Item]:
    """List the radiographs with lung masks, split by patient: 41 for training, 8 for validation, 16 for testing.

    Masks hold 0 for background, 1 for the right lung and 2 for the left lung. The part of a lung behind the heart
    belongs to the lung.

    Args:
        split: ``training``, ``validation`` or ``test``.

    Returns:
        Items ``{"image": path, "label": path, "patient": pseudonym}``.

    Raises:
        ValueError: if there is no such split.

    >>> [len(segmentation_datalist(split)) for split in ("training", "validation", "test")]
    [41, 8, 16]
    """
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {_SPLITS}, got {split!r}")
    return load_datalist(sample_folder() / "datalist.json", split, check_files=False)
