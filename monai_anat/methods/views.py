"""Base class of the views transforms of all methods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

from monai_anat.transforms.array_kinds import BACKENDS, plain_tensor, unit_range

__all__ = ["RandViewsd"]


class RandViewsd(Randomizable, MapTransform):
    """Make the batch item of a method from one image, in one random transform.

    A chain of small transforms would spend more time on seeding than on pixels, and MetaTensors slow down the collate
    of a batch. A subclass therefore draws everything from ``self.R`` in ``randomize`` and returns plain tensors. The
    result holds the views alone. Labels, masks, names and meta data of the sample are dropped, because no method reads
    them and a batch could not be collated where they differ in form.

    Args:
        keys: key of the image; exactly one.
        mean: mean of the gray levels in [0, 1], subtracted from every view.
        std: standard deviation of the gray levels in [0, 1], by which every view is divided.

    Attributes:
        takes_volumes: False if the method is 2D only.

    Raises:
        ValueError: if there is more than one key, or ``std`` is not positive.
    """

    backend = BACKENDS
    takes_volumes: bool = True

    def __init__(self, keys: KeysCollection, mean: float, std: float) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must be the one key of the image, got {self.keys}; make views of each image apart")
        if not std > 0:
            raise ValueError(f"std must be positive, got {std}; it is the spread of the gray levels in [0, 1]")
        self.mean = mean
        self.std = std

    @abstractmethod
    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        """Draw and cut the views of one image.

        Args:
            pixels: image (C, H, W[, D]), uint8, uint16, or floating point in [0, 1]; must not be changed.

        Returns:
            The batch item, by the names of :mod:`monai_anat.keys`.
        """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Make the views of a sample.

        Args:
            data: the sample; it is not changed.

        Returns:
            The views, and nothing else of the sample.

        Raises:
            KeyError: if the sample has no image.
            ValueError: if the image does not have the shape that the views need.
        """
        (key,) = self.keys
        if key not in data:
            raise KeyError(
                f"sample has no {key!r}; it holds {sorted(map(str, data))}. Load the image under keys={key!r}"
            )
        pixels = plain_tensor(data[key])
        if pixels.ndim not in (3, 4):
            raise ValueError(
                f"{key} must be (C, H, W) or (C, H, W, D), got {tuple(pixels.shape)}; "
                'EnsureChannelFirstd(channel_dim="no_channel") adds the channel of a gray image'
            )
        if pixels.ndim == 4 and not self.takes_volumes:
            raise ValueError(
                f"{key} must be (C, H, W), got {tuple(pixels.shape)}; {type(self).__name__} is 2D only, "
                "RandPEACViewsd and RandPOPARViewsd take volumes"
            )
        item: dict[Hashable, Any] = {}
        item.update(self.views(pixels))
        return item

    def normalize(self, pixels: Tensor) -> Tensor:
        """Scale gray levels to [0, 1], subtract the mean and divide by the standard deviation.

        Args:
            pixels: uint8, uint16, or floating point in [0, 1], of any shape.

        Returns:
            A new float32 tensor of the same shape.
        """
        return unit_range(pixels).to(torch.float32).sub(self.mean).div_(self.std)
