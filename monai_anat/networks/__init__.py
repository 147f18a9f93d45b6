"""Backbones under one contract, heads, decoders, and loading of published weights."""

from monai_anat.networks.adapters import AdaptedBackbone, as_backbone
from monai_anat.networks.backbone import Backbone, to_tokens
from monai_anat.networks.checkpoints import read_checkpoint
from monai_anat.networks.classifier import EncoderClassifier
from monai_anat.networks.context_decoder import ContextDecoder
from monai_anat.networks.convnext import ConvNeXtBackbone
from monai_anat.networks.decoders import EncoderDecoder, ResidualUNetDecoder, UPerNetDecoder
from monai_anat.networks.expander import ExpanderHead
from monai_anat.networks.fusion import FusionHead, pool_resized
from monai_anat.networks.gates import ContextGate, GatedBackbone
from monai_anat.networks.heads import OrderHead, ProjectionHead, RestorationHead
from monai_anat.networks.joint_batch_norm import JointBatchNorm
from monai_anat.networks.key_maps import FAMILIES
from monai_anat.networks.mask_token import MaskToken
from monai_anat.networks.matching_heads import DenseHead, DownsamplingHead, UpsamplingHead, masked_mean
from monai_anat.networks.part_whole_heads import CompositionHead, DecompositionHead
from monai_anat.networks.positions import sincos_positions
from monai_anat.networks.prenorm_block import PreNormBlock
from monai_anat.networks.prototype_head import PrototypeHead
from monai_anat.networks.quantizer import JointQuantizer, nearest_code
from monai_anat.networks.records import (
    EncoderRecord,
    load_encoder,
    load_heads,
    read_encoder_record,
    save_encoder,
    save_heads,
)
from monai_anat.networks.resnet import ResNetBackbone
from monai_anat.networks.stems import Normalization
from monai_anat.networks.swin import SwinBackbone
from monai_anat.networks.unet import BackboneUNet
from monai_anat.networks.visual_tokenizer import VisualTokenizer
from monai_anat.networks.vit import ViTBackbone
from monai_anat.networks.weights import LoadReport, load_backbone, start_from

__all__ = [
    "FAMILIES",
    "AdaptedBackbone",
    "Backbone",
    "BackboneUNet",
    "CompositionHead",
    "ContextDecoder",
    "ContextGate",
    "ConvNeXtBackbone",
    "DecompositionHead",
    "DenseHead",
    "DownsamplingHead",
    "EncoderClassifier",
    "EncoderDecoder",
    "EncoderRecord",
    "ExpanderHead",
    "FusionHead",
    "GatedBackbone",
    "JointBatchNorm",
    "JointQuantizer",
    "LoadReport",
    "MaskToken",
    "Normalization",
    "OrderHead",
    "PreNormBlock",
    "ProjectionHead",
    "PrototypeHead",
    "ResNetBackbone",
    "ResidualUNetDecoder",
    "RestorationHead",
    "SwinBackbone",
    "UPerNetDecoder",
    "UpsamplingHead",
    "ViTBackbone",
    "VisualTokenizer",
    "as_backbone",
    "load_backbone",
    "load_encoder",
    "load_heads",
    "masked_mean",
    "nearest_code",
    "pool_resized",
    "read_checkpoint",
    "read_encoder_record",
    "save_encoder",
    "save_heads",
    "sincos_positions",
    "start_from",
    "to_tokens",
]
