"""Keyed hashes that stand for patients and files, so that nothing of a person leaves the hospital with the data.

A plain hash of a patient id can be undone by hashing all ids; one keyed with a secret cannot. The key never stands in a
prepared folder: whoever holds it can find a patient's images again, whoever does not cannot.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from monai_anat.data.items import DatalistError

__all__ = [
    "default_key_file",
    "keyed_hash",
    "load_key",
]

_KEY_BYTES = 32


def default_key_file() -> Path:
    """Return where the key is kept unless a user says otherwise: in the user's own configuration folder.

    >>> default_key_file().name
    'patient.key'
    """
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "monai_anat" / "patient.key"


def load_key(path: str | os.PathLike[str] | None = None) -> bytes:
    """Read the key that patient hashes are made with, or make one that only this user can read.

    Args:
        path: the key file; by default ``patient.key`` in the user's configuration folder.

    Returns:
        32 random bytes, the same at every call.

    Raises:
        DatalistError: the file is there but is no key, or cannot be made.
    """
    file = Path(path) if path is not None else default_key_file()
    try:
        if file.is_file():
            key = bytes.fromhex(file.read_text().strip())
            if len(key) != _KEY_BYTES:
                raise ValueError
            return key
        file.parent.mkdir(parents=True, exist_ok=True)
        key = secrets.token_bytes(_KEY_BYTES)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(key.hex() + "\n")
    except ValueError:
        raise DatalistError(
            f"key file must hold {2 * _KEY_BYTES} hexadecimal digits, got something else in {str(file)!r}; "
            "give the right file, or a new name to begin with a new key"
        ) from None
    except OSError as error:
        raise DatalistError(
            f"key file {str(file)!r} cannot be written ({error.strerror}); name another with key_file"
        ) from error
    return key


def keyed_hash(key: bytes, value: str) -> str:
    """Hash a patient id, or whatever else may point to a person, with a secret key (BLAKE2b, 128 bits).

    Args:
        key: from ``load_key``.
        value: what must not be seen.

    Returns:
        32 hexadecimal digits.

    >>> keyed_hash(b"secret", "Jane Doe") == keyed_hash(b"secret", "Jane Doe")
    True
    >>> keyed_hash(b"secret", "Jane Doe") == keyed_hash(b"other", "Jane Doe")
    False
    """
    return hashlib.blake2b(value.encode("utf-8", "surrogateescape"), key=key, digest_size=16).hexdigest()
