"""What the views transforms of all methods share: one image in, plain normalized tensors out, all draws from ``R``."""

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
    """Make a method's batch item of one image, in ONE transform.

    A chain of small transforms would spend more time on seeding than on pixels, and a MetaTensor costs a merge per
    batch; so a subclass draws everything from ``self.R`` in ``randomize`` and returns plain tensors. The image itself
    leaves the sample, all other entries stay.

    Args:
        keys: the one key of the image.
        mean: subtracted from the gray levels in [0, 1] of every view.
        std: what they are divided by after that.

    Attributes:
        takes_volumes: False for the views of a method that is 2D only.

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
        """Draw, and cut the views of one image.

        Args:
            pixels: (C, H, W[, D]), uint8, uint16, or floating point in [0, 1]; not to be changed.

        Returns:
            Entries of the batch item by the names of :mod:`monai_anat.keys`.
        """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the image of a sample by its views.

        Args:
            data: the sample; it stays as it is.

        Returns:
            The sample's other entries and the views.

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
                f"RandPEACViewsd and "
                "RandPOPARViewsd take volumes"
            )
        sample: dict[Hashable, Any] = {name: value for name, value in data.items() if name != key}
        sample.update(self.views(pixels))
        return sample

    def normalize(self, pixels: Tensor) -> Tensor:
        """Scale codes to [0, 1], subtract the mean and divide by the spread.

        Args:
            pixels: uint8, uint16, or floating point in [0, 1], of any shape.

        Returns:
            A new float32 tensor of that shape.
        """
        return unit_range(pixels).to(torch.float32).sub(self.mean).div_(self.std)
