from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from monai_anat.data.reading.scaling import ScaleRadiographd

pytestmark = [
    pytest.mark.filterwarnings("ignore:builtin type .*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:PydicomReader:UserWarning"),
]


def test_scaling_skips_scaled_images_and_inverts_monochrome1(tmp_path: Path, make_dicom: Callable[..., Path]) -> None:
    scale = ScaleRadiographd("image")
    ours = MetaTensor(torch.full((1, 2, 2), 0.3), meta={"radiograph": "x"})
    assert scale({"image": ours})["image"] is ours
    values = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
    for kind, sign in (("MONOCHROME1", -1), ("MONOCHROME2", 1)):
        path = make_dicom(tmp_path / f"{kind}.dcm", values, PhotometricInterpretation=kind)
        for reader in ("PydicomReader", "ITKReader"):
            out = scale({"image": LoadImage(reader, image_only=True)(path)[None]})["image"]
            assert float(out.min()) >= 0 and float(out.max()) <= 1
            slope = float(out.flatten()[-1] - out.flatten()[0])
            assert slope * sign > 0, (kind, reader)
    named = MetaTensor(torch.tensor([[[0.0, 255.0]]]), meta={"PhotometricInterpretation": "MONOCHROME1"})
    assert scale({"image": named})["image"].flatten().tolist() == [1, 0]
    assert scale({"image": torch.tensor([[[0, 255]]], dtype=torch.uint8)})["image"].flatten().tolist() == [0, 1]
