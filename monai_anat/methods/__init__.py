"""Pre-training methods: one file each, with the networks, the loss terms and the views of its paper."""

from .ace import ACEMethod, ACEViewsd
from .adam import AdamMethod, AdamViewsd
from .adam_v2 import AdamV2Method, AdamV2Viewsd
from .barlow_twins import BarlowTwinsMethod
from .base import (
    SSLMethod,
    TeacherStudentMethod,
    check_view,
    mean_token,
    split_groups,
    token_grid,
    used_terms,
    uses_batch_statistics,
)
from .beit import BEiTMethod, BEiTViewsd
from .contrast_views import ContrastViewsd, ViewDraw, alter_view, asymmetric_appearances, check_area, cut_view
from .dino import DINOMethod, DINOViewsd
from .dira import DiRAMethod, DiRAViewsd
from .lamps import LampsMethod
from .lamps_views import LampsViewsd
from .mae import MAEMethod, MAEViewsd
from .masked_image import MaskedImageMethod
from .masked_views import MaskedViewsd
from .mlvicx import MLVICXMethod, MLVICXViewsd
from .moco import MoCoV2Method
from .moco_v3 import MoCoV3Method
from .momentum_contrast import MomentumContrastMethod
from .multi_crop import distill_views, embed_crops, embed_views
from .peac import PEACMethod, PEACViewsd
from .popar import Corruption, POPARMethod, POPARViewsd, corrupt, draw_corruption, order_of
from .simmim import SimMIMMethod
from .simsiam import SimSiamMethod
from .vicreg import VICRegMethod
from .views import MEAN, STD, RandViewsd

__all__ = [
    "MEAN",
    "STD",
    "ACEMethod",
    "ACEViewsd",
    "AdamMethod",
    "AdamV2Method",
    "AdamV2Viewsd",
    "AdamViewsd",
    "BEiTMethod",
    "BEiTViewsd",
    "BarlowTwinsMethod",
    "ContrastViewsd",
    "Corruption",
    "DINOMethod",
    "DINOViewsd",
    "DiRAMethod",
    "DiRAViewsd",
    "LampsMethod",
    "LampsViewsd",
    "MAEMethod",
    "MAEViewsd",
    "MLVICXMethod",
    "MLVICXViewsd",
    "MaskedImageMethod",
    "MaskedViewsd",
    "MoCoV2Method",
    "MoCoV3Method",
    "MomentumContrastMethod",
    "PEACMethod",
    "PEACViewsd",
    "POPARMethod",
    "POPARViewsd",
    "RandViewsd",
    "SSLMethod",
    "SimMIMMethod",
    "SimSiamMethod",
    "TeacherStudentMethod",
    "VICRegMethod",
    "ViewDraw",
    "alter_view",
    "asymmetric_appearances",
    "check_area",
    "check_view",
    "corrupt",
    "cut_view",
    "distill_views",
    "draw_corruption",
    "embed_crops",
    "embed_views",
    "mean_token",
    "order_of",
    "split_groups",
    "token_grid",
    "used_terms",
    "uses_batch_statistics",
]
