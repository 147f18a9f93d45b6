"""Orientation of two-dimensional images: affines, header orientation tags and the turns that make them upright.

MONAI's world coordinates are RAS+: x grows to the patient's right, y to the front, z to the head. Two-dimensional
images have no patient axes. Tools write their columns along -x and their rows along -y (ITK, DICOM converters), or
write no orientation at all (Pillow, ``nibabel.Nifti1Image(array, numpy.eye(4))``).

The *stored picture* of a file is the array of rows and columns that a reader without regard to orientation tags
returns. Its *turn* makes it upright. Masks and landmarks are drawn on the stored picture, so they take the same turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "UPRIGHT",
    "StoredPicture",
    "Turn",
    "apply_turn",
    "check_order",
    "columns_affine",
    "have_same_shape",
    "picture_affine",
    "states_orientation",
    "stored_affine",
    "turn_of",
    "turn_points",
    "undo_turn",
    "without_guess",
]

_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Turn:
    """One of the eight ways to turn an array of two axes: transpose first, then flip.

    Attributes:
        transpose: exchange the two axes.
        flip_rows: reverse the order of the rows after transposing.
        flip_columns: reverse the order of the columns after transposing.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def then(self, other: Turn) -> Turn:
        """Compose two turns: this one first, then ``other``.

        Args:
            other: the turn applied to the result of this one.

        >>> Turn(transpose=True).then(Turn(transpose=True, flip_rows=True))
        Turn(transpose=False, flip_rows=True, flip_columns=False)
        """
        rows, columns = self.flip_rows, self.flip_columns
        rows, columns = (columns, rows) if other.transpose else (rows, columns)
        return Turn(self.transpose != other.transpose, rows != other.flip_rows, columns != other.flip_columns)

    def shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the shape of a turned array.

        Args:
            shape: rows and columns before the turn.
        """
        return (shape[1], shape[0]) if self.transpose else shape


#: the turn of a picture that is stored upright
UPRIGHT = Turn()


@dataclass(frozen=True)
class StoredPicture:
    """Size of a stored picture and the turn that makes it upright.

    Attributes:
        shape: stored rows and columns.
        turn: from the stored picture to the upright one.
    """

    shape: tuple[int, int]
    turn: Turn = UPRIGHT

    def turn_for(self, shape: tuple[int, int]) -> Turn | None:
        """Choose the turn of a mask that belongs to this picture and states no orientation of its own.

        A mask with the shape of the stored picture takes the picture's turn. A mask with the shape of the upright
        picture was drawn after turning and stays as it is.

        Args:
            shape: rows and columns of the mask, at the picture's resolution or another one.

        Returns:
            The turn, or None if the shapes cannot belong together.

        >>> StoredPicture((4, 6), Turn(transpose=True)).turn_for((4, 6)).transpose
        True
        """
        if have_same_shape(shape, self.shape):
            return self.turn
        return Turn() if have_same_shape(shape, self.turn.shape(self.shape)) else None


def have_same_shape(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Check whether two arrays can show the same field of view: equal sizes, or equal proportions up to rounding.

    Args:
        first: rows and columns.
        second: rows and columns.

    >>> have_same_shape((96, 80), (48, 40)), have_same_shape((96, 80), (80, 96))
    (True, False)
    """
    if first == second:
        return True
    is_scaled = (first[0] - second[0]) * (first[1] - second[1]) > 0
    return is_scaled and abs(first[0] * second[1] - first[1] * second[0]) <= max(*first, *second)


def turn_of(affine: NDArray[np.floating]) -> Turn:
    """Read from an affine how to turn an array into rows (head to foot) and columns (patient's right to left).

    An affine without a flip, rotation or shift carries no orientation. Its array counts as columns first and unflipped,
    which is MONAI's order. In-plane axes x and y follow ITK's pictures: columns along -x, rows along -y. Coronal
    (x and z) and sagittal (y and z) planes are turned head up, with the patient's left on the right or facing left.

    Args:
        affine: (4, 4), (4, 3) or (3, 3). Its columns are the array's two axes and the shift.

    >>> turn_of(np.diag([-0.2, -0.2, 1, 1])), turn_of(np.eye(4)) == turn_of(np.diag([-1, -1, 1, 1]))
    (Turn(transpose=True, flip_rows=False, flip_columns=False), True)
    >>> turn_of(picture_affine((0.2, 0.2)))
    Turn(transpose=False, flip_rows=False, flip_columns=False)
    """
    axes = _world_axes(affine)
    if axes is None or ((axes == ([0, 1], [1, 1]) or axes == ([1, 0], [1, 1])) and not _is_shifted(affine)):
        return Turn(transpose=True)
    world, sign = axes
    transpose = world[0] == min(world)
    column, row = (0, 1) if transpose else (1, 0)
    return Turn(transpose, flip_rows=sign[row] > 0, flip_columns=sign[column] > 0)


def states_orientation(affine: NDArray[np.floating]) -> bool:
    """Check whether an affine states an orientation, beyond the defaults that tools write without knowing one.

    The defaults are unshifted affines with x along the first axis and y along the second, both positive (an identity
    affine) or both negative (ITK's identity direction in RAS+).

    Args:
        affine: as for :func:`turn_of`.

    >>> states_orientation(np.diag([-0.2, -0.2, 1, 1])), states_orientation(np.diag([-0.2, 0.2, 1, 1]))
    (False, True)
    """
    axes = _world_axes(affine)
    if axes is None:
        return False
    world, sign = axes
    return world != [0, 1] or sign[0] != sign[1] or _is_shifted(affine)


def _world_axes(affine: NDArray[np.floating]) -> tuple[list[int], list[int]] | None:
    """World axis that each array axis follows, and its sign; None for degenerate affines."""
    matrix = np.asarray(affine, dtype=np.float64)
    axes = matrix[:-1, :2]
    norms = np.linalg.norm(axes, axis=0)
    if not np.isfinite(matrix).all() or (norms < 1e-9).any():
        return None
    world = [int(np.argmax(np.abs(axes[:, a]))) for a in range(2)]
    if world[0] == world[1]:
        return None
    return world, [int(np.sign(axes[world[a], a])) for a in range(2)]


def _is_shifted(affine: NDArray[np.floating]) -> bool:
    """Whether the affine moves or rotates the array beyond a change of axes."""
    matrix = np.asarray(affine, dtype=np.float64)
    axes = matrix[:-1, :2]
    norms = np.linalg.norm(axes, axis=0)
    aligned = (np.abs(axes).max(axis=0) > (1 - _TOLERANCE) * norms).all()
    return bool(matrix[:-1, -1].any() or not aligned)


def apply_turn(values: NDArray[Any], turn: Turn) -> NDArray[Any]:
    """Turn an array (A, B) into rows and columns (H, W), without copying.

    Args:
        values: the array.
        turn: the turn, as from :func:`turn_of`.

    >>> apply_turn(np.array([[1, 2, 3], [4, 5, 6]]), Turn(transpose=True, flip_rows=True)).tolist()
    [[3, 6], [2, 5], [1, 4]]
    """
    values = values.T if turn.transpose else values
    values = values[::-1] if turn.flip_rows else values
    return values[:, ::-1] if turn.flip_columns else values


def undo_turn(values: NDArray[Any], turn: Turn) -> NDArray[Any]:
    """Invert :func:`apply_turn`, without copying.

    Args:
        values: the upright array.
        turn: the turn that made it upright.

    >>> turn = Turn(transpose=True, flip_rows=True)
    >>> undo_turn(apply_turn(np.array([[1, 2, 3]]), turn), turn).tolist()
    [[1, 2, 3]]
    """
    values = values[:, ::-1] if turn.flip_columns else values
    values = values[::-1] if turn.flip_rows else values
    return values.T if turn.transpose else values


def turn_points(points: ArrayLike, stored: StoredPicture) -> NDArray[np.float64]:
    """Move points from the stored picture to the upright one.

    Args:
        points: (..., 2) row and column in pixels of the stored picture. NaN stays NaN.
        stored: the picture's size and turn.

    Returns:
        (..., 2) row and column in pixels of the upright picture.

    >>> turn_points([[0, 1]], StoredPicture((4, 6), Turn(flip_columns=True))).tolist()
    [[0.0, 4.0]]
    """
    moved = np.array(points, dtype=np.float64)
    if stored.turn.transpose:
        moved = moved[..., ::-1].copy()
    height, width = stored.turn.shape(stored.shape)
    if stored.turn.flip_rows:
        moved[..., 0] = height - 1 - moved[..., 0]
    if stored.turn.flip_columns:
        moved[..., 1] = width - 1 - moved[..., 1]
    return moved


def picture_affine(spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Make the affine (4, 4) of an upright array (H, W), which tools that follow affines display upright.

    Args:
        spacing: distance between pixel centers (row, column).

    >>> picture_affine((0.3, 0.2))[:2, :2].tolist()
    [[0.0, -0.2], [-0.3, 0.0]]
    """
    affine = np.diag([0.0, 0.0, 1.0, 1.0])
    affine[0, 1], affine[1, 0] = -spacing[1], -spacing[0]
    return affine


def columns_affine(spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Make the affine (4, 4) of an upright image with the column axis first, the axis order of MONAI and ITK.

    Args:
        spacing: distance between pixel centers (row, column).

    >>> columns_affine((0.3, 0.2))[:2, :2].tolist()
    [[-0.2, 0.0], [0.0, -0.3]]
    """
    return np.diag([-spacing[1], -spacing[0], 1.0, 1.0])


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


def stored_affine(spacing: tuple[float, float], stored: StoredPicture, order: str = "rows") -> NDArray[np.float64]:
    """Make the affine (4, 4) of a stored picture, in the world coordinates of the upright one.

    ``turn_of`` of the result is the picture's turn, after a transposition for ``columns``.

    Args:
        spacing: distance between pixel centers (row, column) of the upright picture.
        stored: the picture's size and turn.
        order: axis order of the array, ``rows`` or ``columns``.

    >>> turn_of(stored_affine((1, 1), StoredPicture((4, 6), Turn(flip_rows=True, flip_columns=True))))
    Turn(transpose=False, flip_rows=True, flip_columns=True)
    """
    corners = turn_points([[0, 0], [1, 0], [0, 1]], stored)
    to_upright = np.eye(4)
    to_upright[:2, 0], to_upright[:2, 1] = corners[1] - corners[0], corners[2] - corners[0]
    to_upright[:2, 3] = corners[0]
    affine: NDArray[np.float64] = picture_affine(spacing) @ to_upright + 0.0  # no negative zeros
    return affine[:, [1, 0, 2, 3]] if order == "columns" else affine


def without_guess(affine: ArrayLike, *codes: Any) -> NDArray[np.float64]:
    """Remove the flip and shift that nibabel invents for a NIfTI file without coordinates.

    Args:
        affine: the affine that nibabel, or MONAI through nibabel, returns.
        codes: ``qform_code`` and ``sform_code`` of the header; None for files of another format.

    Returns:
        The affine, reduced to the spacing if every code is 0.

    >>> without_guess(np.array([[-2.0, 0, 9], [0, 2, -9], [0, 0, 1]]), 0, 0)[0]
    array([2., 0., 0.])
    """
    whole = np.asarray(affine, dtype=np.float64)
    unstated = all(code is not None and int(np.asarray(code)) == 0 for code in codes)
    return np.diag(np.abs(np.diag(whole))) if unstated else whole
