"""Which way up a picture is: what an affine says about rows and columns, and the affine that says rows first.

MONAI's world is RAS+: x grows to the patient's right, y to the front, z to the head. A two-dimensional picture has no
patient axes; tools write its columns along -x and its rows along -y (ITK, DICOM converters), or write no orientation at
all (Pillow, ``nibabel.Nifti1Image(array, numpy.eye(4))``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Turn",
    "apply_turn",
    "check_order",
    "columns_affine",
    "picture_affine",
    "turn_of",
    "without_guess",
]

_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Turn:
    """How to turn an array of two axes into rows and columns: transpose first, then flip.

    Attributes:
        transpose: the first axis runs along the columns.
        flip_rows: the transposed array is upside down.
        flip_columns: the transposed array is mirrored.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False


def turn_of(affine: NDArray[np.floating]) -> Turn:
    """Read off an affine how to turn an array into rows (head to foot) and columns (patient's right to left).

    An affine without a flip, rotation or shift carries no orientation; the array is then in MONAI's order, columns
    first, unflipped. An in-plane pair of axes x and y is read as ITK writes a picture: columns along -x, rows along -y.
    A coronal pair x and z, and a sagittal pair y and z, are turned head up, the patient's left at the right, or facing
    left.

    Args:
        affine: (4, 4), (4, 3) or (3, 3); columns are the array's two axes, and the shift.

    >>> turn_of(np.diag([-0.2, -0.2, 1, 1])), turn_of(np.eye(4)) == turn_of(np.diag([-1, -1, 1, 1]))
    (Turn(transpose=True, flip_rows=False, flip_columns=False), True)
    >>> turn_of(picture_affine((0.2, 0.2)))
    Turn(transpose=False, flip_rows=False, flip_columns=False)
    """
    matrix = np.asarray(affine, dtype=np.float64)
    axes = matrix[:-1, :2]
    norms = np.linalg.norm(axes, axis=0)
    if not np.isfinite(matrix).all() or (norms < 1e-9).any():
        return Turn(transpose=True)
    world = [int(np.argmax(np.abs(axes[:, a]))) for a in range(2)]
    if world[0] == world[1]:
        return Turn(transpose=True)
    sign = [float(np.sign(axes[world[a], a])) for a in range(2)]
    aligned = all(abs(axes[world[a], a]) > (1 - _TOLERANCE) * norms[a] for a in range(2))
    if aligned and min(sign) > 0 and not matrix[:-1, -1].any() and set(world) == {0, 1}:
        return Turn(transpose=True)
    column_world = min(world)
    transpose = world[0] == column_world
    column, row = (0, 1) if transpose else (1, 0)
    return Turn(transpose, flip_rows=sign[row] > 0, flip_columns=sign[column] > 0)


def apply_turn(values: NDArray[np.generic], turn: Turn) -> NDArray[np.generic]:
    """Turn an array (A, B) into rows and columns (H, W).

    Args:
        values: the array.
        turn: what ``turn_of`` found.

    >>> apply_turn(np.array([[1, 2, 3], [4, 5, 6]]), Turn(transpose=True, flip_rows=True)).tolist()
    [[3, 6], [2, 5], [1, 4]]
    """
    values = values.T if turn.transpose else values
    values = values[::-1] if turn.flip_rows else values
    return values[:, ::-1] if turn.flip_columns else values


def check_order(order: str) -> None:
    """Refuse an unknown axis order.

    Args:
        order: ``rows`` for (H, W), ``columns`` for MONAI's (W, H).

    Raises:
        ValueError: if it is neither.

    >>> check_order("rows")
    """
    if order not in ("rows", "columns"):
        raise ValueError(f"order must be 'rows' or 'columns', got {order!r}")


def columns_affine(spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Return the affine (4, 4) of an upright image with the column axis first, the axis order of MONAI and ITK.

    Args:
        spacing: distance of pixel centers (row, column).

    >>> columns_affine((0.3, 0.2))[:2, :2].tolist()
    [[-0.2, 0.0], [0.0, -0.3]]
    """
    return np.diag([-spacing[1], -spacing[0], 1.0, 1.0])


def picture_affine(spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Return the affine (4, 4) of an array of rows and columns, so that every tool that heeds affines shows it upright.

    Args:
        spacing: distance of pixel centers (row, column).

    >>> picture_affine((0.3, 0.2))[:2, :2].tolist()
    [[0.0, -0.2], [-0.3, 0.0]]
    """
    affine = np.diag([0.0, 0.0, 1.0, 1.0])
    affine[0, 1], affine[1, 0] = -spacing[1], -spacing[0]
    return affine


def without_guess(affine: ArrayLike, *codes: Any) -> NDArray[np.float64]:
    """Take off the flip and shift that nibabel makes up for a NIfTI file that names no coordinates.

    Args:
        affine: as nibabel, or MONAI from it, gives it.
        codes: ``qform_code`` and ``sform_code`` of the header; None where the file is of another kind.

    Returns:
        The affine, of spacing alone where every code is 0.

    >>> without_guess(np.array([[-2.0, 0, 9], [0, 2, -9], [0, 0, 1]]), 0, 0)[0]
    array([2., 0., 0.])
    """
    whole = np.asarray(affine, dtype=np.float64)
    unsaid = all(code is not None and int(np.asarray(code)) == 0 for code in codes)
    return np.diag(np.abs(np.diag(whole))) if unsaid else whole
