"""Ten-crop test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from monai_anat.transforms.geometry import per_axis

__all__ = ["ten_crops"]


def ten_crops(image: Tensor, size: int | Sequence[int], *, corners: bool = True, mirror: bool = True) -> list[Tensor]:
    """Crop the four corners and the center of an image, and their mirror images.

    Args:
        image: image (..., H, W), at least as large as the crops.
        size: size of a crop in pixels, one number or one per axis.
        corners: whether to include the corners.
        mirror: whether to include mirror images, which show the heart on the wrong side.

    Returns:
        Ten crops (..., h, w) in the order top left, top right, bottom left, bottom right, center, then their mirror
        images. There are fewer crops without corners or mirror images.

    Raises:
        ValueError: if the image is smaller than a crop.

    >>> import torch
    >>> [crop.flatten().tolist() for crop in ten_crops(torch.arange(9).reshape(1, 3, 3), 1, mirror=False)]
    [[0], [2], [6], [8], [4]]
    """
    height, width = image.shape[-2:]
    rows, cols = per_axis(size, 2, "size")
    if rows > height or cols > width:
        raise ValueError(
            f"size must not exceed the image, got size=({rows}, {cols}) for an image of ({height}, {width}); "
            "resize the image to at least that, 8/7 of it for the published protocols"
        )
    low, right = height - rows, width - cols
    places = [(0, 0), (0, right), (low, 0), (low, right)] if corners else []
    places.append((low // 2, right // 2))  # half a pixel up and left if a difference is odd
    crops = [image[..., top : top + rows, left : left + cols] for top, left in places]
    return crops + [crop.flip(-1) for crop in crops] if mirror else crops
