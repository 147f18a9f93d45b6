"""Output file names that are unique for the images of a list."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.transforms import Transform

from monai_anat.data.items import DatalistError, file_of, is_prepared_path
from monai_anat.data.lists.folder_walk import IMAGE_SUFFIXES
from monai_anat.keys import IMAGE

__all__ = [
    "OutputNames",
    "unique_output_names",
]

_FILE, _PATCH = "filename_or_obj", "patch_index"  # keys of MONAI's metadata


def unique_output_names(datalist: Sequence[Mapping[str, Any]], image_key: str = IMAGE) -> list[str]:
    """Name the outputs of images after their files, so that no two images of a folder share a name.

    A name is the file's name without a known ending: ``1.2.840.7`` stays whole. Files of one folder that would share a
    name, such as ``a.png`` and ``a.jpg``, keep their endings (``a_png``, ``a_jpg``). Prepared images are numbered.
    Capitals do not make names differ, because not every disk tells them apart.

    Args:
        datalist: items.
        image_key: key of the image.

    Returns:
        One name per item, without folder and ending. Items with the same file have the same name.

    Raises:
        DatalistError: if two files of one folder still share a name.

    >>> unique_output_names([{"image": "x/1.2.7"}, {"image": "x/1.2.8"}, {"image": "x/a.png"}, {"image": "x/a.jpg"}])
    ['1.2.7', '1.2.8', 'a_png', 'a_jpg']
    """
    paths = [_path_of(item[image_key]) for item in datalist]
    names = {path: _short_name(path) for path in paths}
    for shared in _shared(names):
        names.update({path: _long_name(path) for path in shared})
    for shared in _shared(names):
        raise DatalistError(
            f"outputs of {shared[0]} and {shared[1]} would have one name, {names[shared[0]]!r}; rename one of the files"
        )
    return [names[path] for path in paths]


class OutputNames:
    """Formatter of output names for MONAI's ``SaveImage(output_name_formatter=...)``, unique for a list.

    ``SaveImage`` drops everything behind the last dot of a file name. Images such as ``1.2.840.7`` and ``1.2.840.8``,
    or ``a.png`` and ``a.jpg``, then overwrite each other's output.

    Args:
        datalist: items that will be saved.
        image_key: key of the image.

    Raises:
        DatalistError: as :func:`unique_output_names` does.

    >>> names = OutputNames([{"image": "/x/1.2.7"}, {"image": "/x/1.2.8"}])
    >>> names({"filename_or_obj": "/x/1.2.8"}, None)
    {'subject': '/x/1.2.8.out', 'idx': None}
    """

    def __init__(self, datalist: Sequence[Mapping[str, Any]], image_key: str = IMAGE) -> None:
        names = unique_output_names(datalist, image_key)
        self.names = {_path_of(item[image_key]): name for item, name in zip(datalist, names, strict=True)}

    def __call__(self, metadict: Mapping[str, Any] | None, saver: Transform | None) -> dict[str, Any]:
        """Return what MONAI's ``FolderLayout`` builds a file name from.

        Args:
            metadict: metadata of the image.
            saver: the saving transform, which counts images without a file name.
        """
        meta = metadict or {}
        index = meta.get(_PATCH)
        if not meta.get(_FILE):
            return {"subject": str(getattr(saver, "_data_index", 0)), "idx": index}
        path = _path_of(meta[_FILE])
        # the layout removes an ending, whatever it is
        return {"subject": f"{Path(path).parent / self.names.get(path, _short_name(path))}.out", "idx": index}


def _path_of(image: Any) -> str:
    """Return the absolute path of an image, the first one of several."""
    first = image[0] if isinstance(image, (list, tuple)) else image
    return os.path.abspath(os.fspath(first))  # noqa: PTH100 (keeps links)


def _short_name(path: str) -> str:
    if is_prepared_path(path):
        return f"{Path(file_of(path)).stem}_{path.rpartition('#')[2]}"
    name = Path(path).name
    ending = max((end for end in IMAGE_SUFFIXES if name.lower().endswith(end)), key=len, default="")
    return name[: len(name) - len(ending)] or name


def _long_name(path: str) -> str:
    name, short = Path(path).name, _short_name(path)
    return short if is_prepared_path(path) else f"{short}{name[len(short) :].replace('.', '_')}"


def _shared(names: Mapping[str, str]) -> list[list[str]]:
    """Return groups of paths that share a folder and a name."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, name in names.items():
        groups[str(Path(path).parent), name.casefold()].append(path)
    return [paths for paths in groups.values() if len(paths) > 1]
