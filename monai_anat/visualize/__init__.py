"""Figures of arrays with matplotlib. The functions return figures and neither show nor save them."""

from monai_anat.visualize.attributions import draw_attributions
from monai_anat.visualize.calibration import draw_calibration
from monai_anat.visualize.correspondences import draw_correspondence
from monai_anat.visualize.crops import draw_overlapping_crops
from monai_anat.visualize.curves import draw_curves
from monai_anat.visualize.embedding_map import draw_embedding_map
from monai_anat.visualize.figures import as_gray, encode_png, picture_panels, show_gray
from monai_anat.visualize.intervals import draw_intervals
from monai_anat.visualize.label_curves import draw_label_curves
from monai_anat.visualize.segmentations import draw_segmentations
from monai_anat.visualize.views import draw_contact_sheet, draw_restorations

__all__ = [
    "as_gray",
    "draw_attributions",
    "draw_calibration",
    "draw_contact_sheet",
    "draw_correspondence",
    "draw_curves",
    "draw_embedding_map",
    "draw_intervals",
    "draw_label_curves",
    "draw_overlapping_crops",
    "draw_restorations",
    "draw_segmentations",
    "encode_png",
    "picture_panels",
    "show_gray",
]
