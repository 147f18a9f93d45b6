"""Transforms for 2D and 3D images: grid crops with known correspondence, patch shuffling, distortions."""

from monai_anat.transforms.anatomy_cells import RandAnatomyCell, RandAnatomyCelld
from monai_anat.transforms.appearance import (
    Appearance,
    RandAppearance,
    RandAppearanced,
    adjust_brightness_contrast,
    gaussian_blur,
    solarize,
)
from monai_anat.transforms.bezier import apply_bezier
from monai_anat.transforms.borders import CropDarkBordersd, RestoreBordersd, dark_border_box
from monai_anat.transforms.cell_matches import soft_match_targets
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
from monai_anat.transforms.geometry import join_cells, match_cells, split_cells
from monai_anat.transforms.grid_crops import OverlappingGridCrops, RandOverlappingGridCropsd
from monai_anat.transforms.local_contrast import equalize_regions, sharpen
from monai_anat.transforms.patch_shuffle import (
    RandShufflePatchesd,
    RestorePatches,
    RestorePatchesd,
    ShufflePatches,
    restore_patches,
    shuffle_patches,
)
from monai_anat.transforms.random_borders import RandBordersd
from monai_anat.transforms.resized_crops import RandResizedCrop, RandResizedCropd, resized_crop
from monai_anat.transforms.ten_crop import ten_crops

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
    "adjust_brightness_contrast",
    "apply_bezier",
    "dark_border_box",
    "equalize_regions",
    "gaussian_blur",
    "join_cells",
    "match_cells",
    "resized_crop",
    "restore_patches",
    "sharpen",
    "shuffle_patches",
    "soft_match_targets",
    "solarize",
    "split_cells",
    "ten_crops",
]
