"""Construction of a backbone from its recorded name and arguments."""

from __future__ import annotations

import pytest

from monai_anat.networks import ResNetBackbone
from monai_anat.networks.backbones.registry import build_backbone


def test_a_backbone_is_built_from_its_own_name_and_arguments():
    backbone = ResNetBackbone(depth=18)
    again = build_backbone(type(backbone).__name__, backbone.config)
    assert isinstance(again, ResNetBackbone)
    assert again.config == backbone.config


def test_only_backbones_of_the_package_are_built():
    with pytest.raises(ValueError, match=r"the class .Popen., and only backbones of monai_anat\.networks are built"):
        build_backbone("Popen", {})
