"""Adam's published weights."""

from __future__ import annotations

from monai_anat.networks.pretrained.family import NON_COMMERCIAL, Family
from monai_anat.networks.pretrained.normalizations import IMAGENET

__all__ = ["ADAM"]

ADAM = Family(
    name="adam",
    origin="Adam (arXiv 2309.15358)",
    # MoCo's layout, except that MoCo keeps no best loss; the loader lists plain numbers as "number/NAME"
    marks=(r"(?:number/)?best_loss$", r"(?:state_dict/)?(?:module\.)*encoder_[qk]\."),
    branches={"student": ("state_dict", ""), "teacher": ("state_dict",)},
    markers={"student": ("encoder_q.",), "teacher": ("encoder_k.",)},
    drop=(r"fc\..*",),
    normalization=IMAGENET,
    terms=NON_COMMERCIAL,
)
