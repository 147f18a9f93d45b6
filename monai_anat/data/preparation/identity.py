"""Keyed hashes of patients and files, so that prepared data identify no person.

A plain hash of a patient id can be undone by hashing all ids. A hash with a secret key cannot. The key is never stored
in a prepared folder: whoever has it can find a patient's images again, whoever does not have it cannot.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import tempfile
from pathlib import Path

from monai_anat.data.items import DatalistError

__all__ = [
    "default_key_file",
    "keyed_hash",
    "load_key",
]

_KEY_BYTES = 32


def default_key_file() -> Path:
    """Return the default place of the key, in the user's own configuration folder.

    >>> default_key_file().name
    'patient.key'
    """
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "monai_anat" / "patient.key"


def load_key(path: str | os.PathLike[str] | None = None) -> bytes:
    """Read the key of the patient hashes, or make one that only this user can read.

    Processes that call this at the same time get the same key: the file appears whole, and only the first one counts.

    Args:
        path: key file; by default ``patient.key`` in the user's configuration folder.

    Returns:
        32 random bytes, the same at every call.

    Raises:
        DatalistError: if the file exists but holds no key, or cannot be read or made.
    """
    file = Path(path).expanduser() if path is not None else default_key_file()
    try:
        if not file.is_file():
            _make_key(file)
        key = bytes.fromhex(file.read_text().strip())
        if len(key) != _KEY_BYTES:
            raise ValueError
    except ValueError:
        raise DatalistError(
            f"key file must hold {2 * _KEY_BYTES} hexadecimal digits, got something else in {str(file)!r}; "
            "give the right file, or a new name to begin with a new key"
        ) from None
    except OSError as error:
        raise DatalistError(
            f"key file {str(file)!r} cannot be read or written ({error.strerror}); name another with key_file"
        ) from error
    return key


def _make_key(file: Path) -> None:
    """Create a key file unless another process does so first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # only its owner can read it
    try:
        with os.fdopen(descriptor, "w") as handle:
            handle.write(secrets.token_bytes(_KEY_BYTES).hex() + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, file)  # unlike a move, this never replaces a key
    finally:
        Path(name).unlink()


def keyed_hash(key: bytes, value: str) -> str:
    """Hash a patient id, or anything else that may point to a person, with a secret key (BLAKE2b, 128 bits).

    Args:
        key: key from :func:`load_key`.
        value: text to hash.

    Returns:
        32 hexadecimal digits.

    >>> keyed_hash(b"secret", "Jane Doe") == keyed_hash(b"secret", "Jane Doe")
    True
    >>> keyed_hash(b"secret", "Jane Doe") == keyed_hash(b"other", "Jane Doe")
    False
    """
    return hashlib.blake2b(value.encode("utf-8", "surrogateescape"), key=key, digest_size=16).hexdigest()
