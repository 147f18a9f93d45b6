"""Projections from position, code, words in several languages, and orientation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from monai_anat.data.reading.dicom_view import view_in_words, view_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # some values are not what their tags allow


@pytest.mark.parametrize(
    ("elements", "view"),
    [
        ({"ViewPosition": "PA"}, "PA"),
        ({"ViewPosition": "AP SUPINE"}, "AP"),
        ({"ViewPosition": "LL"}, "LATERAL"),
        ({"ViewPosition": "RAO"}, "OBLIQUE"),
        ({"SeriesDescription": "Thorax lateral"}, "LATERAL"),
        ({"SeriesDescription": "Thorax seitlich"}, "LATERAL"),
        ({"SeriesDescription": "Torace laterale"}, "LATERAL"),
        ({"SeriesDescription": "Thorax de profil"}, "LATERAL"),
        ({"AcquisitionDeviceProcessingDescription": "CHEST LAT"}, "LATERAL"),
        ({"SeriesDescription": "Thorax p.a."}, "PA"),
        ({"SeriesDescription": "Thorax a. p. im Liegen"}, "AP"),
        ({"SeriesDescription": "platinum lateralised"}, None),
        ({"StudyDescription": "Chest PA and lateral"}, None),
        ({"ProtocolName": "CHEST PA"}, "PA"),
        ({"SeriesDescription": "left lateral decubitus"}, None),
        ({"PatientOrientation": ["P", "F"]}, "LATERAL"),
        ({"PatientOrientation": ["L", "F"]}, "FRONTAL"),
        ({}, None),
        ({"ViewPosition": "PA LAT"}, None),
        ({"ViewPosition": "RLD"}, None),
        ({"ViewPosition": "left lateral decubitus"}, None),
        ({"ViewPosition": "Portable", "PatientOrientation": ["L", "F"]}, "FRONTAL"),
    ],
)
def test_view(make_header: Callable[..., Dataset], elements: dict[str, object], view: str | None) -> None:
    assert view_of(make_header(**elements)) == view


@pytest.mark.parametrize("name", ["ViewPosition", "SeriesDescription"])
@pytest.mark.parametrize(
    ("words", "view"),
    [
        ("L LAT", "LATERAL"),
        ("L-LAT", "LATERAL"),
        ("LLAT", "LATERAL"),
        ("LATERAL ERECT", "LATERAL"),
        ("XTABLE LATERAL", "LATERAL"),
        ("LATERO-LATERAL", "LATERAL"),
        ("CHEST_LAT", "LATERAL"),
        ("Chest LAT1", "LATERAL"),
        ("Thorax seitl.", "LATERAL"),
        ("Thorax profil", "LATERAL"),
        ("RX TORAX PERFIL", "LATERAL"),
        ("cliché latéral", "LATERAL"),
        ("胸部側面", "LATERAL"),
        ("胸部侧位", "LATERAL"),
        ("lateral oblique", "OBLIQUE"),
        ("OBLIQUE LEFT", "OBLIQUE"),
        ("THORAX_PA", "PA"),
        ("Thorax P-A", "PA"),
        ("P.A.", "PA"),
        ("POSTERO-ANTERIOR", "PA"),
        ("A/P", "AP"),
        ("AP/PA", "FRONTAL"),
        ("Thorax de face", "FRONTAL"),
        ("FRONTAL", "FRONTAL"),
        ("bilateral", None),
        ("Platte, flat", None),
    ],
)
def test_views_in_several_languages(
    make_header: Callable[..., Dataset], name: str, words: str, view: str | None
) -> None:
    assert view_of(make_header(**{name: words})) == view_in_words(words) == view


@pytest.mark.parametrize(
    ("value", "meaning", "view"),
    [
        ("R-10236", "", "LATERAL"),
        ("399173006", "gauche", "LATERAL"),
        ("272479007", "?", "PA"),
        ("R-10206", "?", "AP"),
        ("399006002", "left posterior oblique", "OBLIQUE"),
        ("399033003", "", "FRONTAL"),
        ("0", "lateral projection", "LATERAL"),
        ("0", "", None),
    ],
)
def test_view_by_its_code(make_header: Callable[..., Dataset], value: str, meaning: str, view: str | None) -> None:
    code = make_header(CodeValue=value, CodeMeaning=meaning)
    assert view_of(make_header(ViewCodeSequence=Sequence([code]))) == view
