"""Checkpoint files with a checksum."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import IO, Any

import torch

from monai_anat.files import replace_file

__all__ = ["FORMAT", "DamagedCheckpointError", "read_checkpoint", "write_checkpoint"]

#: version of the training state, its entry "format"; files of this version have a checksum
FORMAT = 2

_MARK = b"monai_anat sha256 "
_COMMENT = len(_MARK) + 64
_CHUNK = 1 << 20
#: torch meets arbitrary bytes with arbitrary exceptions
_UNREADABLE = (AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError)


class DamagedCheckpointError(ValueError):
    """The content of a checkpoint file is not what was written."""


def write_checkpoint(state: Any, path: Path) -> None:
    """Write a state with ``torch.save``, and the SHA-256 checksum of the file as the comment of its ZIP archive.

    The file is complete or absent, and ``torch.load`` reads it as any other.

    Args:
        state: tensors, numbers, strings, and lists and dicts of them.
        path: the file to create or replace.

    Raises:
        OSError: if the file cannot be written; an older ``path`` stays as it was.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_checkpoint({"step": 3}, Path(folder) / "a.pt")
    ...     read_checkpoint(Path(folder) / "a.pt")
    {'step': 3}
    """
    with replace_file(path) as temporary:
        torch.save(state, temporary)
        with temporary.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(size - 2)
            file.write(_COMMENT.to_bytes(2, "little"))
            file.seek(0)
            digest = _digest(file, size)
            file.seek(size)
            file.write(_MARK + digest)


def read_checkpoint(path: Path) -> Any:
    """Read a file of :func:`write_checkpoint` after checking every byte of it.

    Args:
        path: the file.

    Returns:
        The state, on the CPU.

    Raises:
        DamagedCheckpointError: if the content does not match its checksum, or is not a file of ``torch.save`` at all.
        OSError: if the file cannot be read: missing permission, a failing disk or network.
        MemoryError: if the state does not fit into memory.
    """
    checksum = _checksum(path)
    if checksum is True:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except RuntimeError as error:  # torch reports missing memory so; the content is right
            raise MemoryError(f"checkpoint {path} is intact but could not be loaded: {error}") from error
    if checksum is False:
        raise DamagedCheckpointError(f"checkpoint {path} is damaged (its checksum does not match)")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise DamagedCheckpointError(f"checkpoint {path} is damaged ({type(error).__name__})") from error
    if isinstance(state, dict) and state.get("format") == FORMAT:
        raise DamagedCheckpointError(f"checkpoint {path} is damaged (its checksum is missing)")
    return state


def _digest(file: IO[bytes], size: int) -> bytes:
    checksum = hashlib.sha256()
    left = size
    while left and (chunk := file.read(min(left, _CHUNK))):
        checksum.update(chunk)
        left -= len(chunk)
    return checksum.hexdigest().encode()


def _checksum(path: Path) -> bool | None:
    """Whether the checksum at the end of the file is that of the bytes before it; None if there is no checksum."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - _COMMENT
        if size < 0:
            return None
        file.seek(size)
        comment = file.read(_COMMENT)
        if not comment.startswith(_MARK):
            return None
        file.seek(0)
        return comment == _MARK + _digest(file, size)
