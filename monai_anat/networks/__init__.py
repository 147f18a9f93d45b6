"""Backbones, heads, decoders, and loading of published weights."""

from monai_anat.networks.backbones.adapters import as_backbone
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.backbones.convnext import ConvNeXtBackbone
from monai_anat.networks.backbones.gates import ContextGate, GatedBackbone
from monai_anat.networks.backbones.resnet import ResNetBackbone
from monai_anat.networks.backbones.swin import SwinBackbone
from monai_anat.networks.backbones.vit import ViTBackbone
from monai_anat.networks.heads.classifier import EncoderClassifier
from monai_anat.networks.heads.decoders import EncoderDecoder, UPerNetDecoder
from monai_anat.networks.heads.global_batch_norm import GlobalBatchNorm
from monai_anat.networks.heads.projection import ProjectionHead
from monai_anat.networks.heads.unet import BackboneUNet
from monai_anat.networks.heads.visual_tokenizer import VisualTokenizer
from monai_anat.networks.pretrained.bundle_models import (
    find_encoder_record,
    find_models,
    publish_model,
    recorded_backbone,
)
from monai_anat.networks.pretrained.records import (
    EncoderRecord,
    load_encoder,
    read_encoder_record,
    save_encoder,
    save_heads,
)
from monai_anat.networks.pretrained.weights import LoadReport, initialize_from, load_backbone

__all__ = [
    "Backbone",
    "BackboneUNet",
    "ContextGate",
    "ConvNeXtBackbone",
    "EncoderClassifier",
    "EncoderDecoder",
    "EncoderRecord",
    "GatedBackbone",
    "GlobalBatchNorm",
    "LoadReport",
    "ProjectionHead",
    "ResNetBackbone",
    "SwinBackbone",
    "UPerNetDecoder",
    "ViTBackbone",
    "VisualTokenizer",
    "as_backbone",
    "find_encoder_record",
    "find_models",
    "initialize_from",
    "load_backbone",
    "load_encoder",
    "publish_model",
    "read_encoder_record",
    "recorded_backbone",
    "save_encoder",
    "save_heads",
]
