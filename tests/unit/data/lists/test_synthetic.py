from __future__ import annotations

import numpy as np

from monai_anat.data import synthetic_radiograph


def test_deterministic_varied_and_chest_like() -> None:
    first, labels = synthetic_radiograph((60, 50), seed=1)
    again, _ = synthetic_radiograph((60, 50), seed=1)
    other, _ = synthetic_radiograph((60, 50), seed=2)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert first.shape == labels.shape == (60, 50)
    assert first.dtype == np.float32 and 0 <= first.min() <= first.max() <= 1
    assert np.nonzero(labels == 1)[1].mean() < np.nonzero(labels == 2)[1].mean()
    # the heart lies on the patient's left, at the right of the picture
    assert first[35:45, 30:35].mean() > first[35:45, 15:20].mean()
