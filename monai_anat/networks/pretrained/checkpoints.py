"""Safe reading of weight files from untrusted sources."""

from __future__ import annotations

import argparse
import os
import pickle
import pickletools
import re
import warnings
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

__all__ = ["read_checkpoint"]

#: forms in which torch names the class that it refuses
_REFUSED = re.compile(r"(?:GLOBAL |Unsupported (?:global|class): (?:GLOBAL )?|class )([\w.]+\.[\w.]+)")


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a ``.safetensors`` or torch file, with all tensors on the CPU, without running code from it.

    Torch files are unpickled with ``weights_only=True``. The only Python class allowed beside tensors is
    ``argparse.Namespace``, because published files of Lamps and ACE hold their command line in one. Building it runs no
    code.

    Args:
        path: the file.

    Returns:
        The content, a dictionary.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged or no checkpoint, or holds a pickled object that could run code.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"weight": torch.ones(2)}, f"{folder}/model.pt")
        ...     read_checkpoint(f"{folder}/model.pt")
        {'weight': tensor([1., 1.])}
    """
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"path must be a file of weights, got the folder {file}; name the file in it")
    if not file.is_file():
        raise FileNotFoundError(f"path must be a file of weights, got {file}: there is none")
    if file.stat().st_size == 0:
        raise ValueError(f"{file} is empty; copy or download it again")
    content = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    if not isinstance(content, dict):
        raise ValueError(
            f"{file} holds a {type(content).__name__} and no dictionary of tensors; save network.state_dict() instead"
        )
    return content


def _read_safetensors(file: Path) -> Any:
    try:
        return safetensors.torch.load_file(file)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is damaged or no safetensors file ({error}); copy or download it again") from error


def _read_torch(file: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            # an unusual pickle protocol either loads or ends in one of the sentences below
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = _REFUSED.search(str(error))
        name = refused.group(1) if refused else _first_pickled_class(file)
        if name:
            raise ValueError(
                f"{file} is refused: it holds a pickled {name}, and reading that could run code on this "
                "machine; have its author save tensors only (a state_dict), best as safetensors"
            ) from error
        raise ValueError(f"{file} is damaged or no file of weights; copy or download it again") from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError, OSError) as error:
        # torch raises arbitrary exceptions for arbitrary bytes
        raise ValueError(f"{file} is damaged or no file of weights; copy or download it again") from error


def _first_pickled_class(file: Path) -> str | None:
    """Find the first class that a plain pickle names, without executing it; None for other content."""
    strings: list[str] = []
    try:
        with file.open("rb") as stream:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    return str(argument).replace(" ", ".")
                if opcode.name == "STACK_GLOBAL" and len(strings) > 1:
                    return ".".join(strings[-2:])
                if isinstance(argument, str):
                    strings.append(argument)
    except (ValueError, EOFError, UnicodeDecodeError, OverflowError, MemoryError):
        return None  # not a pickle at all
    return None
