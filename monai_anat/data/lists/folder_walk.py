"""Walk over the files of a folder, the same for training and for preparation."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.folder_names import is_mask_folder
from monai_anat.data.reading.radiograph import has_image_mark

__all__ = [
    "DICOM_SUFFIXES",
    "IMAGE_SUFFIXES",
    "FolderFile",
    "is_image_file",
    "walk_folder",
]

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")
#: endings of files that are images without a look at their content
IMAGE_SUFFIXES = RASTER_SUFFIXES + DICOM_SUFFIXES + VOLUME_SUFFIXES

_TEXTS = "csv tsv json jsonl txt md rst xml html htm py log yaml yml ini toml cfg lock sum sha256 md5 tex bib pdf"
_OTHERS = "npy npz pt pth ckpt xlsx xls ods db sql sqlite sh bat exe dll so ipynb raw img zip tar gz tgz 7z rar parquet"
#: endings of files that are no images, unless they begin like one
_OTHER_SUFFIXES = frozenset(f".{suffix}" for suffix in f"{_TEXTS} {_OTHERS}".split())
_HEAD = 8  # bytes of a DICOM file without preamble that are looked at


@dataclass(frozen=True, slots=True)
class FolderFile:
    """One file of a walk.

    Attributes:
        path: the file.
        reason: why it is not used; empty for a file that may be an image.
        passed_over: True for files of other kinds, such as tables. The reason is then the ending, or
            ``hidden``.
        in_masks: True for files in a folder of masks.
    """

    path: Path
    reason: str = ""
    passed_over: bool = False
    in_masks: bool = False


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is an image: by its ending or, with any other ending or none, by how its content begins.

    Args:
        path: path of a file.

    >>> is_image_file("chest.PNG"), is_image_file("notes.txt")
    (True, False)
    """
    name = Path(path).name
    if name.startswith(".") or name.upper() == "DICOMDIR":
        return False
    return name.lower().endswith(IMAGE_SUFFIXES) or _begins_like_image(Path(path))


def walk_folder(folder: str | os.PathLike[str]) -> Iterator[FolderFile]:
    """Go through all files under a folder in a fixed order, with the names of one folder in memory at a time.

    Symbolic links to files and folders are followed. A folder or file that is reached a second time by a link is
    reported with a reason and not visited again, so links in a circle end. Hidden files and folders are passed over.

    Args:
        folder: where to look.

    Yields:
        Every file, and every folder that cannot be opened.

    Raises:
        DatalistError: if the folder does not exist.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DatalistError(f"folder must be an existing folder of images, got {str(root)!r}; check the path")
    yield from _Walk(root.resolve()).visit(Path(), in_masks=False)


class _Walk:
    """State of one walk: the folders and the link targets that it has seen."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders = {_identity(root)}
        self.targets: set[Path] = set()

    def visit(self, relative: Path, in_masks: bool) -> Iterator[FolderFile]:
        current = self.root / relative
        try:
            with os.scandir(current) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            yield FolderFile(current, "permission denied: the folder cannot be opened")
            return
        folders: list[os.DirEntry[str]] = []
        for entry in entries:
            if _is_folder(entry):
                folders.append(entry)
            else:
                yield self._file(Path(entry.path), entry.is_symlink(), in_masks)
        names = frozenset(entry.name for entry in folders)
        for entry in folders:
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if entry.is_symlink() and not self._is_new_folder(path):
                yield FolderFile(path, "the folder is a link to a folder that is searched already")
                continue
            self.folders.add(_identity(path))
            yield from self.visit(relative / entry.name, in_masks or is_mask_folder(entry.name, names))

    def _is_new_folder(self, link: Path) -> bool:
        target = link.resolve()
        return _identity(target) not in self.folders and not self._is_visited(target)

    def _is_visited(self, target: Path) -> bool:
        """Return whether the walk reaches a path without the link: inside the root, below no hidden folder."""
        if not target.is_relative_to(self.root):
            return self.root.is_relative_to(target)
        return not any(part.startswith(".") for part in target.relative_to(self.root).parts)

    def _file(self, path: Path, is_link: bool, in_masks: bool) -> FolderFile:
        if path.name.startswith("."):
            return FolderFile(path, "hidden", passed_over=True)
        if path.name.upper() == "DICOMDIR":
            return FolderFile(path, "the file is a DICOMDIR, an index of other files")
        if path.suffix.lower() in _OTHER_SUFFIXES and not is_image_file(path):
            return FolderFile(path, path.suffix.lower(), passed_over=True)
        if is_link and (reason := self._link_reason(path)):
            return FolderFile(path, reason)
        if in_masks:
            return FolderFile(path, "the file lies in a folder of masks", in_masks=True)
        return FolderFile(path)

    def _link_reason(self, path: Path) -> str:
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):  # a circle is a RuntimeError up to Python 3.12
            return "the file is a link that leads nowhere or in a circle"
        if target in self.targets or (self._is_visited(target) and is_image_file(target)):
            return "the file is a link to a file that is found already"
        self.targets.add(target)
        return ""


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _begins_like_image(path: Path) -> bool:
    try:
        if not path.is_file():  # opening a pipe would wait
            return False
        if has_image_mark(path):
            return True
        with path.open("rb") as handle:
            return _begins_like_dicom(handle.read(_HEAD))
    except OSError:
        return False


def _begins_like_dicom(head: bytes) -> bool:
    """Return whether a file without preamble begins with a DICOM element of group 2 or 8.

    >>> _begins_like_dicom(bytes.fromhex("08000500") + b"CS" + bytes(2)), _begins_like_dicom(b"plain text")
    (True, False)
    """
    if re.match(rb"[\x02\x08]\x00.\x00", head, re.DOTALL) is None:
        return False
    # explicit types are two capital letters; implicit ones leave the length of a short element
    return head[4:6].isalpha() or (head[6:8] == b"\x00\x00" and len(head) == _HEAD)
