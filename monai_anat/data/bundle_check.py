"""Read a bundle's configurations without running them, and list what would run, for a config can run any code.

``$`` expressions are Python; a ``_target_`` is a call; Python evaluates the arguments of a ``logging.conf``, which a
bundle run reads. What lies outside the lists below need not be harmful, but a person should look at it before the
bundle is run.
"""

from __future__ import annotations

import ast
import configparser
import importlib.util
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .datalists import DatalistError

__all__ = [
    "ALLOWED_TARGETS",
    "BundleFinding",
    "check_bundle",
]

#: targets that a reader need not look at
ALLOWED_TARGETS = ("monai.", "monai_anat.", "torch.nn.", "torch.optim.", "torch.utils.data.", "ignite.")
#: targets inside the allowed packages that load or run what somebody else wrote
WATCHED_TARGETS = (
    "monai.bundle.",
    "monai.apps.auto3dseg",
    "monai.auto3dseg",
    "monai.fl.",
    "monai.data.utils.pickle",
    "monai.apps.download",
    "monai.apps.utils",
    "monai.transforms.Lambda",
    "torch.load",
    "torch.hub",
)
#: classes that do so, which MONAI also finds by their short names
_WATCHED_NAMES = re.compile(
    r"Lambda|Bundle|Algo|Workflow|AutoRunner|EnsembleRunner|HPOGen|NNIGen|OptunaGen|^Config|^Reference"
)
_OPEN_PACKAGES = {"monai", "torch", "ignite"}
_CONFIG_SUFFIXES = (".json", ".yaml", ".yml")
_LOGGING_CLASS = re.compile(
    r"(logging\.)?(handlers\.)?(Stream|File|Null|RotatingFile|TimedRotatingFile)Handler|logging\.Formatter"
)
_LOGGING_STREAMS = re.compile(r"\bsys\.std(out|err)\b")
_SHORT_NAME = re.compile(r"^[A-Z][A-Za-z0-9_]*$")


@dataclass(frozen=True)
class BundleFinding:
    """One thing to look at.

    Attributes:
        file: configuration, relative to the bundle.
        key: where in it, as ``train#trainer``.
        kind: ``expression``, ``target`` or ``unreadable``.
        text: the expression, the target, or why it cannot be read.
    """

    file: str
    key: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.kind}: {self.text}"


def check_bundle(
    folder: str | os.PathLike[str], allowed_targets: Sequence[str] = ALLOWED_TARGETS
) -> list[BundleFinding]:
    """List every ``$`` expression, and every ``_target_`` outside an allow-list, of a bundle's configurations.

    Nothing is imported, resolved or executed. A short name (``"CrossEntropyLoss"``) is looked up by MONAI among its own
    classes and counts as allowed. A dotted name counts as allowed if it is that of a class in a file of an allowed
    package: functions (``monai.utils.run_cmd``), names behind names (``monai.utils.misc.subprocess.Popen``) and
    references (``@other``), which may stand for anything, are listed.

    Args:
        folder: the bundle, or its ``configs``.
        allowed_targets: beginnings of dotted names that need no look.

    Returns:
        Findings in the order of files and keys; empty for a bundle without a ``$`` and with known targets only.

    Raises:
        DatalistError: there is no configuration.
    """
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in _CONFIG_SUFFIXES and path.is_file())
    if not files:
        raise DatalistError(f"folder must be a bundle with JSON or YAML configurations, got none in {str(root)!r}")
    findings: list[BundleFinding] = []
    for path in files:
        name = str(path.relative_to(root))
        try:
            text = path.read_text()
            content = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            findings.append(BundleFinding(name, "", "unreadable", reason))
            continue
        findings += [BundleFinding(name, *found) for found in _findings(content, "", tuple(allowed_targets))]
    for path in sorted(path for path in root.rglob("*") if path.suffix.lower() == ".conf" and path.is_file()):
        findings += [BundleFinding(str(path.relative_to(root)), *found) for found in _logging_findings(path)]
    return findings


def _logging_findings(path: Path) -> Iterator[tuple[str, str, str]]:
    """What ``logging.config.fileConfig`` would evaluate or call, beyond text handlers with plain arguments."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text())
    except (ValueError, configparser.Error) as error:
        yield "", "unreadable", type(error).__name__
        return
    for section in parser.sections():
        for option in ("class", "args", "kwargs"):
            value = parser.get(section, option, fallback="").strip()
            if option == "class" and value and not _LOGGING_CLASS.fullmatch(value):
                yield f"{section}#{option}", "target", value
            elif option != "class" and value and not _is_literal(value):
                yield f"{section}#{option}", "expression", value


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(_LOGGING_STREAMS.sub("0", text))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return False
    return True


def _findings(content: Any, key: str, allowed: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    if isinstance(content, dict):
        for name, value in content.items():
            place = f"{key}#{name}" if key else str(name)
            if str(name).lstrip("+") == "_target_" and isinstance(value, str) and not value.startswith("$"):
                if not _is_known(value, allowed):
                    yield place, "target", value
            else:
                yield from _findings(value, place, allowed)
            if isinstance(name, str) and name.startswith("$"):
                yield place, "expression", name
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _findings(value, f"{key}#{number}" if key else str(number), allowed)
    elif isinstance(content, str) and content.lstrip().startswith("$"):
        yield key, "expression", content
    elif isinstance(content, str) and re.match(r"\s*%", content):
        # a macro is replaced by text from another file, which may lie outside the bundle
        source = content.strip().lstrip("%").split("::")[0]
        if "::" in content and (Path(source).is_absolute() or ".." in Path(source).parts):
            yield key, "expression", content


def _is_known(target: str, allowed: tuple[str, ...]) -> bool:
    if target.startswith(WATCHED_TARGETS) or _WATCHED_NAMES.search(target.rpartition(".")[2]):
        return False
    if _SHORT_NAME.match(target):
        return True
    if not target.startswith(allowed):
        return False
    module, _, name = target.rpartition(".")
    package = module.partition(".")[0]
    # a function may run what its arguments say; those of this package do not
    return _is_module(module) and (package not in _OPEN_PACKAGES or bool(_SHORT_NAME.match(name)))


def _is_module(name: str) -> bool:
    """Whether a dotted name is that of a file or folder of a package, by a look at the disk alone."""
    package, *rest = name.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return True  # a package that this machine lacks: the caller's list has to do
    place = Path(next(iter(spec.submodule_search_locations))).joinpath(*rest)
    return place.is_dir() or place.with_suffix(".py").is_file()
