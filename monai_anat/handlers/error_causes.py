"""Root cause of an error inside MONAI's and PyTorch's wrappers."""

from __future__ import annotations

import re
import sys
from types import TracebackType

__all__ = ["root_cause", "show_root_cause"]

#: beginnings of the errors that MONAI raises around the errors of transforms, components and expressions
_WRAPPERS = ("Failed to evaluate", "Failed to instantiate", "applying transform")
#: how PyTorch passes on the error of a loading process, as text
_WORKER = re.compile(r"Caught (\w+) in DataLoader worker process \d+")
_CHAINED = "The above exception was the direct cause of the following exception:"
#: the last line of a traceback: the class of the error, and its message
_LAST_LINE = re.compile(r"^([A-Za-z_][\w.]*)(?:: (.*))?$", re.DOTALL)


def root_cause(error: BaseException) -> BaseException:
    """Find the error that MONAI's transforms, components and expressions, and loading processes wrap.

    Args:
        error: any error.

    Returns:
        The innermost error behind these wrappers; a new error with its class and message if it comes from a loading
        process, which passes on text only; ``error`` itself if there are no wrappers.

    >>> try:
    ...     raise RuntimeError("Failed to evaluate it") from ValueError("batch_size must be at least 1")
    ... except RuntimeError as error:
    ...     root_cause(error)
    ValueError('batch_size must be at least 1')
    """
    while True:
        if _WORKER.search(str(error)) and (text := _worker_cause(str(error))):
            return _error_of(text)
        if error.__cause__ is None or not str(error).startswith(_WRAPPERS):
            return error
        error = error.__cause__


def show_root_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error as Python does, then its root cause in one line; for ``sys.excepthook``.

    Args:
        kind: class of the error.
        error: the error.
        trace: its traceback.
    """
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("\nStopped by Ctrl-C.\n")
        return
    sys.__excepthook__(kind, error, trace)
    cause = root_cause(error)
    if cause is not error:
        sys.stderr.write(f"\nThe cause: {type(cause).__name__}: {cause}\n")


def _worker_cause(text: str) -> str | None:
    """Last line of the innermost traceback that is not a wrapper, from the text of a loading process."""
    lines = [_last_line(part) for part in text.split(_CHAINED)]
    for line in reversed(lines):
        if line is not None and not line.partition(": ")[2].startswith(_WRAPPERS):
            return line
    return lines[0]


def _last_line(trace: str) -> str | None:
    """Class and message of a traceback: what follows its last indented line."""
    lines = trace.strip("\n").rstrip().split("\n")
    last = max((number for number, line in enumerate(lines) if line.startswith(" ")), default=-1)
    text = "\n".join(lines[last + 1 :]).strip()
    return text if _LAST_LINE.match(text) else None


def _error_of(text: str) -> BaseException:
    match = _LAST_LINE.match(text)
    name, message = (match[1], match[2] or "") if match else ("RuntimeError", text)
    kind: type[RuntimeError] = type(name.rpartition(".")[2], (RuntimeError,), {})
    return kind(message)
