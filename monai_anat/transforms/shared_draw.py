"""Dictionary forms of random array transforms: one draw for all keys of a sample."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable

from monai_anat.transforms.array_kinds import BACKENDS

__all__ = ["ArrayTransform", "RandDictionaryForm", "RandSharedDrawd", "shared_shape"]


def shared_shape(data: Mapping[Hashable, Any], keys: Sequence[Hashable]) -> tuple[int, ...] | None:
    """Return the common spatial shape of the images of a sample.

    Args:
        data: the sample.
        keys: keys of images (C, H, W[, D]).

    Returns:
        (H, W[, D]), or None if there are no keys.

    Raises:
        ValueError: if an image has another shape.

    >>> shared_shape({"image": np.zeros((1, 4, 6)), "label": np.zeros((1, 4, 6))}, ["image", "label"])
    (4, 6)
    """
    shapes = {key: tuple(data[key].shape[1:]) for key in keys}
    for key, shape in shapes.items():
        if shape != shapes[keys[0]]:
            raise ValueError(
                f"keys must have one spatial shape, got {shapes[keys[0]]} and {key!r} with {shape}; resample them onto "
                "one grid first, e.g. by ResampleToMatchd, or give each a transform of its own"
            )
    return shapes[keys[0]] if shapes else None


class ArrayTransform(Protocol):
    """Random transform of one image that can repeat its last draw."""

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Any:
        """Seed the random generator."""

    def randomize(self, data: Sequence[int]) -> None:
        """Draw for an image of spatial shape ``data``."""

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Transform one image (C, H, W[, D]); with ``randomize=False``, repeat the last draw."""
        ...


class RandSharedDrawd(Randomizable, MapTransform):
    """Apply a random array transform with the same draw to all keys of a sample.

    Args:
        keys: keys of images (C, H, W[, D]) of the same spatial shape.
        transform: array transform, whose random generator is used.
        allow_missing_keys: if True, skip keys that the sample does not have.

    Raises:
        ValueError: if the images of a sample differ in shape, when called.
    """

    backend = BACKENDS

    def __init__(self, keys: KeysCollection, transform: ArrayTransform, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform = transform

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        """Seed the array transform."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def randomize(self, data: Sequence[int]) -> None:
        """Draw for images of spatial shape ``data``."""
        self.transform.randomize(data)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform all images of one sample with one draw."""
        out = dict(data)
        keys = list(self.key_iterator(out))
        shape = shared_shape(out, keys)
        if shape is not None:
            self.randomize(shape)
        for key in keys:
            out[key] = self.transform(out[key], randomize=False)
        return out


class RandDictionaryForm(RandSharedDrawd):
    """Base of dictionary transforms that take the arguments of one array transform.

    A subclass sets ``array_transform`` and nothing else.

    Args:
        keys: keys of images (C, H, W[, D]) of the same spatial shape.
        arguments: positional arguments of the array transform.
        allow_missing_keys: if True, skip keys that the sample does not have.
        options: keyword arguments of the array transform.
    """

    #: class of the array transform
    array_transform: ClassVar[type[ArrayTransform]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "array_transform" in cls.__dict__:
            keys = Parameter("keys", Parameter.POSITIONAL_OR_KEYWORD, annotation=KeysCollection)
            missing = Parameter("allow_missing_keys", Parameter.KEYWORD_ONLY, default=False, annotation=bool)
            own = signature(cls.array_transform).parameters.values()
            cls.__signature__ = Signature([keys, *own, missing])  # type: ignore[attr-defined]

    def __init__(self, keys: KeysCollection, *arguments: Any, allow_missing_keys: bool = False, **options: Any) -> None:
        super().__init__(keys, self.array_transform(*arguments, **options), allow_missing_keys)
