"""Self-supervised pre-training methods and their views transforms; one file per method."""

from monai_anat.methods.ace import ACEMethod, RandACEViewsd
from monai_anat.methods.adam import AdamMethod, RandAdamViewsd
from monai_anat.methods.adam_v2 import AdamV2Method, RandAdamV2Viewsd
from monai_anat.methods.barlow_twins import BarlowTwinsMethod
from monai_anat.methods.base import SSLMethod, TeacherStudentMethod
from monai_anat.methods.beit import BEiTMethod, RandBEiTViewsd
from monai_anat.methods.contrast_views import RandContrastViewsd, asymmetric_appearances
from monai_anat.methods.dino import DINOMethod, RandDINOViewsd
from monai_anat.methods.dira import DiRAMethod, RandDiRAViewsd
from monai_anat.methods.lamps import LampsMethod
from monai_anat.methods.lamps_views import RandLampsViewsd
from monai_anat.methods.mae import MAEMethod, RandMAEViewsd
from monai_anat.methods.masked_views import RandMaskedViewsd
from monai_anat.methods.mlvicx import MLVICXMethod, RandMLVICXViewsd
from monai_anat.methods.moco import MoCoV2Method
from monai_anat.methods.moco_v3 import MoCoV3Method
from monai_anat.methods.peac import PEACMethod, RandPEACViewsd
from monai_anat.methods.place import PLACEMethod
from monai_anat.methods.place_views import RandPLACEViewsd
from monai_anat.methods.popar import POPARMethod, RandPOPARViewsd
from monai_anat.methods.simmim import SimMIMMethod
from monai_anat.methods.simsiam import SimSiamMethod
from monai_anat.methods.vicreg import VICRegMethod
from monai_anat.methods.views import RandViewsd

__all__ = [
    "ACEMethod",
    "AdamMethod",
    "AdamV2Method",
    "BEiTMethod",
    "BarlowTwinsMethod",
    "DINOMethod",
    "DiRAMethod",
    "LampsMethod",
    "MAEMethod",
    "MLVICXMethod",
    "MoCoV2Method",
    "MoCoV3Method",
    "PEACMethod",
    "PLACEMethod",
    "POPARMethod",
    "RandACEViewsd",
    "RandAdamV2Viewsd",
    "RandAdamViewsd",
    "RandBEiTViewsd",
    "RandContrastViewsd",
    "RandDINOViewsd",
    "RandDiRAViewsd",
    "RandLampsViewsd",
    "RandMAEViewsd",
    "RandMLVICXViewsd",
    "RandMaskedViewsd",
    "RandPEACViewsd",
    "RandPLACEViewsd",
    "RandPOPARViewsd",
    "RandViewsd",
    "SSLMethod",
    "SimMIMMethod",
    "SimSiamMethod",
    "TeacherStudentMethod",
    "VICRegMethod",
    "asymmetric_appearances",
]
