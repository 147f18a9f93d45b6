"""Atomic writes, folder locks and file fingerprints."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

__all__ = [
    "LOCK_NAME",
    "FolderInUseError",
    "FolderLock",
    "file_key",
    "file_sha256",
    "replace_file",
    "write_bytes_atomically",
    "write_text_atomically",
]

#: name of the lock file inside a locked folder
LOCK_NAME = ".monai_anat.lock"

#: file descriptors of locks are taken early, so they are small numbers
_MAX_DESCRIPTOR = 1024


@contextlib.contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file under a temporary name and move it to its place when it is complete.

    Readers see the old file or the new one, never a part of it, and a killed process leaves the old file as it was. The
    content is flushed to the disk before the move.

    Args:
        path: the file to create or replace. Its folder must exist.

    Yields:
        The temporary path, in the same folder. Write the content there.

    Raises:
        OSError: if the content cannot be written. The message names the file and the free space. The temporary file is
            removed and ``path`` keeps its old content.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replace_file(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     sorted(os.listdir(folder))
    ['a.txt']
    """
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp creates files that only their owner can read
        temporary.replace(target)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        free = shutil.disk_usage(target.parent).free / 2**20
        raise OSError(f"could not write {target} ({free:.0f} MiB free there): {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write bytes with :func:`replace_file`.

    Args:
        path: the file to create or replace.
        content: its new content.

    Raises:
        OSError: if the content cannot be written.
    """
    with replace_file(path) as temporary:
        temporary.write_bytes(content)


def write_text_atomically(path: str | os.PathLike[str], content: str) -> None:
    """Write text as UTF-8 with :func:`replace_file`.

    Args:
        path: the file to create or replace.
        content: its new content.

    Raises:
        OSError: if the content cannot be written.
    """
    write_bytes_atomically(path, content.encode())


def file_key(path: str | os.PathLike[str]) -> str:
    """Identify a version of a file without reading it.

    Args:
        path: an existing file.

    Returns:
        Absolute path, size in bytes and time of the last change in nanoseconds. The key changes when the file does.

    >>> file_key(__file__) == file_key(__file__)
    True
    """
    absolute = Path(path).resolve()
    status = absolute.stat()
    return f"{absolute} {status.st_size} {status.st_mtime_ns}"


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Compute the SHA-256 checksum of a file's content.

    Args:
        path: an existing file.

    Returns:
        64 hexadecimal digits.

    >>> len(file_sha256(__file__))
    64
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FolderInUseError(RuntimeError):
    """Another process holds the lock of a folder."""


class FolderLock:
    """An exclusive lock on an output folder, held by one process at a time.

    The operating system releases the lock when its process ends, also after ``kill -9``, so a lock file that was left
    behind never blocks a later run. Forked children, such as loading processes, do not keep the lock when they outlive
    their parent. ``filelock`` takes the lock (``flock`` on POSIX); the lock file names the holder.

    Args:
        folder: the folder to lock. It is created if it does not exist.
        purpose: what the holder does, for the error message of others, such as "pre-training".

    Raises:
        FolderInUseError: on entering, if another process holds the lock. The message names its host and process.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, FolderLock(folder, "a test") as lock:
    ...     lock.is_held
    True
    """

    def __init__(self, folder: str | os.PathLike[str], purpose: str) -> None:
        self.folder = Path(folder)
        self.purpose = purpose
        self._owner = self.folder / f"{LOCK_NAME}.json"
        self._lock = FileLock(self.folder / LOCK_NAME)

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return bool(self._lock.is_locked)

    def acquire(self) -> None:
        """Take the lock; entering the context does the same.

        Raises:
            FolderInUseError: if another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FolderInUseError(
                f"{self.folder} is in use by {self._holder()}; wait until it ends, stop it, or choose another folder"
            ) from None
        _HELD.add(self)
        owner = {"host": socket.gethostname(), "process": os.getpid(), "purpose": self.purpose}
        write_text_atomically(self._owner, json.dumps(owner))

    def release(self) -> None:
        """Give the lock back; does nothing if it is not held."""
        if self.is_held:
            _HELD.discard(self)
            self._owner.unlink(missing_ok=True)
            self._lock.release()

    def _holder(self) -> str:
        try:
            owner = json.loads(self._owner.read_text())
            return f"{owner['purpose']}, process {owner['process']} on host {owner['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


#: locks that this process holds
_HELD: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _close_inherited_locks() -> None:
    """Close a forked child's copies of the lock files, which would hold the locks as long as the child lives."""
    held = set()
    for lock in _HELD:
        with contextlib.suppress(OSError):
            status = (lock.folder / LOCK_NAME).stat()
            held.add((status.st_dev, status.st_ino))
    for descriptor in range(3, _MAX_DESCRIPTOR) if held else ():
        with contextlib.suppress(OSError):
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) in held:
                os.close(descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited_locks)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
