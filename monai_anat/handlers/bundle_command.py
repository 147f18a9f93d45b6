"""Arguments of ``python -m monai.bundle run``: parsing and checks."""

from __future__ import annotations

import ast
import difflib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

from monai_anat.handlers.bundle_references import reachable_ids, references_in, uses
from monai_anat.handlers.error_causes import show_root_cause

__all__ = ["check_bundle_arguments", "check_choice", "command_line_config"]

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
#: arguments that MONAI reads without a reference in the configuration
_ALWAYS_USED = ("bundle_root", "imports")
#: words of JSON in any case -> the words of Python, which the command line reads
_CONSTANTS = {"true": "True", "false": "False", "null": "None"}
_FOLDER_ENDINGS = ("_dir", "_path", "_root", "_folder")

Config = dict[str, Any]


def check_bundle_arguments(arguments: Sequence[str] | None = None) -> None:
    """Refuse mistyped arguments and arguments without effect; print the root cause of later errors.

    MONAI accepts any ``--key value`` silently, reads ``false`` as text, which counts as true, and wraps the errors of a
    bundle's components in its own. This function is the first step of a bundle. It does nothing outside of
    ``python -m monai.bundle run``.

    Args:
        arguments: as in ``sys.argv[1:]``, the default.

    Raises:
        ValueError: if an argument is unknown, if nothing that the command runs uses it, if it is ``true``, ``false``
            or ``null``, or if a folder name is read as a number.

    >>> check_bundle_arguments(["pytest", "-q"])
    """
    options = _options(sys.argv[1:] if arguments is None else arguments)
    if "config_file" not in options:
        return
    sys.excepthook = show_root_cause
    files = _read_each(options["config_file"])
    config = _merged(options)
    reached = reachable_ids(config, _roots(options))
    tracking: Config = dict(DEFAULT_MLFLOW_SETTINGS["configs"])  # type: ignore[call-overload]
    free = {*_OWN, *_ALWAYS_USED, *(tracking if "tracking" in options else ())}
    for key, text in options.items():
        _refuse_texts_for_constants(key, text)
        name = key.lstrip("+").replace("::", "#")
        if key in _OWN:
            continue
        _refuse_number_for_folder(name, text, config)
        if _top(name) in free or uses(reached, name):
            continue
        raise ValueError(_no_effect(key, name, files, config, options))


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is not among an argument's choices, before the training that depends on it.

    Args:
        name: name of the argument.
        value: its value.
        choices: valid values.

    Raises:
        ValueError: if the value is not among the choices.

    >>> check_choice("test_crops", "ten", ["ten", "center"])
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def command_line_config(arguments: Sequence[str]) -> Config:
    """Merge the configuration files and the overrides of ``python -m monai.bundle run``.

    Args:
        arguments: as in ``sys.argv[1:]``.

    Returns:
        The configuration before anything is instantiated; empty for another command.
    """
    options = _options(arguments)
    if "config_file" not in options:
        return {}
    return _merged(options)


def _no_effect(key: str, name: str, files: Mapping[str, Config], config: Config, options: Mapping[str, str]) -> str:
    """The error message for an argument that nothing uses."""
    names = [top for content in files.values() for top in content]
    if _top(name) not in {*names, *(_top(reference) for reference in references_in(config))}:
        close = difflib.get_close_matches(name, names, n=1)
        return (
            f"unknown argument --{key}{f'; did you mean --{close[0]}' if close else ''}? The bundle's README and its "
            "configuration list the arguments"
        )
    reasons = [
        f"{entry!r} used it and is replaced by {source}" for entry, source in _replaced(name, files, config, options)
    ]
    explained = "; ".join(reasons)
    return (
        f"--{key} has no effect: nothing that this command runs uses {name!r}"
        f"{f' ({explained})' if reasons else ''}. Remove the argument, or the file or argument "
        "that disconnects it"
    )


def _replaced(
    name: str, files: Mapping[str, Config], config: Config, options: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Entries of the first file that referred to a name and no longer do, and what replaced them."""
    first, *later = files.items()
    for entry, value in first[1].items():
        if uses(set(references_in(value)), name) and not uses(set(references_in(config.get(entry))), name):
            replacing = [file for file, content in later if any(_top(key) == entry for key in content)]
            replacing += [f"--{key}" for key in options if _top(key) == entry]
            yield entry, replacing[-1] if replacing else "another entry"


def _top(key: str) -> str:
    return key.lstrip("+").replace("::", "#").split("#")[0]


def _roots(options: Mapping[str, str]) -> list[str]:
    defaults = {"init_id": "initialize", "run_id": "run", "final_id": "finalize"}
    return [options.get(name, default) for name, default in defaults.items()]


def _read_each(files: str) -> dict[str, Config]:
    """Read the configuration files one by one, by file name."""
    value = DefaultParseValue(files)
    if isinstance(value, str) and "," in value and not Path(value).is_file():
        value = value.split(",")
    paths = [Path(str(file)) for file in (value if isinstance(value, list | tuple) else [value])]
    return {path.name: ConfigParser.load_config_file(path) for path in paths}


def _merged(options: Mapping[str, str]) -> Config:
    parser = ConfigParser()
    parser.read_config(DefaultParseValue(options["config_file"]))
    overrides = {key: DefaultParseValue(value) for key, value in options.items() if key not in _OWN}
    parser.update({key.replace("#", "::"): value for key, value in overrides.items()})
    return {key: value for key, value in parser.get().items() if key != "_meta_"}


def _options(words: Sequence[str]) -> dict[str, str]:
    """Arguments of the command by name, as ``fire`` reads them; those of ``--args_file`` stand behind the others."""
    named = dict(_named(words))
    if len(words) > 1 and words[0] == "run" and not words[1].startswith("--"):
        named.setdefault("run_id", words[1])
    if "args_file" in named:
        defaults = ConfigParser.load_config_file(named["args_file"])
        named = {key: value if isinstance(value, str) else repr(value) for key, value in defaults.items()} | named
    return named


def _named(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The pairs of ``--name value``, ``--name=value`` and ``--name`` (true)."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals:
                value = rest.pop(0) if rest and not rest[0].startswith("--") else "True"
            yield name.replace("-", "_"), value


def _refuse_texts_for_constants(key: str, text: str) -> None:
    """Refuse ``true`` and ``[1, null]``: ``fire`` reads words that Python does not define as text."""
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
                f"--{key} {text} would be read as text, since the command line does not define {word!r}; write {meant}"
            )


def _refuse_number_for_folder(name: str, text: str, config: Config) -> None:
    """Refuse ``--output_dir 20241130``, which ``fire`` reads as a number, unless the configuration converts it back."""
    value = DefaultParseValue(text)
    if not name.endswith(_FOLDER_ENDINGS) or isinstance(value, str | bool) or value is None:
        return
    if str(value) == text and f"str(@{name})" in json.dumps(config, default=str):
        return
    raise ValueError(f"--{name} {text} is read as a {type(value).__name__} and not as a path; write ./{text}")
