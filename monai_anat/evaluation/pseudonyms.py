"""Pseudonyms of files and patients in evaluation outputs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_anat.data.items import file_of
from monai_anat.data.lists.folder_walk import is_image_file
from monai_anat.evaluation.patients import Items
from monai_anat.files import write_text_atomically
from monai_anat.keys import IMAGE

__all__ = ["Pseudonyms", "lookup_file"]

#: ending of the look-up file, which is written beside an output folder and never into it
LOOKUP_SUFFIX = ".files.json"
#: shortest patient name that is also replaced where it is not quoted
_MIN_BARE = 4
#: replaces the name of several files in different folders
_AMBIGUOUS = "a file of the datalist"


class Pseudonyms:
    """Replace file names and patients by positions in the datalist: item 17 of section test becomes "test 17".

    File names of hospitals contain names, dates of birth and record numbers. Outputs that a user may share therefore
    hold positions only. Positions count from 0. A look-up file, :meth:`write_lookup`, maps them to paths; it stays with
    the user.

    Args:
        lists: section -> items.
        data: path of the datalist itself, which error messages contain.

    >>> names = Pseudonyms({"test": [{"image": "/scans/Doe_Jane.png", "patient": "Jane Doe"}]})
    >>> names.hide({"image": "/scans/Doe_Jane.png", "why": "cannot read '/scans/Doe_Jane.png' of Jane Doe"})
    {'image': 'test 0', 'why': "cannot read 'test 0' of patient 0"}
    """

    def __init__(self, lists: Mapping[str, Items], data: str | os.PathLike[str] | None = None) -> None:
        self._files: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._patients: dict[str, str] = {}
        self._data = "" if data is None else os.fspath(data)
        for section, items in lists.items():
            for number, item in enumerate(items):
                for key, value in item.items():
                    place = f"{section} {number}" + ("" if key == IMAGE else f" {key}")
                    for path in value if isinstance(value, (list, tuple)) else [value]:
                        if isinstance(path, (str, os.PathLike)) and (key == IMAGE or _is_path(path)):
                            self._files.setdefault(os.fspath(path), place)
                            name = Path(path).name
                            known = self._names.setdefault(name, place)
                            if known != self._files[os.fspath(path)]:
                                self._names[name] = _AMBIGUOUS
                patient = item.get("patient")
                if patient not in (None, ""):
                    self._patients.setdefault(str(patient), f"patient {len(self._patients)}")

    def hide(self, value: Any) -> Any:
        """Replace paths, file names and patients in nested JSON values.

        A string that is a path or a file name becomes its pseudonym. In longer strings, such as error messages, every
        path, file name and patient is replaced.
        """
        if isinstance(value, Mapping):
            return {key: self.hide(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.hide(part) for part in value]
        if isinstance(value, (str, os.PathLike)):
            text = os.fspath(value)
            place = self._files.get(text) or self._names.get(text)
            return place or (self.hide_text(text) if len(text.split()) > 1 else text)
        return value

    def hide_text(self, text: str) -> str:
        """Replace every path, file name and patient in a sentence."""
        for path, place in self._files.items():
            text = text.replace(path, place)
        for name, place in self._names.items():
            if name:
                text = text.replace(name, place)
        for patient, place in self._patients.items():
            text = text.replace(repr(patient), place)
            if len(patient) >= _MIN_BARE:
                text = text.replace(patient, place)
        if self._data:
            text = text.replace(str(Path(self._data).absolute()), "the datalist").replace(self._data, "the datalist")
        return text

    def write_lookup(self, folder: str | os.PathLike[str]) -> Path:
        """Write the paths by pseudonym, to ``FOLDER.files.json`` beside an output folder.

        Args:
            folder: the output folder; whoever gets a copy of it does not get the look-up file.

        Returns:
            The look-up file.
        """
        path = lookup_file(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        names = {place: str(Path(file).absolute()) for file, place in reversed(self._files.items())}
        write_text_atomically(path, json.dumps(dict(reversed(names.items())), indent=1) + "\n")
        return path

    @staticmethod
    def reveal(value: Any, folder: str | os.PathLike[str]) -> Any:
        """Replace pseudonyms in nested JSON values by paths, if the look-up file is beside the folder or its parent.

        Args:
            value: JSON values.
            folder: the output folder.
        """
        files = [lookup_file(place) for place in (Path(folder), Path(folder).absolute().parent)]
        found = next((file for file in files if file.is_file()), None)
        if found is None:
            return value
        names: dict[str, str] = json.loads(found.read_text(encoding="utf-8"))

        def restore(part: Any) -> Any:
            if isinstance(part, dict):
                return {key: restore(inner) for key, inner in part.items()}
            if isinstance(part, list):
                return [restore(inner) for inner in part]
            return names.get(part, part) if isinstance(part, str) else part

        return restore(value)


def lookup_file(folder: str | os.PathLike[str]) -> Path:
    """Return the look-up file of an output folder.

    >>> lookup_file("out/evaluation").name
    'evaluation.files.json'
    """
    path = Path(folder).absolute()
    return path.with_name(f"{path.name}{LOOKUP_SUFFIX}")


def _is_path(value: str | os.PathLike[str]) -> bool:
    text = os.fspath(value)
    return is_image_file(file_of(text)) or os.sep in text
