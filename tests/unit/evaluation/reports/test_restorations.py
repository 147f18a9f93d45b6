"""Examples of restored views."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.evaluation import load_restorations, save_restorations
from monai_anat.methods import POPARMethod, RandPOPARViewsd
from monai_anat.networks import ViTBackbone


def method(**arguments) -> POPARMethod:
    torch.manual_seed(0)
    return POPARMethod(
        ViTBackbone(image_size=32, patch_size=8, embed_dim=8, depth=4, num_heads=2), image_size=32, **arguments
    )


def test_both_kinds_are_kept_with_what_the_network_makes_of_them(tmp_path) -> None:
    popar = method().train()
    images = [{"image": torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(number))} for number in range(3)]
    views = RandPOPARViewsd(grid_size=4, cell_size=8)
    path = save_restorations(tmp_path / "new" / "r.npz", popar, views, images, count=2)
    kept = load_restorations(path)
    assert kept["names"].tolist() == ["shuffled", "shuffled", "distorted", "distorted"]
    assert kept["inputs"].shape == kept["restored"].shape == kept["targets"].shape == (4, 1, 32, 32)
    popar.eval()
    with torch.no_grad():
        expected = popar.restoration_head(popar.backbone(torch.from_numpy(kept["inputs"]).float()))
    assert np.allclose(kept["restored"], expected.numpy(), atol=2e-2)
    order = [np.sort(kept[key][0].ravel()) for key in ("inputs", "targets")]
    assert np.allclose(*order, atol=1e-3), "a shuffled view holds the pixels of its target"
    again = load_restorations(save_restorations(tmp_path / "again.npz", popar.train(), views, images, count=2))
    assert all(np.array_equal(again[key], kept[key]) for key in kept)
    assert popar.training


def test_a_method_without_restoration_is_named(tmp_path) -> None:
    with pytest.raises(TypeError, match="must have a restoration_head, got POPARMethod"):
        save_restorations(tmp_path / "r.npz", method(restoration_weight=0.0), RandPOPARViewsd(), [])
