"""A full disk is explained; other errors pass."""

from __future__ import annotations

import errno

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.preparation.disk_space import explain_full_disk


def test_a_full_disk_is_told_also_when_another_error_wraps_it() -> None:
    message = "the disk of out='x' is full; free some space and give the same command again"
    with pytest.raises(DatalistError, match=message), explain_full_disk("x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(DatalistError, match="is full"), explain_full_disk("x"):
        raise OSError("could not write y") from OSError(errno.EDQUOT, "quota")


def test_other_errors_pass() -> None:
    with pytest.raises(PermissionError), explain_full_disk("x"):
        raise PermissionError(errno.EACCES, "no")
