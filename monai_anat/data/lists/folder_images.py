"""Images of a folder as datalist items: splits and masks by folder names, and a count of what was passed over."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath

from monai_anat.data.items import DatalistError, Item
from monai_anat.data.lists.folder_names import (
    compile_patient_pattern,
    mask_side,
    mask_stem,
    pair_key,
    patient_from_name,
    split_of,
)
from monai_anat.data.lists.folder_walk import IMAGE_SUFFIXES, is_image_file, walk_folder
from monai_anat.data.lists.mask_content import looks_like_mask
from monai_anat.data.reading.radiograph import RadiographError, decode
from monai_anat.keys import IMAGE, LABEL

__all__ = [
    "FolderImages",
    "find_images",
    "scan_folder",
]

logger = logging.getLogger(__name__)

_SHOWN = 5
_ALL = 300  # number of images up to which all of them are checked
_SAMPLED_FOLDERS = 64  # folders with sampled pictures otherwise
_SAMPLED_FILES = 2
_CHECKED = 5000  # pictures of suspicious folders that are checked in all
_MASK_PICTURE = "the picture has few gray values, like a mask"


@dataclass
class FolderImages:
    """The images of a folder.

    Attributes:
        folder: the folder.
        items: items ``{"image": path}`` in sorted order, with ``patient`` and ``label`` where they are known.
        splits: split of each item by the names of its folders, or None.
        passed_over: reason -> number of files that were not taken.
    """

    folder: Path
    items: list[Item] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)

    @property
    def split_names(self) -> list[str]:
        """Splits that folders name, sorted; empty if none does."""
        return sorted({split for split in self.splits if split is not None})

    def section(self, section: str) -> list[Item]:
        """Return the images of one split.

        Images below no folder of a split count as training images. If no folder names a split, every section is the
        whole folder.

        Args:
            section: name of the split.

        Raises:
            DatalistError: if folders name splits, but not this one.
        """
        names = self.split_names
        if not names:
            return self.items
        chosen = [item for item, split in zip(self.items, self.splits, strict=True) if (split or "training") == section]
        if not chosen:
            raise DatalistError(
                f"section must be one of {names}, which the folders under {str(self.folder)!r} name, got {section!r}; "
                "give the sub-folder itself to use its images"
            )
        return chosen

    def log(self, section: str, count: int) -> None:
        """Log how many images were found and taken, and how many files were passed over, with the reasons.

        Args:
            section: split that is taken.
            count: number of its images.
        """
        others = Counter(split or "training" for split in self.splits if (split or "training") != section)
        left = (
            {f"in a folder of {split} images": number for split, number in others.items()} if self.split_names else {}
        )
        told = "; ".join(f"{number} x {reason}" for reason, number in [*self.passed_over.most_common(), *left.items()])
        found = len(self.items) + sum(self.passed_over.values())
        logger.info(f"{self.folder}: {found} files found, {count} images taken; passed over: {told or 'none'}")


def find_images(folder: str | os.PathLike[str], patient_pattern: str | None = None) -> list[Item]:
    r"""List the images under a folder.

    Files are images by their ending or, with any other ending or none, by how their content begins. Links are followed.
    Masks are left out: files in folders such as ``masks``, files such as ``case1_mask.png`` beside ``case1.png``, and
    pictures of few gray values. If there are more than 300 images, only folders with such a picture in a sample of four
    are checked for the latter.

    Args:
        folder: where to look, sub-folders included.
        patient_pattern: regular expression whose first group, searched in the path relative to ``folder``, is the
            patient: ``r"(\d+)_"`` for ``00001280_004.png``.

    Returns:
        Items in sorted order with ``image`` (absolute path), ``patient`` where the pattern matches, and ``label`` where
        a mask was found: one path, or the paths of the right and the left mask.

    Raises:
        DatalistError: if the folder does not exist or holds no image, or the pattern is not a regular expression.
    """
    return scan_folder(folder, patient_pattern).items


def scan_folder(folder: str | os.PathLike[str], patient_pattern: str | None = None) -> FolderImages:
    """Find the images of a folder, their splits and masks, and count what is passed over.

    Args:
        folder: where to look, sub-folders included.
        patient_pattern: as for :func:`find_images`.

    Raises:
        DatalistError: as :func:`find_images` does.
    """
    pattern = compile_patient_pattern(patient_pattern)
    root = Path(folder).expanduser()
    images, masks, passed = _sort_files(root)
    root = root.resolve()
    labels = dict(_pair_masks([path.relative_to(root) for path in images], [path.relative_to(root) for path in masks]))
    found = FolderImages(root, passed_over=passed)
    for path in images:
        relative = path.relative_to(root)
        item: Item = {IMAGE: str(path)}
        patient = patient_from_name(str(relative), pattern)
        if patient is not None:
            item["patient"] = patient
        if relative in labels:
            mask = labels[relative]
            item[LABEL] = [str(root / part) for part in mask] if isinstance(mask, tuple) else str(root / mask)
        found.items.append(item)
        found.splits.append(split_of(relative))
    if not images:
        seen = ", ".join(f"{number} x {reason}" for reason, number in passed.most_common(_SHOWN)) or "no file at all"
        raise DatalistError(
            f"folder must hold radiographs, got none in {str(root)!r} ({seen}); "
            f"files that are read end in {', '.join(IMAGE_SUFFIXES)} or begin like an image"
        )
    return found


def _sort_files(root: Path) -> tuple[list[Path], list[Path], Counter[str]]:
    """Return images, masks, and the reasons for the rest."""
    images: list[Path] = []
    masks: list[Path] = []
    passed: Counter[str] = Counter()
    for file in walk_folder(root):
        if file.in_masks:
            if is_image_file(file.path):
                masks.append(file.path)
            passed[file.reason] += 1
        elif file.reason:
            passed[file.reason] += 1
        elif is_image_file(file.path):
            images.append(file.path)
        else:
            passed["the file neither ends nor begins like an image"] += 1
    by_name = set(_masks_by_name(images))
    by_content = set(_masks_by_content([path for path in images if path not in by_name]))
    passed["the name ends like that of a mask of another file"] += len(by_name)
    passed[_MASK_PICTURE] += len(by_content)
    masks += sorted(by_name)
    return [path for path in images if path not in by_name | by_content], masks, +passed


def _masks_by_name(images: Sequence[Path]) -> Iterator[Path]:
    """Yield files such as ``case1_mask.png`` beside ``case1.png``."""
    stems = {(path.parent, path.stem) for path in images}
    for path in images:
        stem = mask_stem(path.stem)
        if stem is not None and (path.parent, stem) in stems:
            yield path


def _masks_by_content(images: Sequence[Path]) -> Iterator[Path]:
    """Yield pictures of few gray values; among many images, from folders in which a sample shows some."""
    if len(images) <= _ALL:
        yield from (path for path in images if _is_mask_picture(path))
        return
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in images:
        folders[path.parent].append(path)
    sampled = list(folders)[:: -(-len(folders) // _SAMPLED_FOLDERS)] if folders else []
    left = _CHECKED
    for folder in sampled:
        files = folders[folder]
        middle = len(files) // 2
        sample = [*files[:_SAMPLED_FILES], *files[middle : middle + _SAMPLED_FILES]]
        if any(_is_mask_picture(path) for path in sample):
            if len(files) > left:
                logger.warning(
                    f"{folder} holds pictures of few gray values, like masks, among {len(files)} files, too many to "
                    "look at; give a datalist, or prepare the folder, which looks at every file"
                )
                continue
            left -= len(files)
            yield from (path for path in files if _is_mask_picture(path))


def _is_mask_picture(path: Path) -> bool:
    try:
        return _has_mask_content(str(path), path.stat().st_mtime_ns)
    except OSError:
        return False


@lru_cache(maxsize=1 << 16)
def _has_mask_content(path: str, changed: int) -> bool:
    """Check a picture once per process and version of the file, because every section of a folder needs the result."""
    del changed
    try:
        return looks_like_mask(decode(path).pixels)
    except RadiographError:
        return False  # training reports it by name


def _pair_masks(
    images: Sequence[PurePath], masks: Sequence[PurePath]
) -> Iterator[tuple[PurePath, PurePath | tuple[PurePath, PurePath]]]:
    """Yield images with their mask, or with their right and left mask, where both sides of a pair are unique."""
    for key_of in (pair_key, lambda path: pair_key(path)[-1:]):
        owners: dict[tuple[str, ...], list[PurePath]] = defaultdict(list)
        for path in images:
            owners[key_of(path)].append(path)
        sides: dict[tuple[str, ...], dict[str | None, list[PurePath]]] = defaultdict(lambda: defaultdict(list))
        for path in masks:
            sides[key_of(path)][mask_side(path)].append(path)
        paired = set()
        for key, found in sides.items():
            if len(owners[key]) != 1 or any(len(paths) != 1 for paths in found.values()):
                continue
            if set(found) == {"right", "left"}:
                yield owners[key][0], (found["right"][0], found["left"][0])
            elif set(found) == {None}:
                yield owners[key][0], found[None][0]
            else:
                continue
            paired.add(owners[key][0])
        images = [path for path in images if path not in paired]
