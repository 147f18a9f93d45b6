"""Figures of arrays with matplotlib. The functions return figures and neither show nor save them."""

from monai_anat.visualize.curves import draw_curves
from monai_anat.visualize.figures import encode_png, picture_panels, show_gray
from monai_anat.visualize.intervals import draw_intervals
from monai_anat.visualize.segmentations import draw_segmentations
from monai_anat.visualize.views import draw_restorations

__all__ = [
    "draw_curves",
    "draw_intervals",
    "draw_restorations",
    "draw_segmentations",
    "encode_png",
    "picture_panels",
    "show_gray",
]
