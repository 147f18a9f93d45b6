"""Every network class of the package is scripted by ``torch.jit.script`` and gives the eager outputs."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from monai_anat import networks
from monai_anat.networks import (
    Backbone,
    BackboneUNet,
    ContextGate,
    EncoderClassifier,
    EncoderDecoder,
    GlobalBatchNorm,
    ProjectionHead,
    ResNetBackbone,
    SwinBackbone,
    UPerNetDecoder,
    VisualTokenizer,
    ViTBackbone,
)
from monai_anat.networks.backbones.drop_path import StochasticDepth
from monai_anat.networks.backbones.mask_token import MaskToken
from monai_anat.networks.backbones.prenorm_block import PreNormBlock
from monai_anat.networks.backbones.resnet import GrayExpansion
from monai_anat.networks.heads.context_decoder import ContextDecoder
from monai_anat.networks.heads.decoders import ResidualUNetDecoder
from monai_anat.networks.heads.expander import ExpanderHead
from monai_anat.networks.heads.fusion import FusionHead
from monai_anat.networks.heads.matching_heads import DenseHead, DownsamplingHead, UpsamplingHead
from monai_anat.networks.heads.order import OrderHead
from monai_anat.networks.heads.part_whole_heads import CompositionHead, DecompositionHead
from monai_anat.networks.heads.prototypes import PrototypeHead
from monai_anat.networks.heads.quantizer import JointQuantizer
from monai_anat.networks.heads.restoration import RestorationHead


def _swin(**changed: Any) -> SwinBackbone:
    return SwinBackbone(embed_dim=8, depths=(2, 1), num_heads=(1, 2), window_size=4, drop_path_rate=0.2, **changed)


def _segmenter(backbone: Backbone, **options: Any) -> EncoderDecoder:
    return EncoderDecoder(backbone, UPerNetDecoder(backbone.channels, 2, features=8, **options))


def _maps() -> list[torch.Tensor]:
    return [torch.randn(2, 8, 14, 14), torch.randn(2, 16, 7, 7)]


#: name -> (network, inputs); tests/contracts/test_backbones.py scripts the backbones themselves
CASES: dict[str, Any] = {
    "classifier": lambda: (EncoderClassifier(_swin(), 3, hidden=(6, 5)), (torch.randn(2, 1, 37, 50),)),
    "classifier, frozen": lambda: (EncoderClassifier(_swin(), 3, frozen=True), (torch.randn(2, 1, 32, 32),)),
    "segmenter": lambda: (_segmenter(_swin()), (torch.randn(2, 1, 37, 50),)),
    "segmenter, shared": lambda: (
        _segmenter(ResNetBackbone(depth=18), share_smoothing=True),
        (torch.randn(1, 1, 64, 64),),
    ),
    "segmenter, vit": lambda: (
        _segmenter(ViTBackbone(image_size=32, patch_size=8, embed_dim=8, depth=4, num_heads=2, class_token=True)),
        (torch.randn(2, 1, 37, 50),),
    ),
    "segmenter, residual": lambda: (
        EncoderDecoder(_swin(), ResidualUNetDecoder((8, 16), 2, strides=(4, 8))),
        (torch.randn(2, 1, 37, 50),),
    ),
    "u-net": lambda: (BackboneUNet(_swin(patch_size=2)), (torch.randn(2, 1, 32, 48),)),
    "expander": lambda: (ExpanderHead(8, 16, final_norm=True), (torch.randn(5, 8),)),
    "global batch norm": lambda: (GlobalBatchNorm(3), (torch.randn(5, 3, 2, 2),)),
    "projection": lambda: (ProjectionHead(8, 16), (torch.randn(5, 8),)),
    "order": lambda: (OrderHead(8, 9), (torch.randn(2, 9, 8),)),
    "restoration": lambda: (RestorationHead(8, 4), (torch.randn(2, 8, 5, 6),)),
    "restoration, 3D": lambda: (RestorationHead(8, 2, spatial_dims=3), (torch.randn(2, 8, 2, 3, 4),)),
    "prototypes": lambda: (
        PrototypeHead(8, 16, hidden_features=12, bottleneck_features=6),
        (torch.randn(5, 8),),
    ),
    "dense": lambda: (DenseHead(8), (torch.randn(2, 8, 4, 4),)),
    "up-sampling": lambda: (UpsamplingHead(8), (torch.randn(2, 8, 4, 4),)),
    "down-sampling": lambda: (DownsamplingHead(8), (torch.randn(2, 8, 4, 4),)),
    "composition": lambda: (CompositionHead(8), (torch.randn(2, 4, 8),)),
    "decomposition": lambda: (DecompositionHead(8), (torch.randn(2, 8),)),
    "context decoder": lambda: (
        ContextDecoder(16, (3, 3), depth=1, num_heads=2),
        (torch.randn(2, 4, 16), torch.tensor([[0, 1, 3, 4], [4, 5, 7, 8]])),
    ),
    "fusion": lambda: (
        FusionHead((8, 16), 32, fused_channels=12, fused_size=16, pooled_size=2),
        (_maps(),),
    ),
    "tokenizer": lambda: (
        VisualTokenizer(strides=(2, 2), channels=8, num_tokens=16, token_dim=4),
        (torch.rand(2, 1, 16, 16),),
    ),
    "quantizer": lambda: (JointQuantizer(2, num_embeddings=4, embedding_dim=3), (torch.rand(2, 3, 5, 5),)),
    "gate": lambda: (ContextGate(8), (torch.randn(2, 8, 5, 5),)),
    "block": lambda: (PreNormBlock(8, 2, drop_path_rate=0.1), (torch.randn(2, 9, 8),)),
    "stochastic depth": lambda: (StochasticDepth(0.3), (torch.randn(2, 9),)),
    "gray expansion": lambda: (GrayExpansion(2), (torch.randn(2, 1, 4, 4),)),
    "mask token": lambda: (
        MaskToken(3),
        (torch.randn(1, 4, 4, 3), torch.tensor([[True, False, False, True]]), [2, 2]),
    ),
    "upernet": lambda: (UPerNetDecoder((8, 16), 2, features=8), (_maps(),)),
    "residual decoder": lambda: (ResidualUNetDecoder((8, 16), 2, strides=(4, 8)), (_maps(),)),
}


@pytest.mark.parametrize("name", CASES)
def test_scripted_outputs_equal_eager(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, inputs = CASES[name]()
    network.eval()
    torch.jit.script(network).save(tmp_path / "network.ts")
    scripted = torch.jit.load(tmp_path / "network.ts")
    with torch.no_grad():
        got, expected = scripted(*inputs), network(*inputs)
    for one, other in zip(*((out if isinstance(out, tuple) else (out,)) for out in (got, expected)), strict=True):
        assert torch.equal(one, other)


def test_every_network_has_a_case() -> None:
    root = Path(networks.__file__).parent
    found: set[type] = set()
    for folder in ("backbones", "heads"):
        for path in (root / folder).glob("[a-z]*.py"):
            module = importlib.import_module(f"monai_anat.networks.{folder}.{path.stem}")
            classes = (getattr(module, name) for name in module.__all__)
            found |= {cls for cls in classes if inspect.isclass(cls) and issubclass(cls, nn.Module)}
    tested = {type(CASES[name]()[0]) for name in CASES}
    assert {cls for cls in found - tested if not issubclass(cls, Backbone)} == set()
