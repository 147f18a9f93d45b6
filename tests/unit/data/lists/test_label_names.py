"""Names of findings as hospitals write them in one cell."""

from __future__ import annotations

from collections import Counter

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.lists.label_names import LabelNames, normalize_name, told_counts

CLASSES = ["Effusion", "Mass", "Pleural_Thickening", "Nodule/Mass"]


@pytest.mark.parametrize(
    ("cell", "classes"),
    [
        ("Effusion", {0}),
        ("effusion", {0}),
        ("  EFFUSION ", {0}),
        ("Effusion|Mass", {0, 1}),
        ("Effusion, Mass", {0, 1}),
        ("Effusion;Mass", {0, 1}),
        ("Effusion\nmass", {0, 1}),
        ("Effusion ; | Mass,", {0, 1}),
        ("['Effusion', 'pleural thickening']", {0, 2}),
        ("Pleural  Thickening", {2}),
        ("pleural-thickening", {2}),
        ("Nodule/Mass", {3}),
        ("Effusion/Mass", {0, 1}),
        ("Effusion and Mass", {0, 1}),
        ("Effusion + Mass", {0, 1}),
        ("No Finding", set()),
        ("normal", set()),
        ("Massive Cardiomegaly", set()),
    ],
)
def test_every_spelling(cell: str, classes: set[int]) -> None:
    names = LabelNames(CLASSES)
    assert names.classes_of(cell) == classes
    names.check()


@pytest.mark.parametrize("cell", ["No Effusion", "left effusion", "Effusion?", "Mass (benign)", "Effusion with Edema"])
def test_names_with_a_class_inside_are_refused_with_their_counts(cell: str) -> None:
    names = LabelNames(CLASSES)
    for _ in range(3):
        names.classes_of(f"Edema|{cell}")
    with pytest.raises(DatalistError) as caught:
        names.check()
    assert f"{cell!r} x 3" in str(caught.value)


def test_names_that_are_no_class_are_counted() -> None:
    names = LabelNames(CLASSES)
    for cell in ("Edema", "edema; Mass", "Edema", "No Finding"):
        names.classes_of(cell)
    assert names.unknown == {"Edema": 2, "edema": 1}
    assert names.found == {"Edema": 2, "edema": 1, "Mass": 1, "No Finding": 1}


def test_class_names_with_marks_are_not_split() -> None:
    names = LabelNames(["Mass, benign", "Mass, malignant"])
    assert names.classes_of("Mass, benign") == {0}
    assert names.classes_of("mass, benign | mass, malignant") == {0, 1}


def test_classes_that_differ_in_spelling_only() -> None:
    with pytest.raises(ValueError, match="must differ in more than case"):
        LabelNames(["Mass", "mass"])


def test_messages_show_the_most_common_names() -> None:
    assert told_counts(Counter({"a": 2, "b": 5})) == "'b' x 5, 'a' x 2"
    assert told_counts(Counter(map(str, range(30)))).endswith(", ...")
    assert normalize_name("Übergang_Ö-x") == "übergang ö x"
