"""Message for a full disk."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from monai_anat.data.items import DatalistError

__all__ = ["explain_full_disk"]


@contextlib.contextmanager
def explain_full_disk(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the error of a full disk into a message that names the folder and the way out.

    Args:
        folder: folder that is written to. What is there already must be good for a later run.

    Raises:
        DatalistError: if the disk is full. Other errors pass.

    >>> with contextlib.suppress(DatalistError), explain_full_disk("out"):
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    """
    try:
        yield
    except OSError as error:
        if not _is_full(error):
            raise
        raise DatalistError(
            f"the disk of out={os.fspath(folder)!r} is full; free some space and give the same command again: "
            "it continues where it stopped"
        ) from error


def _is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False
