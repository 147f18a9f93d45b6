from __future__ import annotations

import torch
from monai.data import MetaTensor

from monai_anat.data import FinishScoresd


def test_scores_are_metatensors_and_their_image_has_no_grid_to_be_resized_to() -> None:
    image = MetaTensor(torch.zeros(1, 4, 4), meta={"spatial_shape": (9, 7), "filename_or_obj": "a.png"})
    item = FinishScoresd("pred")({"image": image, "pred": torch.tensor([0.2, 0.8])})
    assert isinstance(item["pred"], MetaTensor) and item["pred"].shape == (2,)
    assert "spatial_shape" not in item["image"].meta and item["image"].meta["filename_or_obj"] == "a.png"
    assert image.meta["spatial_shape"] == (9, 7), "the input is not changed"
    assert "image" not in FinishScoresd("pred")({"pred": torch.zeros(2)})
