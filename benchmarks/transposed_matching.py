"""PEAC with transposed matching, as in the released code: rows and columns are exchanged. For the ablation only."""

from __future__ import annotations

import torch

from monai_anat.keys import CORRESPONDENCE
from monai_anat.methods import RandPEACViewsd
from monai_anat.transforms import match_cells
from monai_anat.transforms.geometry import per_axis

__all__ = ["RandTransposedPEACViewsd"]


class RandTransposedPEACViewsd(RandPEACViewsd):
    """Views with the correspondence of transposed offsets, which is correct for one pair of cells in seven."""

    def views(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Create the views of PEAC and exchange the axes of the offset between them."""
        sample = super().views(pixels)
        correspondence = sample[CORRESPONDENCE]
        matched = torch.nonzero(correspondence >= 0)
        if len(matched) == 0:
            return sample
        rows, columns = per_axis(self.grid_size, 2, "grid_size")
        first = int(matched[0])
        other = int(correspondence[first])
        down, right = other // columns - first // columns, other % columns - first % columns
        # view 2 starts `down` cells above and `right` cells left of view 1; the axes are exchanged here
        sample[CORRESPONDENCE] = match_cells((right, down), (0, 0), (rows, columns))
        return sample
