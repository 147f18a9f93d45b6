from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from monai_anat.data import synthetic_radiograph
from monai_anat.data.preparation.candidates import Candidate
from monai_anat.data.preparation.prepare_one import (
    Outcome,
    Task,
    judge,
    prepare_file,
    prepared_spacing,
    source_hash,
    to_size,
)
from monai_anat.data.reading.decoded import Decoded


def _decoded(height: int = 64, width: int = 80, **info: object) -> Decoded:
    return Decoded(synthetic_radiograph((height, width))[0], None, {"pixel_aspect": 1.0, **info})


def _prepare_file(position: int, candidate: Candidate, source: str, key: bytes, size: int, view: str) -> Outcome:
    return prepare_file(Task(position, candidate, source, key, size, view))


@pytest.mark.parametrize(
    ("decoded", "listed", "reason"),
    [
        (_decoded(), None, ""),
        (_decoded(10, 10), None, "tiny"),
        (_decoded(40, 400), None, "strip"),
        (Decoded(np.full((64, 64), 0.5, np.float32)), None, "blank"),
        (_decoded(modality="CT"), None, "modality CT"),
        (_decoded(body_part="other"), None, "not the chest"),
        (_decoded(view="LATERAL"), None, "lateral view"),
        (_decoded(view="OBLIQUE"), None, "oblique view"),
        (_decoded(view="PA"), "LATERAL", "lateral view"),
        (_decoded(view="LATERAL"), "PA", ""),
        (_decoded(), "XTABLE LATERAL", "lateral view"),
        (_decoded(), "L", "lateral view"),
        (_decoded(), "Thorax seitl.", "lateral view"),
        (_decoded(), "THORAX_PERFIL", "lateral view"),
        (_decoded(), "RAO", "oblique view"),
        (_decoded(), "Tórax de frente", ""),
        (_decoded(), "прямая", ""),
        (_decoded(), "боковая проекция", "lateral view"),
        (_decoded(), "klatka boczne", "lateral view"),
        (_decoded(), "dorsoventral", ""),
        (_decoded(), "Lordotic", "not known to be frontal"),
        (_decoded(), "AP_horizontal", ""),
        (_decoded(), "AP LLD", ""),
        (_decoded(), "SWIMMERS", "names a view that is not known to be frontal"),
        (_decoded(), "CT", "names a view that is not known to be frontal"),
        (_decoded(), "Axial", "names a view that is not known to be frontal"),
        (_decoded(), "COSTAL", "names a view that is not known to be frontal"),
        (_decoded(view="PA"), "JANE DOE", "names a view that is not known to be frontal"),
        (_decoded(), "AP Supine", ""),
        (_decoded(), "supine", ""),
        (_decoded(), "unknown", ""),
        (_decoded(), " ", ""),
        (Decoded((np.indices((64, 80)).sum(0) // 48).astype(np.float32) / 2), None, "few gray values"),
        (_decoded(modality="XA"), None, "modality XA"),
        (_decoded(modality="DX"), None, ""),
        (_decoded(64, 64, pixel_aspect=6.0), None, "strip"),
        (_decoded(40, 180, pixel_aspect=2.0), None, ""),
    ],
)
def test_judgement(decoded: Decoded, listed: str | None, reason: str) -> None:
    said = judge(decoded, listed, "frontal")
    assert reason in said and bool(said) == bool(reason)


def test_laterals_alone() -> None:
    assert judge(_decoded(view="LATERAL"), None, "lateral") == ""
    assert judge(_decoded(view="PA"), None, "lateral") == "a frontal view where lateral was asked for"


def test_any_view_takes_laterals() -> None:
    assert judge(_decoded(view="LATERAL", modality="CT", body_part="other"), None, "any") == ""


def test_a_blank_image_with_a_bright_border_is_blank() -> None:
    pixels = np.full((64, 64), 0.2, np.float32)
    pixels[:4] = 1
    assert judge(Decoded(pixels), None, "any") == "the image is blank"


def test_size_keeps_true_proportions() -> None:
    pixels, grown = to_size(_decoded(128, 160), 64)
    assert pixels.shape == (64, 80) and pixels.dtype == np.uint8 and not grown
    assert to_size(_decoded(32, 40), 64)[1]
    assert to_size(_decoded(64, 80), 64)[0].shape == (64, 80)
    flat = _decoded(
        64,
        128,
    )
    assert to_size(Decoded(flat.pixels, None, {"pixel_aspect": 2.0}), 64)[0].shape == (64, 64)
    averaged = to_size(Decoded(np.tile(np.float32([[0, 1], [1, 0]]), (64, 64)), None, {}), 64)[0]
    assert set(np.unique(averaged)) == {128}


def test_spacing_grows_with_shrinking() -> None:
    decoded = Decoded(np.zeros((100, 200), np.float32), (0.2, 0.2), {})
    assert prepared_spacing(decoded, 50) == pytest.approx((0.4, 0.4))
    assert np.isnan(prepared_spacing(Decoded(np.zeros((4, 4), np.float32)), 2)).all()


def test_outcome_names_nobody_and_never_raises(tmp_path: Path, make_dicom: Callable[..., Path]) -> None:
    values = np.round(synthetic_radiograph(64)[0] * 4000).astype(np.uint16)
    path = make_dicom(tmp_path / "Doe_Jane.dcm", values, PatientID="4711", PatientName="Doe^Jane", ViewPosition="PA")
    outcome = _prepare_file(3, Candidate(str(path)), "hash", b"key", 32, "frontal")
    assert outcome.reason == "" and outcome.pixels is not None and outcome.record is not None
    assert outcome.record["view"] == "PA" and outcome.record["patient_known"]
    for secret in ("Doe", "Jane", "4711"):
        assert secret not in repr(outcome)
    path.write_bytes(b"")
    outcome = _prepare_file(3, Candidate(str(path)), "hash", b"key", 32, "frontal")
    assert "empty" in outcome.reason and "Doe" not in outcome.reason
    assert _prepare_file(0, Candidate("x", reason="why"), "h", b"k", 32, "any").reason == "why"


@pytest.mark.parametrize(
    ("listed", "recorded"),
    [("PA", "PA"), ("L", "LATERAL"), ("AP LLD", "AP"), ("胸部 正面", "FRONTAL"), ("JANE DOE", "AP"), (None, "AP")],
)
def test_a_listed_view_is_recorded_in_fixed_words(
    tmp_path: Path, make_dicom: Callable[..., Path], listed: str | None, recorded: str
) -> None:
    """What a table has in its column may be anything, in any alphabet."""
    values = np.round(synthetic_radiograph(64)[0] * 4000).astype(np.uint16)
    path = make_dicom(tmp_path / "a.dcm", values, ViewPosition="AP")
    record = _prepare_file(0, Candidate(str(path), view=listed), "hash", b"key", 32, "any").record
    assert record is not None and record["view"] == recorded


def test_source_hash_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    before = source_hash(Candidate(str(path)), b"k")
    assert source_hash(Candidate(str(path)), b"k") == before
    assert len({before, *(source_hash(Candidate(str(path), **{n: "1"}), b"k") for n in ("patient", "split"))}) == 3
    path.write_bytes(b"22")
    assert source_hash(Candidate(str(path)), b"k") != before
    assert source_hash(Candidate(str(tmp_path / "none")), b"k")
