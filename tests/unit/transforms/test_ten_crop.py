"""Ten crops: exact places, mirrors, and what is too small."""

from __future__ import annotations

import pytest
import torch

from monai_anat.transforms.ten_crop import ten_crops


def test_places_are_exact_and_five_are_the_mirrors_of_the_others():
    image = torch.arange(2 * 3 * 7 * 9).reshape(2, 3, 7, 9)
    crops = ten_crops(image, (4, 5))
    assert len(crops) == 10
    places = [(0, 0), (0, 4), (3, 0), (3, 4), (1, 2)]
    for crop, mirrored, (row, col) in zip(crops[:5], crops[5:], places, strict=True):
        assert torch.equal(crop, image[..., row : row + 4, col : col + 5])
        assert torch.equal(mirrored, crop.flip(-1))


def test_published_sizes():
    crops = ten_crops(torch.arange(512.0)[None].expand(512, 512), 448, mirror=False)
    assert [crop[0, 0].item() for crop in crops] == [0, 64, 0, 64, 32]


@pytest.mark.parametrize(("corners", "mirror", "count"), [(True, False, 5), (False, True, 2), (False, False, 1)])
def test_fewer_crops(corners, mirror, count):
    image = torch.rand(1, 8, 8)
    crops = ten_crops(image, 4, corners=corners, mirror=mirror)
    assert len(crops) == count
    center = crops[4] if corners else crops[0]
    assert torch.equal(center, image[:, 2:6, 2:6])


def test_an_image_of_the_crops_size_is_every_crop():
    image = torch.rand(1, 4, 4)
    assert all(torch.equal(crop, image) for crop in ten_crops(image, 4)[:5])


def test_a_small_image_is_named():
    with pytest.raises(ValueError, match=r"size must not exceed the image, got size=\(5, 5\) for an image of \(4, 9\)"):
        ten_crops(torch.zeros(1, 4, 9), 5)
