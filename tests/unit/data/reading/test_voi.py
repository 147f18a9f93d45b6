from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from monai_anat.data.reading.voi import Voi, map_gray, modality_values, window


def _dataset(**elements: object) -> Dataset:
    dataset = Dataset()
    dataset.BitsStored = 12
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def _table(data: list[int], first: int, bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(data), first, bits])
    item.add_new("LUTData", "US", data)
    return item


def test_windows_by_the_formulas_of_the_standard() -> None:
    values = np.arange(0, 4096, 7).astype(np.int32)
    center, width = 2000.0, 1000.0
    expected = np.empty(len(values))
    for i, x in enumerate(values):  # DICOM PS3.3 C.11.2.1.2.1
        if x <= center - 0.5 - (width - 1) / 2:
            expected[i] = 0
        elif x > center - 0.5 + (width - 1) / 2:
            expected[i] = 1
        else:
            expected[i] = (x - (center - 0.5)) / (width - 1) + 0.5
    np.testing.assert_allclose(window(values, center, width), expected, atol=1e-5)
    exact = np.clip((values - center) / width + 0.5, 0, 1)
    np.testing.assert_allclose(window(values, center, width, "LINEAR_EXACT"), exact, atol=1e-5)
    sigmoid = 1 / (1 + np.exp(-4 * (values - center) / width))
    np.testing.assert_allclose(window(values, center, width, "SIGMOID"), sigmoid, atol=1e-5)
    assert window(np.array([1, 2, 3]), 2, 1).tolist() == [0, 1, 1]


def test_modality_lut_before_rescale() -> None:
    values = np.array([[0, 1, 2, 9]])
    dataset = _dataset(ModalityLUTSequence=Sequence([_table([10, 20, 30], 1, 16)]), RescaleSlope=5)
    assert modality_values(values, dataset).tolist() == [[10, 10, 20, 30]]
    assert modality_values(values, _dataset(RescaleSlope=2, RescaleIntercept=-1)).tolist() == [[-1, 1, 3, 17]]


def test_voi_lut_precedes_windows_and_windows_precede_percentiles() -> None:
    values = np.linspace(0, 3, 4).astype(np.uint16).reshape(2, 2)
    window_elements = {"WindowCenter": 2, "WindowWidth": 3}
    lut = _dataset(VOILUTSequence=Sequence([_table([0, 10, 20, 100], 0, 8)]), **window_elements)
    pixels, voi = map_gray(values, lut)
    np.testing.assert_allclose(pixels, [[0, 0.1], [0.2, 1]], atol=1e-6)
    assert voi == Voi("VOI LUT of 4 entries")
    assert "window LINEAR center 2" in map_gray(values, _dataset(**window_elements))[1].words
    assert "no window" in map_gray(values, _dataset())[1].words


def test_the_first_window_that_is_not_blank_is_used() -> None:
    values = np.linspace(0, 4000, 100).reshape(10, 10)
    pixels, voi = map_gray(values, _dataset(WindowCenter=[90000, 2000], WindowWidth=[10, 4000]))
    assert "number 2 of 2" in voi.words and pixels.std() > 0.2
    pixels, voi = map_gray(values, _dataset(WindowCenter=90000, WindowWidth=10))
    assert "show nothing" in voi.words and pixels.std() > 0.2


def test_eight_bits_without_a_window_equal_a_png() -> None:
    values = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.testing.assert_allclose(map_gray(values, _dataset(BitsStored=8))[0], values / 255, atol=1e-7)


@pytest.mark.parametrize("bad", [{"LUTDescriptor": None}, {"LUTData": None}])
def test_malformed_tables_are_skipped(bad: dict[str, object]) -> None:
    item = _table([0, 1], 0, 8)
    for name in bad:
        delattr(item, name)
    values = np.arange(4, dtype=np.uint8).reshape(2, 2)
    _, voi = map_gray(values, _dataset(VOILUTSequence=Sequence([item]), BitsStored=8))
    assert "LUT" not in voi.words


def test_a_table_of_fewer_entries_than_announced_is_skipped() -> None:
    item = _table(list(range(100)), 0, 12)
    item.LUTDescriptor = [4096, 0, 12]
    values = np.arange(4096).reshape(64, 64)
    assert "LUT" not in map_gray(values, _dataset(VOILUTSequence=Sequence([item])))[1].words


def test_signed_first_value_of_a_table() -> None:
    dataset = _dataset(ModalityLUTSequence=Sequence([_table([1, 2, 3], 65535, 16)]), PixelRepresentation=1)
    assert modality_values(np.array([[-1, 0, 1]]), dataset).tolist() == [[1, 2, 3]]


def test_a_negative_first_value_written_as_a_positive_one() -> None:
    """Files store -100 as 65436, also for images with only positive values."""
    values = np.arange(5, 4101, dtype=np.int64).reshape(64, 64)
    table = _table(np.clip(np.arange(5000) - 105, 0, 4095).tolist(), 65536 - 100, 12)
    pixels, voi = map_gray(values, _dataset(VOILUTSequence=Sequence([table]), PixelRepresentation=1))
    np.testing.assert_allclose(pixels, (values - 5) / 4095, atol=1e-6)
    assert voi == Voi("VOI LUT of 5000 entries")


@pytest.mark.parametrize(("width", "function"), [(1, "LINEAR"), (1, "LINEAR_EXACT"), (2, "SIGMOID"), (2, "LINEAR")])
def test_a_black_and_white_window_counts_as_blank(width: float, function: str) -> None:
    values = np.arange(4096).reshape(64, 64)
    pixels, voi = map_gray(values, _dataset(WindowCenter=2000, WindowWidth=width, VOILUTFunction=function))
    assert "show nothing" in voi.words and len(np.unique(pixels)) > 100


@pytest.mark.parametrize("width", [0, -500, 0.5])
def test_invalid_widths_are_skipped(width: float) -> None:
    values = np.arange(4096).reshape(64, 64)
    assert "show nothing" in map_gray(values, _dataset(WindowCenter=2000, WindowWidth=width))[1].words


def test_a_malformed_center_keeps_its_width() -> None:
    values = np.arange(4096).reshape(64, 64)
    _, voi = map_gray(values, _dataset(WindowCenter=[float("nan"), 2000], WindowWidth=[500, 3000]))
    assert voi.words == "window LINEAR center 2000 width 3000, number 2 of 2"


def test_free_text_of_a_function_is_not_passed_on() -> None:
    dataset = _dataset(WindowCenter=2000, WindowWidth=3000)
    dataset.add_new("VOILUTFunction", "LO", "DOE JANE")
    assert map_gray(np.arange(4096).reshape(64, 64), dataset)[1].words == "window LINEAR center 2000 width 3000"


def test_bytes_of_a_table_by_their_order_and_number() -> None:
    values = np.arange(255, dtype=np.uint8).reshape(15, 17)
    for order, packed in ((">u2", False), ("<u2", True)):
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [255, 0, 16])
        item.add_new("LUTData", "OW", (np.arange(255) * 200).astype(order).tobytes())
        item.set_original_encoding(False, packed)
        pixels, _ = map_gray(values, _dataset(VOILUTSequence=Sequence([item])))
        np.testing.assert_allclose(pixels, values / 254, atol=1e-6)
    item = Dataset()  # an odd number of bytes, and one to fill the word
    item.add_new("LUTDescriptor", "US", [255, 0, 8])
    item.add_new("LUTData", "OW", bytes(range(255)) + b"\0")
    np.testing.assert_allclose(map_gray(values, _dataset(VOILUTSequence=Sequence([item])))[0], values / 254, atol=1e-6)
