"""Arrays to matplotlib figures; nothing here shows or saves one."""

from .correspondences import draw_correspondence
from .crops import draw_overlapping_crops
from .curves import draw_curves
from .figures import ACCENT, PALETTE, as_gray, encode_png, picture_panels, rasterize, show_gray
from .segmentations import draw_segmentations
from .views import draw_contact_sheet, draw_restorations, tile_views

__all__ = [
    "ACCENT",
    "PALETTE",
    "as_gray",
    "draw_contact_sheet",
    "draw_correspondence",
    "draw_curves",
    "draw_overlapping_crops",
    "draw_restorations",
    "draw_segmentations",
    "encode_png",
    "picture_panels",
    "rasterize",
    "show_gray",
    "tile_views",
]
