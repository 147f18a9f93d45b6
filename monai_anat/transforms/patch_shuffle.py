"""Patch shuffling and its exact inverse."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, RandomizableTransform, Transform
from torch import Tensor

from monai_anat.keys import ORDER
from monai_anat.transforms.array_kinds import BACKENDS, plain_tensor, same_kind
from monai_anat.transforms.geometry import grid_shape, join_cells, per_axis, split_cells
from monai_anat.transforms.shared_draw import shared_shape

__all__ = [
    "RandShufflePatchesd",
    "RestorePatches",
    "RestorePatchesd",
    "ShufflePatches",
    "inverse_order",
    "restore_patches",
    "shuffle_patches",
]


def inverse_order(order: Tensor) -> Tensor:
    """Invert a permutation.

    Args:
        order: permutations (N,) or (B, N).

    Returns:
        Permutations of the same shape, with ``inverse[order[j]] = j``.

    >>> inverse_order(torch.tensor([2, 0, 3, 1]))
    tensor([1, 3, 0, 2])
    """
    return order.argsort(dim=-1)


def _check_order(order: Tensor, batch: tuple[int, ...], patches: int) -> None:
    if order.shape != (*batch, patches):
        raise ValueError(
            f"order must have shape {(*batch, patches)}, one entry per patch, got {tuple(order.shape)}; "
            "check patch_size against the image size"
        )
    if not torch.equal(order.sort(dim=-1).values, torch.arange(patches, device=order.device).expand_as(order)):
        raise ValueError(f"order must be a permutation of 0..{patches - 1}, got {order.tolist()}")


def shuffle_patches(img: NdarrayOrTensor, order: NdarrayOrTensor, patch_size: int | Sequence[int]) -> NdarrayOrTensor:
    """Shuffle patches: position j shows the original patch ``order[j]``. POPAR, section 2 (PMC9728135).

    Differs from the released code: one gather over the batch instead of a loop.

    Args:
        img: image (C, H, W[, D]) with an order (N,), or batch (B, C, H, W[, D]) with orders (B, N).
        order: permutation of the patches, row-major.
        patch_size: side of a patch in pixels, one number or one per axis.

    Returns:
        The shuffled image, of the same kind, shape and type.

    Raises:
        ValueError: if the image does not consist of whole patches, or the order is not a permutation of them.

    >>> shuffle_patches(torch.tensor([[[0, 1], [2, 3]]]), torch.tensor([2, 0, 3, 1]), patch_size=1)
    tensor([[[2, 0],
             [3, 1]]])
    """
    pixels = plain_tensor(img)
    index = plain_tensor(order).to(device=pixels.device, dtype=torch.int64)
    if index.ndim not in (1, 2):
        raise ValueError(f"order must be (N,) or, for a batch, (B, N), got shape {tuple(index.shape)}")
    spatial_dims = pixels.ndim - index.ndim
    if spatial_dims not in (2, 3):
        raise ValueError(
            f"img must be (C, H, W[, D]) for an order (N,) and (B, C, H, W[, D]) for (B, N), "
            f"got shapes {tuple(pixels.shape)} and {tuple(index.shape)}"
        )
    patch = per_axis(patch_size, spatial_dims, "patch_size")
    grid = grid_shape(pixels.shape[-spatial_dims:], patch, "patch_size")
    batch = tuple(pixels.shape[: index.ndim - 1])
    _check_order(index, batch, math.prod(grid))
    patches = split_cells(pixels, patch, spatial_dims)  # ([B,] N, C, h, w[, d])
    if batch:
        moved = patches[torch.arange(batch[0], device=index.device)[:, None], index]
    else:
        moved = patches[index]
    return same_kind(join_cells(moved, grid), img)


def restore_patches(img: NdarrayOrTensor, order: NdarrayOrTensor, patch_size: int | Sequence[int]) -> NdarrayOrTensor:
    """Restore an image that was shuffled by :func:`shuffle_patches`, bit for bit.

    Args:
        img: shuffled image (C, H, W[, D]) with an order (N,), or batch (B, C, H, W[, D]) with orders (B, N).
        order: permutation by which the image was shuffled.
        patch_size: side of a patch in pixels, one number or one per axis.

    Returns:
        The original image, of the same kind, shape and type.

    Raises:
        ValueError: as in :func:`shuffle_patches`.

    >>> restore_patches(torch.tensor([[[2, 0], [3, 1]]]), torch.tensor([2, 0, 3, 1]), patch_size=1)
    tensor([[[0, 1],
             [2, 3]]])
    """
    return shuffle_patches(img, inverse_order(plain_tensor(order)), patch_size)


class ShufflePatches(Transform):
    """Shuffle the patches of an image by a given order; see :func:`shuffle_patches`.

    Args:
        patch_size: side of a patch in pixels, one number or one per axis.

    >>> image = torch.arange(16).reshape(1, 4, 4)
    >>> order = torch.tensor([2, 0, 3, 1])
    >>> torch.equal(RestorePatches(2)(ShufflePatches(2)(image, order), order), image)
    True
    """

    backend = BACKENDS

    def __init__(self, patch_size: int | Sequence[int]) -> None:
        self.patch_size = patch_size

    def __call__(  # type: ignore[override]  # MONAI's base class has one argument, but its own transforms take more
        self, img: NdarrayOrTensor, order: NdarrayOrTensor
    ) -> NdarrayOrTensor:
        """Shuffle one image (C, H, W[, D]) by an order (N,)."""
        return shuffle_patches(img, order, self.patch_size)


class RestorePatches(Transform):
    """Restore an image shuffled by :class:`ShufflePatches`, exactly.

    Args:
        patch_size: side of a patch in pixels, one number or one per axis.

    >>> RestorePatches(1)(np.array([[[2, 0], [3, 1]]]), np.array([2, 0, 3, 1])).tolist()
    [[[0, 1], [2, 3]]]
    """

    backend = BACKENDS

    def __init__(self, patch_size: int | Sequence[int]) -> None:
        self.patch_size = patch_size

    def __call__(  # type: ignore[override]  # MONAI's base class has one argument, but its own transforms take more
        self, img: NdarrayOrTensor, order: NdarrayOrTensor
    ) -> NdarrayOrTensor:
        """Restore one image (C, H, W[, D]) that was shuffled by an order (N,)."""
        return restore_patches(img, order, self.patch_size)


def _stored_order(data: Mapping[Hashable, Any], order_key: str) -> NdarrayOrTensor:
    if order_key not in data:
        raise KeyError(f"the sample has no {order_key!r}, only {list(data)}; run RandShufflePatchesd before")
    order: NdarrayOrTensor = data[order_key]
    return order


def _recorded_order(transform: InvertibleTransform, image: Any) -> Tensor | None:
    """Take the order off a MetaTensor that records it; None for any other image."""
    if not isinstance(image, MetaTensor):
        return None
    if not any(record.get("id") == id(transform) for record in image.applied_operations):
        return None
    return torch.tensor(transform.pop_transform(image)["extra_info"]["order"])


class RandShufflePatchesd(RandomizableTransform, MapTransform, InvertibleTransform):
    """Shuffle the patches of images by one random order, and add the order to the sample.

    If a sample is not shuffled, its order is the identity, so that every batch has orders. The inverse uses the order
    that a MetaTensor records, or else the order in the sample.

    Args:
        keys: keys of images (C, H, W[, D]) of the same spatial shape.
        patch_size: side of a patch in pixels, one number or one per axis.
        prob: probability that a sample is shuffled.
        order_key: key of the order (N,), int64.
        allow_missing_keys: if True, skip keys that the sample does not have.

    >>> shuffle = RandShufflePatchesd("image", patch_size=2).set_random_state(0)
    >>> sample = shuffle({"image": torch.arange(16).reshape(1, 4, 4)})
    >>> sample["order"]
    tensor([2, 3, 0, 1])
    >>> shuffle.inverse(sample)["image"][0, 0]
    tensor([0, 1, 2, 3])
    """

    backend = BACKENDS

    def __init__(
        self,
        keys: KeysCollection,
        patch_size: int | Sequence[int],
        prob: float = 1.0,
        order_key: str = ORDER,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.patch_size = patch_size
        self.order_key = order_key
        self.order = torch.arange(0)

    def randomize(self, data: int) -> None:
        """Draw the order of ``data`` patches."""
        super().randomize(None)
        drawn = self.R.permutation(data) if self._do_transform else np.arange(data)
        self.order = torch.from_numpy(drawn.astype(np.int64, copy=False))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Shuffle the images of one sample and add the order."""
        out = dict(data)
        keys = list(self.key_iterator(out))
        shape = shared_shape(out, keys)
        if shape is not None:
            self.randomize(math.prod(grid_shape(shape, self.patch_size, "patch_size")))
            out[self.order_key] = self.order
        for key in keys:
            if self._do_transform:
                out[key] = shuffle_patches(out[key], self.order, self.patch_size)
            if isinstance(out[key], MetaTensor):
                self.push_transform(  # type: ignore[no-untyped-call]
                    out[key], extra_info={"order": self.order.tolist()}
                )
        return out

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore the images of one sample.

        The order comes from the record of a MetaTensor, else from the sample.

        Raises:
            KeyError: if neither has the order.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            recorded = _recorded_order(self, out[key])
            order = _stored_order(out, self.order_key) if recorded is None else recorded
            out[key] = restore_patches(out[key], order, self.patch_size)
        return out


class RestorePatchesd(MapTransform):
    """Restore shuffled images by the order in the sample, the inverse of :class:`RandShufflePatchesd`.

    Args:
        keys: keys of shuffled images (C, H, W[, D]).
        patch_size: side of a patch in pixels, one number or one per axis.
        order_key: key of the order (N,).
        allow_missing_keys: if True, skip keys that the sample does not have.

    Raises:
        KeyError: if the sample has no order.

    >>> sample = {"image": torch.tensor([[[2, 0], [3, 1]]]), "order": torch.tensor([2, 0, 3, 1])}
    >>> RestorePatchesd("image", patch_size=1)(sample)["image"].tolist()
    [[[0, 1], [2, 3]]]
    """

    backend = BACKENDS

    def __init__(
        self,
        keys: KeysCollection,
        patch_size: int | Sequence[int],
        order_key: str = ORDER,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.patch_size = patch_size
        self.order_key = order_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore the images of one sample."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = restore_patches(out[key], _stored_order(out, self.order_key), self.patch_size)
        return out
