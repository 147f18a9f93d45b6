"""Transforms for 2D and 3D images: grid crops with known correspondence, patch shuffling, distortions."""

from monai_anat.transforms.anatomy_cells import RandAnatomyCell, RandAnatomyCelld
from monai_anat.transforms.appearance import Appearance, RandAppearance, RandAppearanced
from monai_anat.transforms.borders import CropDarkBordersd, RestoreBordersd
from monai_anat.transforms.distortions import (
    RandBezierIntensity,
    RandCutSwap,
    RandDistort,
    RandDistortOne,
    RandInPaint,
    RandLocalPixelShuffle,
    RandOutPaint,
)
from monai_anat.transforms.distortions_dictionary import (
    RandBezierIntensityd,
    RandCutSwapd,
    RandDistortd,
    RandDistortOned,
    RandInPaintd,
    RandLocalPixelShuffled,
    RandOutPaintd,
)
from monai_anat.transforms.elastic import RandElastic
from monai_anat.transforms.geometry import match_cells, split_cells
from monai_anat.transforms.grid_crops import OverlappingGridCrops, RandOverlappingGridCropsd
from monai_anat.transforms.patch_shuffle import RandShufflePatchesd, RestorePatches, RestorePatchesd, ShufflePatches
from monai_anat.transforms.random_borders import RandBordersd
from monai_anat.transforms.resized_crops import RandResizedCrop, RandResizedCropd, resized_crop

__all__ = [
    "Appearance",
    "CropDarkBordersd",
    "OverlappingGridCrops",
    "RandAnatomyCell",
    "RandAnatomyCelld",
    "RandAppearance",
    "RandAppearanced",
    "RandBezierIntensity",
    "RandBezierIntensityd",
    "RandBordersd",
    "RandCutSwap",
    "RandCutSwapd",
    "RandDistort",
    "RandDistortOne",
    "RandDistortOned",
    "RandDistortd",
    "RandElastic",
    "RandInPaint",
    "RandInPaintd",
    "RandLocalPixelShuffle",
    "RandLocalPixelShuffled",
    "RandOutPaint",
    "RandOutPaintd",
    "RandOverlappingGridCropsd",
    "RandResizedCrop",
    "RandResizedCropd",
    "RandShufflePatchesd",
    "RestoreBordersd",
    "RestorePatches",
    "RestorePatchesd",
    "ShufflePatches",
    "match_cells",
    "resized_crop",
    "split_cells",
]
