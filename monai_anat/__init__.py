"""Teach networks human anatomy from unlabeled medical images, as a MONAI extension.

Every subpackage is imported here, because MONAI's short names (``"_target_": "PEACMethod"``) see loaded modules only.
"""

from monai_anat import (
    data,
    engines,
    evaluation,
    handlers,
    keys,
    losses,
    methods,
    metrics,
    networks,
    transforms,
    visualize,
)  # isort: skip
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
