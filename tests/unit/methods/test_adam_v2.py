"""Adam-v2: views of one structure and its parts, stage by stage, and the wiring of the three terms."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from monai_anat.methods import AdamV2Method, AdamV2Viewsd
from monai_anat.networks import ConvNeXtBackbone

TERMS = {"localizability", "composability", "decomposability"}
STAGES = (("L", 0), ("L", 1), ("LCD", 0), ("LCD", 1))


def tiny_method(backbone: Any = None, **options: Any) -> AdamV2Method:
    if backbone is None:
        backbone = ConvNeXtBackbone(depths=(1, 1), dims=(8, 16), layer_scale=0.1)
    tiny = {"num_prototypes": 24, "head_features": 16, "bottleneck_features": 8, "frozen_prototype_epochs": 0}
    return AdamV2Method(backbone, **{**tiny, **options})


def tiny_views(**options: Any) -> AdamV2Viewsd:
    return AdamV2Viewsd(**{"image_size": 16, "local_size": 8, "stages": STAGES, "border": 4, **options})


def noise(seed: int, shape: tuple[int, ...] = (1, 70, 64)) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


#: read by tests/contracts: a stage of each kind, and the first epoch, in which the prototypes are frozen
CASE = SimpleNamespace(method=tiny_method, views=tiny_views, image=noise, phase=1)
MORE_CASES = {
    "parts": SimpleNamespace(method=tiny_method, views=tiny_views, image=noise, phase=2),
    "frozen": SimpleNamespace(
        method=lambda: tiny_method(frozen_prototype_epochs=1), views=tiny_views, image=noise, phase=3
    ),
}
