from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.transforms import RandBordersd
from monai_anat.transforms.borders import dark_border_box
from monai_anat.transforms.random_borders import BordersDraw, add_borders, draw_borders


def test_image_and_mask_shrink_alike_into_the_frame() -> None:
    draw = BordersDraw(((0.25, 0.0), (0.125, 0.125)), 0.03, 1)
    mask = torch.zeros(1, 16, 16)
    mask[:, :, :8] = 1
    image = add_borders(0.5 + 0.4 * mask, draw)
    label = add_borders(mask, draw, "nearest")
    assert dark_border_box(image) == (slice(4, 16), slice(2, 14))
    assert label.unique().tolist() == [0, 1] and label[0, 8].tolist() == [0] * 2 + [1] * 6 + [0] * 8
    assert image[0, :4].std() > 0, "a frame has noise"
    assert torch.equal(image, add_borders(0.5 + 0.4 * mask, draw)), "the noise belongs to the draw"


def test_draws_keep_their_limits() -> None:
    draws = [draw_borders(np.random.RandomState(seed), largest=0.3, level=0.02) for seed in range(50)]
    margins = np.array([draw.margins for draw in draws])
    assert margins.min() == 0 and 0.25 < margins.max() <= 0.3
    assert max(draw.level for draw in draws) <= 0.02
    assert 0.3 < (margins > 0).mean() < 0.7


def test_the_probability_and_the_limit_are_checked() -> None:
    image = {"image": torch.ones(1, 8, 8)}
    never = RandBordersd("image", prob=0.0)
    assert never(image)["image"] is image["image"]
    with pytest.raises(ValueError, match="largest must be in"):
        RandBordersd("image", largest=0.6)
