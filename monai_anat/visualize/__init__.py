"""Arrays to matplotlib figures; nothing here shows or saves one."""

from .attributions import draw_attributions
from .calibration import draw_calibration
from .correspondences import draw_correspondence
from .crops import draw_overlapping_crops
from .curves import draw_curves
from .embedding_map import draw_embedding_map
from .figures import ACCENT, PALETTE, as_gray, encode_png, picture_panels, rasterize, show_gray
from .intervals import draw_intervals
from .label_curves import draw_label_curves
from .segmentations import draw_segmentations
from .views import draw_contact_sheet, draw_restorations, tile_views

__all__ = [
    "ACCENT",
    "PALETTE",
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
    "rasterize",
    "show_gray",
    "tile_views",
]
