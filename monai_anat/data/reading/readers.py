"""``RadiographReader``: the reader of radiographs and masks for MONAI's ``LoadImaged(reader=...)``."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple
from numpy.typing import NDArray

from monai_anat.data.reading.decoded import Decoded
from monai_anat.data.reading.masks import read_mask
from monai_anat.data.reading.orientation import check_order, stored_affine, undo_turn
from monai_anat.data.reading.radiograph import decode

__all__ = [
    "AXIS_ORDER",
    "MARK",
    "PIXEL_SPACING",
    "STATES_ORIENTATION",
    "RadiographReader",
]

#: metadata key of arrays from this reader; its value is the mapping of gray values, or "mask"
MARK = "radiograph"
#: metadata key: axis order of the array, ``rows`` or ``columns``
AXIS_ORDER = "axis_order"
#: metadata key: whether the file states its orientation
STATES_ORIENTATION = "states_orientation"
#: metadata key: distance between pixel centers (row, column) of the upright picture in mm; NaN if unknown
PIXEL_SPACING = "pixel_spacing"


def _keeps(record: logging.LogRecord) -> bool:
    """Drop the record that MONAI logs for every ``LoadImage`` on a machine without nvImageCodec."""
    return not record.getMessage().startswith("nvImageCodec is not available; skipping")


logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").addFilter(_keeps)
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader: nvImageCodec decoder plugin did not register")


class RadiographReader(ImageReader):
    """Read radiographs and masks for MONAI: air dark, bone bright, float32 in [0, 1].

    Gray values are those of ``read_radiograph``. The array holds the stored picture in rows and columns (H, W), while
    MONAI's own readers transpose. The affine describes the turn that the file's header requests (EXIF,
    PatientOrientation, the affine of a volume). ``OrientRadiographd`` applies this turn to the image and to its mask,
    and inverts it. The metadata hold the mapping of gray values and the spacing, and nothing about the patient
    (``LoadImage`` itself adds the file name).

    Args:
        label: read masks. Values are returned as stored, see ``read_mask``. Several files are joined to one mask of
            class numbers.
        frame: frame to read from files with several. With None, such files are refused.
        mask_values: stored value -> class number of masks, such as ``{255: 1}``.
        order: axis order of the array. ``rows`` returns (H, W). ``columns`` returns (W, H), the order of MONAI's own
            readers, which MONAI's writers and the clients of a bundle expect of an inverted mask.

    Raises:
        ValueError: if ``order`` is neither ``rows`` nor ``columns``.

    >>> from monai.transforms import LoadImage
    >>> from monai_anat.data import segmentation_datalist
    >>> item = segmentation_datalist("test")[0]
    >>> image = LoadImage(reader=RadiographReader(), image_only=True)(item["image"])
    >>> label = LoadImage(reader=RadiographReader(label=True), image_only=True)(item["label"])
    >>> image.shape == label.shape, float(label.max())
    (True, 2.0)
    """

    def __init__(
        self,
        label: bool = False,
        frame: int | None = None,
        mask_values: Mapping[Any, int] | None = None,
        order: str = "rows",
    ) -> None:
        super().__init__()
        check_order(order)
        self.label, self.frame, self.mask_values, self.order = label, frame, mask_values, order

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Accept every name, because files are recognized by their content."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[Decoded]:
        """Decode the files of one item.

        Raises:
            RadiographError: if a file cannot be read. The message names the file and the cause.
        """
        paths = ensure_tuple(data)
        if self.label:
            return [read_mask(paths, values=self.mask_values, frame=self.frame)]
        return [decode(path, self.frame) for path in paths]

    def get_data(self, img: Sequence[Decoded] | Decoded) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the stored picture (H, W), or (C, H, W) for several images, and its metadata.

        With the order of columns, the last two axes are exchanged.

        Raises:
            ValueError: if several images differ in size or orientation.
        """
        pictures = [img] if isinstance(img, Decoded) else list(img)
        first = pictures[0]
        if any((picture.pixels.shape, picture.turn) != (first.pixels.shape, first.turn) for picture in pictures):
            raise ValueError(
                "files that are stacked as channels must have one size and orientation, got "
                f"{[picture.pixels.shape for picture in pictures]}; give one file per item"
            )
        stacked = len(pictures) > 1
        stored = [np.ascontiguousarray(undo_turn(picture.pixels, picture.turn)) for picture in pictures]
        values = np.stack(stored) if stacked else stored[0]
        spacing = first.spacing or (float(first.info.get("pixel_aspect", 1.0)), 1.0)
        affine = stored_affine(spacing, first.stored, self.order)
        if self.order == "columns":
            values = np.swapaxes(values, -1, -2)
            affine = affine if first.file_affine is None else first.file_affine
        meta: dict[str, Any] = {
            "affine": affine,
            "original_affine": affine.copy(),
            "space": "RAS",
            "spatial_shape": np.asarray(values.shape[-2:]),
            "original_channel_dim": 0 if stacked else float("nan"),
            MARK: "mask" if self.label else str(first.info["mapping"]),
            AXIS_ORDER: self.order,
            STATES_ORIENTATION: first.states_orientation,
            PIXEL_SPACING: np.asarray(first.spacing or (np.nan, np.nan), dtype=np.float64),
            "spacing_known": first.spacing is not None,
        }
        return values, meta
