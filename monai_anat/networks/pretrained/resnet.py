"""ResNet weights with torchvision's names."""

from __future__ import annotations

from monai_anat.networks.pretrained.family import OUTER, Family
from monai_anat.networks.pretrained.normalizations import IMAGENET

__all__ = ["TORCHVISION_RESNET"]

TORCHVISION_RESNET = Family(
    name="torchvision_resnet",
    origin="a ResNet with torchvision's names, usually trained on ImageNet",
    marks=(),
    anchor="layer1.0.conv1.weight",
    branches={"student": OUTER},
    drop=(r"fc\..*",),
    normalization=IMAGENET,
    assumed=True,
)
