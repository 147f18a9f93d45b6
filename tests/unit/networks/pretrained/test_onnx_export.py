"""ONNX files of every backbone's classifier and segmenter, at batch sizes other than the exported one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from monai_anat.networks import (
    Backbone,
    ConvNeXtBackbone,
    EncoderClassifier,
    EncoderDecoder,
    GatedBackbone,
    ResNetBackbone,
    SwinBackbone,
    UPerNetDecoder,
    ViTBackbone,
)
from monai_anat.networks.pretrained.onnx_export import export_onnx

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

BACKBONES: dict[str, Any] = {
    "swin": lambda: SwinBackbone(embed_dim=8, depths=(2, 1), num_heads=(1, 2), window_size=4),
    "vit": lambda: ViTBackbone(image_size=32, patch_size=8, embed_dim=12, depth=2, num_heads=2, class_token=True),
    "convnext": lambda: ConvNeXtBackbone(depths=(1, 1), dims=(8, 16)),
    "resnet": lambda: ResNetBackbone(depth=18),
    "gated": lambda: GatedBackbone(backbone=ResNetBackbone(depth=18)),
}


def classifier(backbone: Backbone) -> nn.Module:
    return EncoderClassifier(backbone, 3)


def segmenter(backbone: Backbone) -> nn.Module:
    return EncoderDecoder(backbone, UPerNetDecoder(backbone.channels, 2, features=8, pool_bins=(1, 2)))


@pytest.mark.filterwarnings("ignore")  # the exporter's own
@pytest.mark.parametrize("build", [classifier, segmenter])
@pytest.mark.parametrize("name", BACKBONES)
def test_any_batch_size(name: str, build: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(BACKBONES[name]()).train()
    path = export_onnx(network, tmp_path / "network.onnx", (40, 32))
    assert network.training
    image = torch.rand(5, 1, 40, 32)
    (output,) = onnxruntime.InferenceSession(path).run(None, {"image": image.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(output), network.eval()(image), rtol=1e-4, atol=1e-5)


class Drifting(nn.Module):
    """Outputs change from call to call, so that the file cannot agree."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_a_file_that_differs_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"differs from PyTorch by .* at batch size [13]"):
        export_onnx(Drifting(), tmp_path / "network.onnx", (4, 4))
    assert list(tmp_path.iterdir()) == []
