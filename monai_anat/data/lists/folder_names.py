"""Meaning of folder and file names: masks, sides, splits, patients."""

from __future__ import annotations

import re
from pathlib import PurePath

from monai_anat.data.items import DatalistError

__all__ = [
    "SPLIT_NAMES",
    "compile_patient_pattern",
    "is_mask_folder",
    "mask_side",
    "mask_stem",
    "pair_key",
    "patient_from_name",
    "split_of",
]

#: splits in the order in which they claim a patient who is in several
SPLIT_NAMES = ("training", "validation", "test")

_MASK_WORDS = frozenset(("mask", "masks", "segmentation", "segmentations", "seg", "segs", "groundtruth", "gt"))
_JOINED_MASK = re.compile(r"(?:left|right|lungs?|manual|binary|heart)masks?")
_MASK_FOLDERS = frozenset(("labelstr", "labelsts", "labelsval"))  # of nnU-Net and the Medical Segmentation Decathlon
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "imagestr", "labelstr"), "training"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "imagesval", "labelsval"), "validation"),
    **dict.fromkeys(("test", "testing", "tests", "holdout", "imagests", "labelsts"), "test"),
}
#: words of folder names for the kind of a file, which an image and its mask do not share
_KIND_WORDS = _MASK_WORDS | frozenset(
    ("image", "images", "img", "imgs", "label", "labels", "left", "right", "manual", "lung", "lungs", "cxr", "png")
)
_MASK_ENDING = re.compile(
    r"[ ._-](?:(?:left|right|lungs?|manual|binary)[ ._-]?)?(?:masks?|segmentation|seg|gt|labels?)$", re.IGNORECASE
)


def _words(name: str) -> list[str]:
    """Split a name into words in small letters: at marks, digits and capitals."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word.lower() for word in re.split(r"[\W\d_]+", spaced) if word]


def is_mask_folder(name: str, siblings: frozenset[str] = frozenset()) -> bool:
    """Return whether the name of a folder is that of a folder of masks.

    Args:
        name: name of the folder.
        siblings: names of the folders beside it. ``labels`` counts as a folder of masks only beside ``images``.

    >>> [is_mask_folder(name) for name in ("masks", "leftMask", "lung_masks_png", "labelsTr", "images", "labels")]
    [True, True, True, True, False, False]
    >>> is_mask_folder("labels", frozenset(["images", "labels"]))
    True
    """
    words = _words(name)
    joined = "".join(words)
    if any(word in _MASK_WORDS or _JOINED_MASK.fullmatch(word) for word in words) or joined in _MASK_FOLDERS:
        return True
    return joined in ("label", "labels") and any("".join(_words(other)) in ("image", "images") for other in siblings)


def split_of(relative: PurePath) -> str | None:
    """Return the split that the folders of a path name: the first one that does decides.

    Args:
        relative: path relative to the folder that the user gave, which itself does not count.

    >>> [split_of(PurePath(path)) for path in ("train/a.png", "chest_xray/val/x/a.png", "stage_2_test_images/a.dcm")]
    ['training', 'validation', 'test']
    >>> split_of(PurePath("images/test.png")) is None
    True
    """
    for part in relative.parts[:-1]:
        words = _words(part)
        found = {_SPLIT_WORDS[word] for word in (*words, "".join(words)) if word in _SPLIT_WORDS}
        if found:
            return min(found, key=SPLIT_NAMES.index)
    return None


def mask_stem(stem: str) -> str | None:
    """Return the stem of the image to which a file such as ``case1_mask.png`` belongs, or None for other names.

    Args:
        stem: file name without its ending.

    >>> mask_stem("case1_mask"), mask_stem("case1-left-mask"), mask_stem("case1")
    ('case1', 'case1', None)
    """
    match = _MASK_ENDING.search(stem)
    return stem[: match.start()] if match and match.start() else None


def mask_side(relative: PurePath) -> str | None:
    """Return the side of the body that the path of a mask names: ``"right"``, ``"left"`` or None.

    Args:
        relative: path of the mask, relative to the folder that the user gave.

    >>> mask_side(PurePath("ManualMask/leftMask/a.png")), mask_side(PurePath("masks/a_right_mask.png"))
    ('left', 'right')
    """
    ending = _MASK_ENDING.search(relative.stem)
    words = _words(ending.group(0) if ending else "") + [word for part in relative.parts[:-1] for word in _words(part)]
    sides = [side for side in ("right", "left") if side in words or f"{side}mask" in words]
    return sides[0] if len(sides) == 1 else None


def pair_key(relative: PurePath) -> tuple[str, ...]:
    """Return what an image and its mask have in common: the folders that are not named by kind, and the stem.

    Args:
        relative: path relative to the folder that the user gave.

    >>> pair_key(PurePath("train/images/a.png")) == pair_key(PurePath("train/masks/a_mask.png"))
    True
    """
    kept = tuple(part for part in relative.parts[:-1] if not set(_words(part)) or not set(_words(part)) <= _KIND_WORDS)
    kept = tuple(part for part in kept if not is_mask_folder(part))
    return *kept, mask_stem(relative.stem) or relative.stem


def compile_patient_pattern(patient_pattern: str | None) -> re.Pattern[str] | None:
    r"""Compile the rule that finds the patient in a file name.

    Args:
        patient_pattern: regular expression; None for no rule.

    Raises:
        DatalistError: if it is not a regular expression. The message names the position.

    >>> compile_patient_pattern(r"(\d+)_").groups
    1
    """
    if patient_pattern is None:
        return None
    try:
        return re.compile(patient_pattern)
    except re.error as error:
        raise DatalistError(
            f"patient_pattern must be a regular expression, got {patient_pattern!r}: {error}; "
            r"for 00001280_004.png, (\d+)_ finds 00001280"
        ) from None


def patient_from_name(name: str, patient_pattern: str | re.Pattern[str] | None) -> str | None:
    r"""Take the patient out of a file name by a rule.

    Args:
        name: file name or relative path.
        patient_pattern: regular expression, as text or compiled, that is searched in ``name``. Its first group is the
            patient, or the whole match if it has no group. None finds no patient.

    Returns:
        The patient, or None if the rule does not match or its group is empty.

    Raises:
        DatalistError: if the text is not a regular expression.

    >>> patient_from_name("00001280_004.png", r"(\d+)_")
    '00001280'
    """
    pattern = compile_patient_pattern(patient_pattern) if isinstance(patient_pattern, str) else patient_pattern
    match = pattern.search(name) if pattern is not None else None
    if match is None:
        return None
    return (match.group(1) if match.re.groups else match.group(0)) or None
