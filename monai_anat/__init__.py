"""Teach networks human anatomy from unlabelled medical images, as a MONAI extension.

Every subpackage is imported here, because MONAI's short names (``"_target_": "PEACMethod"``) see loaded modules only.
"""

from ._version import __version__

from . import data, engines, evaluation, handlers, keys, losses, methods, metrics, networks, transforms, visualize  # isort: skip

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
