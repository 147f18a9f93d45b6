"""Backbones under one contract, heads, decoders, and loading of published weights."""

from monai_anat.networks.backbone import Backbone, to_tokens
from monai_anat.networks.heads import OrderHead, ProjectionHead, RestorationHead
from monai_anat.networks.swin import SwinBackbone

__all__ = [
    "Backbone",
    "OrderHead",
    "ProjectionHead",
    "RestorationHead",
    "SwinBackbone",
    "to_tokens",
]
