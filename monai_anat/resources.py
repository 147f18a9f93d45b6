"""Where the parts of the package that are no code stand: in a source tree and in a wheel."""

from __future__ import annotations

from pathlib import Path

__all__ = ["bundle_names", "bundle_path"]

_PACKAGE = Path(__file__).parent


def _bundle_root() -> Path:
    installed = _PACKAGE / "bundles"
    return installed if installed.is_dir() else _PACKAGE.parent / "bundles"


def bundle_names() -> list[str]:
    """The bundles that came with the package.

    >>> "cxr_peac_pretraining" in bundle_names()
    True
    """
    return sorted(path.name for path in _bundle_root().iterdir() if (path / "configs" / "metadata.json").is_file())


def bundle_path(name: str) -> Path:
    """The folder of a bundle, for ``--bundle_root`` and its configuration files.

    Args:
        name: such as "cxr_peac_pretraining".

    Raises:
        ValueError: if there is no such bundle; the message names those there are.

    >>> bundle_path("cxr_peac_pretraining").name
    'cxr_peac_pretraining'
    """
    if name not in bundle_names():
        raise ValueError(f"name must be one of {bundle_names()}, got {name!r}")
    return _bundle_root() / name
