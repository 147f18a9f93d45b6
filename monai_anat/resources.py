"""Paths and commands of the bundles that ship with the package, in a source tree or a wheel."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["bundle_command", "bundle_names", "bundle_path"]

_PACKAGE = Path(__file__).parent


def _bundle_root() -> Path:
    installed = _PACKAGE / "bundles"
    return installed if installed.is_dir() else _PACKAGE.parent / "bundles"


def bundle_names() -> list[str]:
    """List the names of the bundles that ship with the package.

    >>> "cxr_peac_pretraining" in bundle_names()
    True
    """
    return sorted(path.name for path in _bundle_root().iterdir() if (path / "configs" / "metadata.json").is_file())


def bundle_path(name: str) -> Path:
    """Return the folder of a bundle, for ``--bundle_root`` and its configuration files.

    Args:
        name: name of the bundle, such as "cxr_peac_pretraining".

    Raises:
        ValueError: if there is no such bundle. The message lists the available ones.

    >>> bundle_path("cxr_peac_pretraining").name
    'cxr_peac_pretraining'
    """
    if name not in bundle_names():
        raise ValueError(f"name must be one of {bundle_names()}, got {name!r}")
    return _bundle_root() / name


def bundle_command(bundle: str, *files: str, **overrides: str) -> list[str]:
    """Build the command line that runs a bundle of this package.

    Args:
        bundle: name of the bundle.
        files: names of configuration files in ``configs/``, without ``.json``. Later files override earlier ones.
        overrides: values that override the configuration, as ``--key value``.

    Raises:
        ValueError: if there is no such bundle or file. The message lists the available ones.

    >>> " ".join(bundle_command("cxr_peac_pretraining", "train")[1:5])
    '-m monai.bundle run --config_file'
    """
    root = bundle_path(bundle)
    available = sorted(path.stem for path in (root / "configs").glob("*.json"))
    for file in files:
        if file not in available:
            raise ValueError(f"files of {bundle} must be among {', '.join(available)}, got {file!r}")
    configs = [str(root / "configs" / f"{file}.json") for file in files]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(configs), "--bundle_root", str(root)]
    command += ["--meta_file", str(root / "configs" / "metadata.json")]
    command += ["--logging_file", str(root / "configs" / "logging.conf")]
    return command + [part for key, value in overrides.items() for part in (f"--{key}", value)]
