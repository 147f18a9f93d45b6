"""The command line of ``python -m monai.bundle run``: what it says, whether it is meant, and how its errors end."""

from __future__ import annotations

import ast
import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

__all__ = ["check_bundle_arguments", "check_choice", "command_line_config", "root_cause"]

#: arguments of the command itself
_OWN = (
    "config_file",
    "meta_file",
    "logging_file",
    "run_id",
    "init_id",
    "final_id",
    "tracking",
    "workflow_type",
    "workflow_name",
    "args_file",
)
#: how MONAI begins the errors that it puts around ours
_WRAPPERS = ("Failed to evaluate", "Failed to instantiate", "applying transform")
#: words of JSON, in any case -> what Python, and so the command line, calls them
_CONSTANTS = {"true": "True", "false": "False", "null": "None"}


def check_bundle_arguments(arguments: Sequence[str] | None = None) -> None:
    """The first step of a bundle: refuse mistyped arguments, and let errors end in the sentence that explains them.

    MONAI takes any ``--key value`` without a word, takes ``false`` for a text, which counts as true, and puts errors of
    its own around those of a bundle's parts. Does nothing outside of ``python -m monai.bundle run``.

    Args:
        arguments: as in ``sys.argv[1:]``, the default.

    Raises:
        ValueError: for an argument that neither the bundle's configuration nor another argument knows, and for
            ``true``, ``false`` and ``null``.

    >>> check_bundle_arguments(["pytest", "-q"])
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = dict(_options(words))
    if "config_file" not in options:
        return
    sys.excepthook = _end_in_the_cause
    config = _read(options["config_file"])
    names = list(config)
    tracking: dict[str, Any] = dict(DEFAULT_MLFLOW_SETTINGS["configs"])  # type: ignore[call-overload]
    known = {*_OWN, *names, *tracking}
    merged = json.dumps(_merged(config, options), default=str)
    for key, text in options.items():
        _refuse_texts_for_constants(key, text)
        name = re.split("#|::", key.lstrip("+"))[0]
        if name in known or re.search(rf"@{re.escape(name)}\b", merged):
            continue
        close = difflib.get_close_matches(name, names, n=1)
        raise ValueError(
            f"--{key} is no argument of this bundle{f'; --{close[0]} is' if close else ''}; its README and its "
            "configuration list them"
        )


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is none of an argument's choices, before anything is trained for it.

    Args:
        name: of the argument.
        value: what it was given.
        choices: what it may be.

    Raises:
        ValueError: for any other value, naming the choices.

    >>> check_choice("test_crops", "ten", ["ten", "center"])
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def command_line_config(arguments: Sequence[str]) -> dict[str, Any]:
    """The merged configuration of ``python -m monai.bundle run``: its files, then its overrides.

    Args:
        arguments: as in ``sys.argv[1:]``.

    Returns:
        The configuration before anything is instantiated; empty for another command.
    """
    options = dict(_options(arguments))
    if "config_file" not in options:
        return {}
    return _merged(_read(options["config_file"]), options)


def root_cause(error: BaseException) -> BaseException:
    """The error inside those that MONAI puts around it.

    >>> try:
    ...     raise RuntimeError("Failed to evaluate it") from ValueError("batch_size must be at least 1")
    ... except RuntimeError as error:
    ...     root_cause(error)
    ValueError('batch_size must be at least 1')
    """
    while error.__cause__ is not None and str(error).startswith(_WRAPPERS):
        error = error.__cause__
    return error


def _end_in_the_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("\nStopped by hand.\n")
        return
    sys.__excepthook__(kind, error, trace)
    cause = root_cause(error)
    if cause is not error:
        sys.stderr.write(f"\nThe cause: {type(cause).__name__}: {cause}\n")


def _read(files: str) -> dict[str, Any]:
    parser = ConfigParser()
    parser.read_config(DefaultParseValue(files))
    return {key: value for key, value in parser.get().items() if key != "_meta_"}


def _merged(config: dict[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
    parser = ConfigParser(config)
    parser.update(
        {key.replace("#", "::"): DefaultParseValue(value) for key, value in options.items() if key not in _OWN}
    )
    merged: dict[str, Any] = parser.get()
    return merged


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The pairs of ``--name value``, ``--name=value`` and ``--name`` (true), as ``fire`` reads them."""
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals:
                value = words.pop(0) if words and not words[0].startswith("--") else "True"
            yield name.replace("-", "_"), value


def _refuse_texts_for_constants(key: str, text: str) -> None:
    """Refuse ``true``, ``[1, null]``: ``fire`` makes texts of bare words that Python does not know."""
    try:
        value = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):  # a text
        return
    if not isinstance(value, ast.Name | ast.List | ast.Tuple | ast.Dict | ast.Set):
        return
    for node in ast.walk(value):
        word = node.id if isinstance(node, ast.Name) else ""
        meant = _CONSTANTS.get(word.lower(), word)
        if meant != word:
            raise ValueError(
                f"--{key} {text} would be taken for a text, since the command line knows no {word!r}; write {meant}"
            )
