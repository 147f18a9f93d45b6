"""``RadiographReader``: the reader of this package for MONAI's ``LoadImaged(reader=...)``."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple
from numpy.typing import NDArray

from monai_anat.data.reading.decoding import Decoded
from monai_anat.data.reading.orientation import check_order, columns_affine, picture_affine
from monai_anat.data.reading.radiograph import decode

__all__ = [
    "MARK",
    "RadiographReader",
]

#: key of the metadata by which later transforms know that gray values and orientation are settled
MARK = "radiograph"


def _keeps(record: logging.LogRecord) -> bool:
    """False for what MONAI logs whenever a ``LoadImage`` is made on a machine without nvImageCodec."""
    return not record.getMessage().startswith("nvImageCodec is not available; skipping")


logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").addFilter(_keeps)
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader: nvImageCodec decoder plugin did not register")


class RadiographReader(ImageReader):
    """Read radiographs for MONAI: rows and columns, air dark, bone bright, float32 in [0, 1].

    What ``read_radiograph`` does, in the form that ``LoadImaged`` wants. The array is (H, W), while MONAI's own
    readers transpose; its affine says so, and tools that heed affines show it upright. Metadata hold how gray
    values came about and the spacing, nothing of the patient (``LoadImage`` itself adds the file name).

    Args:
        label: read a mask: stored values are kept, orientation is handled as for an image.
        frame: which frame of files that have several; None refuses them.
        order: axis order of the array. ``rows`` gives (H, W). ``columns`` gives (W, H), the order of MONAI's own
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

    def __init__(self, label: bool = False, frame: int | None = None, order: str = "rows") -> None:
        super().__init__()
        check_order(order)
        self.label, self.frame, self.order = label, frame, order

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Accept every name: files are told apart by their content."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[Decoded]:
        """Decode the files.

        Raises:
            RadiographError: names the file that cannot be read, and why.
        """
        return [decode(path, self.frame, label=self.label) for path in ensure_tuple(data)]

    def get_data(self, img: Sequence[Decoded] | Decoded) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the array (H, W), or (C, H, W) for several files, and its metadata; (W, H) in the order of columns.

        Raises:
            ValueError: several files of different sizes.
        """
        pictures = [img] if isinstance(img, Decoded) else list(img)
        first = pictures[0]
        if any(picture.pixels.shape != first.pixels.shape for picture in pictures):
            raise ValueError(
                "files that are stacked as channels must have one size, got "
                f"{[picture.pixels.shape for picture in pictures]}; give one file per item"
            )
        stacked = len(pictures) > 1
        values = np.stack([picture.pixels for picture in pictures]) if stacked else first.pixels
        spacing = first.spacing or (float(first.info.get("pixel_aspect", 1.0)), 1.0)
        affine = picture_affine(spacing)
        if self.order == "columns":
            values, affine = np.swapaxes(values, -1, -2), columns_affine(spacing)
        meta: dict[str, Any] = {
            "affine": affine,
            "original_affine": affine.copy(),
            "space": "RAS",
            "spatial_shape": np.asarray(values.shape[-2:]),
            "original_channel_dim": 0 if stacked else float("nan"),
            MARK: "mask" if self.label else str(first.info["mapping"]),
            "spacing_known": first.spacing is not None,
        }
        return values, meta
