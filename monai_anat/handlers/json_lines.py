"""Files of JSON lines that a resumed run continues."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path

from monai_anat.files import write_text_atomically

__all__ = ["drop_lines_after"]


def drop_lines_after(step: int, path: Path) -> None:
    """Remove the lines that a resumed run writes again, and a line that a power cut left incomplete.

    Args:
        step: optimizer step of the checkpoint. Lines with a later ``step``, without one, or marked ``partial`` are
            removed.
        path: the file. Nothing happens if it does not exist.
    """
    if path.exists():
        lines = [line for line in path.read_text(errors="replace").splitlines() if _step_of(line) <= step]
        write_text_atomically(path, "".join(line + "\n" for line in lines))


def _step_of(line: str) -> float:
    try:
        content = json.loads(line)
        step: float = content["step"]
    except (ValueError, TypeError, KeyError):
        return inf
    return inf if "partial" in content else step
