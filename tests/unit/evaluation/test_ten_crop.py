"""Ten-crop inference."""

from __future__ import annotations

import pytest
import torch

from monai_anat.evaluation import TenCropInferer
from monai_anat.evaluation.ten_crop import average_crops
from monai_anat.transforms.ten_crop import ten_crops


@pytest.fixture
def logits():
    return torch.randn(10, 3, 4, generator=torch.Generator().manual_seed(0)) * 5


def test_probabilities_are_averaged(logits):
    torch.testing.assert_close(average_crops(logits).sigmoid(), logits.sigmoid().mean(0))
    got = average_crops(logits, exclusive=True).softmax(1)
    torch.testing.assert_close(got, logits.softmax(2).mean(0))


def test_logits_are_averaged_and_that_is_something_else(logits):
    assert torch.equal(average_crops(logits, "logit"), logits.mean(0))
    assert torch.equal(average_crops(logits, "logit", exclusive=True), logits.mean(0))
    assert (average_crops(logits).sigmoid() - logits.mean(0).sigmoid()).abs().max() > 0.05


def test_certain_crops_do_not_saturate():
    logits = torch.tensor([[[200.0, -200.0]], [[300.0, -100.0]]])
    got = average_crops(logits)
    assert got.isfinite().all()
    assert got[0, 0] > 200
    assert got[0, 1] == pytest.approx(-100.693, abs=1e-3)


@pytest.mark.parametrize("average", ["prob", "logit"])
def test_the_network_sees_every_crop_of_the_whole_batch(average):
    image = torch.rand(2, 1, 6, 7)
    seen = []

    def network(x):
        seen.append(x)
        return torch.stack([x.mean((1, 2, 3)), x[:, 0, 0, 0]], 1)

    got = TenCropInferer(4, average)(image, network)
    crops = ten_crops(image, 4)
    assert len(seen) == 10
    assert all(torch.equal(a, b) for a, b in zip(seen, crops, strict=True))
    expected = average_crops(torch.stack([network(crop) for crop in crops]), average)
    torch.testing.assert_close(got, expected)
    assert len(TenCropInferer(4, corners=False, mirror=False)(image, network)) == 2
    assert len(seen) == 21


def test_another_average_is_named():
    with pytest.raises(ValueError, match="average must be one of prob, logit, got 'max'"):
        TenCropInferer(4, "max")
    with pytest.raises(ValueError, match="average must be one of"):
        average_crops(torch.zeros(1, 1, 1), "max")
