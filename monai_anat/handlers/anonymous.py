"""Configurations and weights described without local paths."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_anat.files import file_sha256

__all__ = ["LOCAL_PATH", "weights_fingerprint", "without_paths"]

#: stands for a path
LOCAL_PATH = "<local path>"

#: names of arguments that hold paths
_PATH_KEY = re.compile(r"(^|_)(dir|path|root|folder|file|files|init|resume|image|images|label|mask|source|checkpoint)$")
#: words that such arguments may hold, and which name nothing
_WORDS = ("auto", "image", "label", "none")
#: string literals in expressions
_LITERAL = re.compile(r"'([^'\n]*)'|\"([^\"\n]*)\"")
#: a part of a path that an expression appends: '/checkpoints', '/model.pt'
_APPENDED = re.compile(r"/[a-z_]+(\.[a-z0-9]+)?")
#: digits of a fingerprint; 64 bits tell any two files apart
_DIGITS = 16


def without_paths(value: Any, key: str = "") -> Any:
    """Replace local paths in a configuration: the name of a folder or file may be the name of a person.

    Replaced are absolute, relative and ``~`` paths, all values of arguments that hold paths (``dataset_dir``, ``init``,
    ``image``), and paths inside expressions. References and dotted names of classes stay.

    Args:
        value: a configuration or a part of it.
        key: name of the argument that holds it.

    Returns:
        The same structure, with ``<local path>`` in place of paths.

    >>> without_paths({"dataset_dir": "doe_jane", "lr": 0.1, "list": "$load('../doe/a.json', @split)"})
    {'dataset_dir': '<local path>', 'lr': 0.1, 'list': "$load('<local path>', @split)"}
    """
    if isinstance(value, Mapping):
        return {str(name): without_paths(part, str(name)) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(part, key) for part in value]
    if isinstance(value, os.PathLike):
        return LOCAL_PATH
    if not isinstance(value, str) or key.startswith("_") or value.startswith(("@", "%")):
        return value
    if value.startswith("$"):
        return _LITERAL.sub(_replace_literal, value)
    named = _PATH_KEY.search(key.rpartition("#")[2]) and value.lower() not in _WORDS
    return LOCAL_PATH if named or _is_path(value) else value


def weights_fingerprint(path: str | os.PathLike[str] | None) -> str | None:
    """Identify weights by their content, since the name of a file may be the name of a person.

    Args:
        path: a file of weights, an encoder folder, or None.

    Returns:
        "sha256:" and 16 hexadecimal digits of the checksum: of the file, or of the names and checksums of the folder's
        weights. None for None.

    Raises:
        FileNotFoundError: if the path does not exist.

    >>> weights_fingerprint(__file__).startswith("sha256:")
    True
    """
    if path is None:
        return None
    source = Path(path)
    if not source.is_dir():
        return f"sha256:{file_sha256(source)[:_DIGITS]}"
    files = sorted(file for file in source.iterdir() if file.suffix in (".pt", ".safetensors"))
    listed = "".join(f"{file.name}:{file_sha256(file)};" for file in files)
    return f"sha256:{hashlib.sha256(listed.encode()).hexdigest()[:_DIGITS]}"


def _is_path(text: str) -> bool:
    return text.startswith("~") or "/" in text or "\\" in text or bool(re.match(r"[A-Za-z]:", text))


def _replace_literal(match: re.Match[str]) -> str:
    text = match[1] if match[1] is not None else match[2]
    if not _is_path(text) or _APPENDED.fullmatch(text):
        return match[0]
    quote = match[0][0]
    return f"{quote}{LOCAL_PATH}{quote}"
