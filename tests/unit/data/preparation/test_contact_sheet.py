from __future__ import annotations

import numpy as np

from monai_anat.data.preparation.contact_sheet import draw_contact_sheet


def test_tiles_lie_in_rows_and_keep_proportions() -> None:
    bright = np.full((40, 80), 255, np.uint8)
    sheet = np.asarray(draw_contact_sheet([("", bright)] * 3, tile=20, columns=2))
    assert sheet.shape == (40, 40)
    assert sheet[5, 5] == sheet[5, 25] == sheet[25, 5] == 255 and sheet[30, 30] == 0 and sheet[15, 5] == 0


def test_captions_are_drawn_and_nothing_gives_an_empty_sheet() -> None:
    black = np.zeros((20, 20), np.uint8)
    assert np.asarray(draw_contact_sheet([("7", black)], tile=20)).max() > 200
    assert draw_contact_sheet([], tile=20, columns=2).size == (40, 20)
