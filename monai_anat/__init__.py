"""Self-supervised learning of human anatomy from unlabeled medical images, as a MONAI extension."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from monai_anat._version import __version__

__all__ = [
    "__version__",
    "data",
    "engines",
    "evaluation",
    "handlers",
    "keys",
    "losses",
    "methods",
    "metrics",
    "networks",
    "transforms",
    "visualize",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# MONAI's bundles find a class by its short name ("_target_": "PEACMethod") in loaded modules only, so all subpackages
# are loaded here. The command line loads what a verb needs, since --help must not wait for torch.
if Path(sys.argv[0] if sys.argv else "").name not in ("-m", "monai-anat"):
    for _name in __all__:
        if not _name.startswith("_"):
            importlib.import_module(f"{__name__}.{_name}")
