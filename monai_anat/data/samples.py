"""The radiographs that come with the package: enough to see everything work without a download.

200 frontal radiographs for pre-training and 65 with outlined lungs, at most 320 pixels wide or high, from public
collections whose licences allow redistribution. ``sample/ATTRIBUTION.md`` names the sources, ``sample/attribution.csv``
the source, licence and address of each image.
"""

from __future__ import annotations

from pathlib import Path

from .datalists import Item, load_datalist

__all__ = [
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
    return Path(__file__).resolve().parent / "sample"


def pretraining_datalist() -> list[Item]:
    """List the 200 radiographs for pre-training; no patient of the test or validation images is among them.

    Returns:
        Items ``{"image": path, "patient": pseudonym}``.

    >>> len(pretraining_datalist())
    200
    """
    return load_datalist(sample_folder() / "datalist.json", "pretraining", check_files=False)


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
