"""Random dark borders, an augmentation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import ensure_tuple_rep
from torch import Tensor
from torch.nn import functional as F

from monai_anat.transforms.array_kinds import BACKENDS, plain_tensor, same_kind
from monai_anat.transforms.shared_draw import shared_shape

__all__ = ["BordersDraw", "RandBordersd", "add_borders", "draw_borders"]


@dataclass(frozen=True)
class BordersDraw:
    """A dark frame.

    Attributes:
        margins: for each axis the margins before and after the image, as shares of the side.
        level: gray value.
        seed: seed of the noise.
    """

    margins: tuple[tuple[float, float], ...]
    level: float
    seed: int


def draw_borders(R: np.random.RandomState, dims: int = 2, largest: float = 0.2, level: float = 0.05) -> BordersDraw:
    """Draw a frame. Each side has a margin with probability 1/2.

    Args:
        R: random generator.
        dims: number of axes.
        largest: largest margin as a share of the side, below 0.5.
        level: largest gray value of the frame.

    >>> len(draw_borders(np.random.RandomState(0)).margins)
    2
    """
    shares = R.uniform(0, largest, (dims, 2)) * (R.uniform(size=(dims, 2)) < 0.5)
    margins = tuple((float(before), float(after)) for before, after in shares)
    return BordersDraw(margins, float(R.uniform(0, level)), int(R.randint(2**31)))


def add_borders(image: Tensor, draw: BordersDraw, mode: str = "bilinear") -> Tensor:
    """Shrink an image into a dark frame, as a collimated or padded radiograph.

    Args:
        image: (C, H, W[, D]), unsigned integers or floating point in [0, 1]; a mask with ``nearest``.
        draw: the frame.
        mode: ``bilinear`` (linear in each axis) for images; ``nearest`` for masks, whose frame is 0.

    Returns:
        Tensor of the same shape and type.

    >>> add_borders(torch.ones(1, 4, 4), BordersDraw(((0.25, 0.25), (0, 0)), 0.0, 0), "nearest")[0, :, 0].tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    smooth = mode != "nearest"
    edges = [
        (round(before * side), side - round(after * side))
        for (before, after), side in zip(draw.margins, image.shape[1:], strict=True)
    ]
    inner = [end - start for start, end in edges]
    linear = "bilinear" if len(inner) == 2 else "trilinear"
    content = F.interpolate(
        image[None].float(),
        size=inner,
        mode=linear if smooth else "nearest",
        align_corners=False if smooth else None,
        antialias=smooth and len(inner) == 2,
    )[0]
    frame = torch.zeros(image.shape, device=image.device)
    if smooth:
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(draw.seed)).to(image.device)
        scale = 1.0 if image.is_floating_point() else float(torch.iinfo(image.dtype).max)
        frame = scale * (draw.level + 0.01 * noise).clamp(0, 1)
    frame[(slice(None), *(slice(start, end) for start, end in edges))] = content
    return (frame if image.is_floating_point() else frame.round()).to(image.dtype)


class RandBordersd(RandomizableTransform, MapTransform):
    """Shrink radiographs and their masks into one random dark frame, for networks that must ignore borders.

    Args:
        keys: images and masks (C, H, W[, D]) of one size.
        prob: probability of a frame.
        largest: largest margin as a share of the side.
        level: largest gray value of the frame.
        mode: per key, ``bilinear`` for images and ``nearest`` for masks.
        allow_missing_keys: ignore keys that an item lacks.

    Raises:
        ValueError: if ``largest`` is not in [0, 0.45].

    >>> frame = RandBordersd("image", prob=1.0).set_random_state(0)
    >>> frame({"image": np.ones((1, 16, 16), np.float32)})["image"].shape
    (1, 16, 16)
    """

    backend = BACKENDS

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.3,
        largest: float = 0.2,
        level: float = 0.05,
        mode: str | Sequence[str] = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not 0 <= largest <= 0.45:
            raise ValueError(f"largest must be in [0, 0.45], got {largest}")
        self.largest, self.level = largest, level
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.draw: BordersDraw | None = None

    def randomize(self, data: Sequence[int]) -> None:
        """Draw whether there is a frame, and which, for images of spatial shape ``data``."""
        super().randomize(None)
        self.draw = draw_borders(self.R, len(data), self.largest, self.level) if self._do_transform else None

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        items = dict(data)
        keys = list(self.key_iterator(items))
        shape = shared_shape(items, keys)
        if shape is None:
            return items
        self.randomize(shape)
        for key, mode in self.key_iterator(items, self.mode):
            if self.draw is not None:
                items[key] = same_kind(add_borders(plain_tensor(items[key]), self.draw, mode), items[key])
        return items
