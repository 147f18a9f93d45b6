"""Scores of a whole image in the form that clients of a bundle expect."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_anat.transforms.array_kinds import BACKENDS, plain_tensor

__all__ = ["FinishScoresd"]


class FinishScoresd(MapTransform):
    """Make the scores of an image a MetaTensor without a pixel grid.

    MONAI Label reads the scores off a MetaTensor, and resizes every prediction to ``spatial_shape`` of its image where
    the image has one. Scores have no grid, so the entry is removed from the image.

    Args:
        keys: scores (C,).
        ref_key: the image that they belong to.
        allow_missing_keys: ignore keys that an item lacks.

    >>> import torch
    >>> image = MetaTensor(torch.zeros(1, 2, 2), meta={"spatial_shape": (2, 2)})
    >>> item = FinishScoresd("pred")({"image": image, "pred": torch.zeros(4)})
    >>> item["pred"].array.shape, "spatial_shape" in item["image"].meta, "spatial_shape" in image.meta
    ((4,), False, True)
    """

    backend = BACKENDS

    def __init__(self, keys: KeysCollection, ref_key: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.ref_key = ref_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        items = dict(data)
        for key in self.key_iterator(items):
            items[key] = MetaTensor(plain_tensor(items[key]))
        image = items.get(self.ref_key)
        if isinstance(image, MetaTensor):
            meta = {name: value for name, value in image.meta.items() if name != "spatial_shape"}
            items[self.ref_key] = MetaTensor(image.as_tensor(), meta=meta)
        return items
