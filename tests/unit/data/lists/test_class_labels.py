"""Labels of every form come out as one row; what cannot be read is named."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from monai_anat.data import (
    DatalistError,
    check_class_labels,
    class_weights,
    classification_datalist,
    load_datalist,
    read_class_labels,
)

NAMES = ["Edema", "Mass", "Nodule"]


def rows(datalist, names=NAMES, **arguments):
    items = [{"image": f"{number}.png", **item} for number, item in enumerate(datalist)]
    return np.stack([item["label"] for item in read_class_labels(items, names, **arguments)])


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ([0, 1, 0], [0, 1, 0]),
        ((0.0, 1.0, 1.0), [0, 1, 1]),
        (torch.tensor([1, 0, 1]), [1, 0, 1]),
        ([None, 1, -1], [np.nan, 1, np.nan]),
        ("Mass|Edema", [1, 1, 0]),
        ("No Finding", [0, 0, 0]),
        ("Mass", [0, 1, 0]),
        (2, [0, 0, 1]),
        ("2", [0, 0, 1]),
    ],
)
def test_every_form_of_a_label(label, expected):
    got = rows([{"label": label}])
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[0], expected)


def test_columns_of_a_table_and_its_empty_cells(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    (tmp_path / "train.csv").write_text("Path,Edema,Mass,Nodule,Sex\na.png,1.0,-1.0,,F\nb.png,0.0,,1.0,M\n")
    items = read_class_labels(load_datalist(tmp_path / "train.csv"), NAMES)
    np.testing.assert_array_equal([item["label"] for item in items], [[1, np.nan, 0], [0, 0, 1]])
    assert all(set(item) == {"image", "patient", "label"} for item in items), "a loader can batch them"
    assert items[0]["patient"] == items[0]["image"] == str(tmp_path / "a.png")


def test_one_class_and_another_key():
    np.testing.assert_array_equal(rows([{"label": 1}, {"label": 0}], ["Tuberculosis"]), [[1], [0]])
    np.testing.assert_array_equal(rows([{"Finding Labels": "Mass"}], label_key="Finding Labels"), [[0, 1, 0]])


@pytest.mark.parametrize(("uncertain", "expected"), [("ignore", np.nan), ("zeros", 0), ("ones", 1)])
def test_uncertain_labels_are_decided(uncertain, expected):
    got = rows([{"label": [-1, 1, None]}], uncertain=uncertain)
    np.testing.assert_array_equal(got, [[expected, 1, np.nan]])


def test_smoothed_uncertain_labels_are_drawn_once_inside_the_range_and_nowhere_else():
    datalist = [{"label": [-1, 0, 1]} for _ in range(200)]
    got = rows(datalist, uncertain="smooth")
    assert ((got[:, 0] >= 0.55) & (got[:, 0] <= 0.85)).all()
    assert len(np.unique(got[:, 0])) == 200
    np.testing.assert_array_equal(got[:, 1:], np.tile([0, 1], (200, 1)))
    np.testing.assert_array_equal(got, rows(datalist, uncertain="smooth"))
    assert not np.array_equal(got, rows(datalist, uncertain="smooth", seed=1))


def test_exclusive_classes():
    np.testing.assert_array_equal(rows([{"label": 2}, {"label": "Mass"}], exclusive=True), [[0, 0, 1], [0, 1, 0]])
    with pytest.raises(DatalistError, match=r"one class per image, got \['Edema', 'Mass'\] for 0.png; use exclusive=F"):
        rows([{"label": "Mass|Edema"}], exclusive=True)
    with pytest.raises(DatalistError, match=r"must name one of .*, got 'Other' for 0.png"):
        rows([{"label": "Other"}], exclusive=True)


def test_an_image_of_no_exclusive_class_is_refused_by_name_and_an_uncertain_one_is_unknown():
    """Its largest label would be that of class 0."""
    known = {"Edema": "1", "Mass": "0", "Nodule": "0"}
    with pytest.raises(DatalistError, match=r"got none of \['Edema', .*\] for 1.png; give it one, or -1"):
        rows([known, {"Edema": "", "Mass": "0", "Nodule": "0"}], exclusive=True)
    got = rows([known, {"Edema": "-1", "Mass": "0", "Nodule": "0"}], exclusive=True)
    np.testing.assert_array_equal(got, [[1, 0, 0], [np.nan, 0, 0]])
    with pytest.raises(DatalistError, match="got none of"):
        rows([{"label": [-1, 0, 0]}], exclusive=True, uncertain="zeros")
    with pytest.raises(DatalistError, match=r"got \['Edema', 'Mass'\] for 0.png"):
        rows([{"label": [1, -1, 0]}], exclusive=True, uncertain="ones")


def test_a_further_key_named_like_a_class_is_no_column_where_the_label_holds_all_classes():
    """NIH's list has 14 labels under ``label`` and a key ``pneumonia`` beside them."""
    datalist = [{"label": [0, 1], "mass": 1}, {"label": [1, 0], "mass": 1}]
    assert rows(datalist, ["Edema", "Mass"]).tolist() == [[0, 1], [1, 0]]


def test_a_class_that_no_image_names_is_said_with_the_names_there_are(caplog):
    caplog.set_level("WARNING")
    datalist = [{"label": "Edema|Mass"}, {"label": "Edema"}, {"label": "No Finding"}, {"label": ""}]
    rows(datalist, ["Edema", "Mass"])
    assert not caplog.records
    rows(datalist, ["Oedema", "Mass"])
    assert "no image of 4 is labeled Oedema; the names there are Edema, Mass, No Finding; check the" in caplog.text
    caplog.clear()
    rows([{"label": 0}, {"label": "1"}, {"label": [0, 0, 0]}])
    assert not caplog.records, "numbers name nothing"
    rows([{"label": "|".join(f"finding {number}" for number in range(100))}])
    assert "finding 19, ...; check" in caplog.text


@pytest.mark.parametrize(
    ("datalist", "message"),
    [
        ([{"label": [0, 1]}], r"must have 3 values, one for each of .*, got \[0, 1\] for 0.png"),
        ([{"label": 3}], r"a class number must be in 0\.\.2"),
        ([{"label": [0, 2, 0]}], "labels must be 0, 1, -1 .* got 2 for Mass of 0.png"),
        ([{"label": [0, "x", 0]}], "a label must be a number, got 'x' for Mass of 0.png; write 1, 0, or -1 where"),
        ([{"Edema": "n/a", "Mass": "1", "Nodule": "0"}], "got 'n/a' for Edema of 0.png; write 1, 0, or -1 where"),
        ([{"Edema": "1"}], r"a column for every class, got none for \['Mass', 'Nodule'\]"),
        ([{"other": 1}], r"must have 'label' or a column for each of .* got the keys \['image', 'other'\]"),
    ],
)
def test_what_cannot_be_read_is_named(datalist, message):
    with pytest.raises(DatalistError, match=message):
        rows(datalist)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="uncertain must be one of ignore, zeros, ones, smooth, got 'drop'"):
        rows([{"label": 0}], uncertain="drop")
    with pytest.raises(ValueError, match="at least one name and no name twice"):
        rows([{"label": 0}], ["Mass", "Mass"])
    with pytest.raises(TypeError, match=r"must be a list of names, got the text 'Mass'; write \['Mass'\]"):
        rows([{"label": 0}], "Mass")
    with pytest.raises(ValueError, match="smooth_range must be two numbers"):
        rows([{"label": [0, 0, -1]}], smooth_range=(0.9, 0.2))


def test_weights_balance_positives_and_negatives():
    labels = np.array([[1, 1, 0, np.nan], [0, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])
    weight = class_weights([{"label": row} for row in labels], maximum=2.5)
    assert weight.tolist() == pytest.approx([2.5, 1 / 3, 1, 2])
    assert weight.dtype == torch.float32


def test_weights_of_exclusive_classes_sum_to_the_number_of_images():
    labels = np.eye(3)[[0, 0, 0, 1, 1, 2]]
    weight = class_weights([{"label": row} for row in labels], exclusive=True)
    assert weight.tolist() == pytest.approx([6 / 9, 1, 2])
    assert (labels.sum(0) * weight.numpy()).sum() == pytest.approx(6)


def test_one_sided_classes_are_said_and_a_hopeless_list_is_refused(caplog):
    both, alike = [{"label": [0, 1, 0]}, {"label": [1, 0, 0]}], [{"label": [0, 0, 0]}]
    with caplog.at_level(logging.WARNING):
        check_class_labels({"training": both, "test": alike}, NAMES)
    assert "training: only one kind of image for Nodule" in caplog.text
    assert "test: only one kind of image for Edema, Mass, Nodule" in caplog.text
    with pytest.raises(DatalistError, match="got one kind only of every one of"):
        check_class_labels({"training": alike}, NAMES)


def test_the_sample_has_both_kinds_of_its_common_classes_in_every_split():
    names = ["AP view", "Atelectasis", "Infiltration", "Pneumonia"]
    for split in ("training", "validation", "test"):
        labels = np.stack([item["label"] for item in read_class_labels(classification_datalist(split), names)])
        assert (labels.sum(0) >= 4).all()
        assert (labels.sum(0) <= len(labels) - 4).all()


def test_findings_of_a_table_in_every_spelling_are_positive_and_other_names_are_counted(tmp_path, caplog):
    """Commas, semicolons and small letters made them negative without a word."""
    table = tmp_path / "findings.csv"
    table.write_text(
        'image,patient,label\na.png,1,"Effusion, Mass"\nb.png,2,Mass\nc.png,3,effusion\nd.png,4,No Finding\n'
        "e.png,5,Effusion;Mass\nf.png,6,Cardiomegaly\ng.png,7,Cardiomegaly | mass\nh.png,8,\n"
    )
    items = load_datalist(table, check_files=False)
    with caplog.at_level(logging.INFO):
        labels = [item["label"].tolist() for item in read_class_labels(items, ["Effusion", "Mass"])]
    assert labels[:7] == [[1, 1], [0, 1], [1, 0], [0, 0], [1, 1], [0, 0], [0, 1]]
    assert np.isnan(labels[7]).all()
    assert "count for none of ['Effusion', 'Mass']: 'Cardiomegaly' x 2; check" in caplog.text
    assert "1 of 8 images have an empty 'label', which counts as unknown" in caplog.text
    with pytest.raises(DatalistError, match="got 'No Effusion' x 2 for the classes"):
        rows([{"label": "No Effusion"}, {"label": "Mass"}, {"label": "No Effusion"}], ["Effusion", "Mass"])


@pytest.mark.parametrize("label", [-1, "-1", -1.0, "-1.0", None, ""])
def test_an_unknown_class_number_is_unknown(label):
    assert np.isnan(rows([{"label": label}, {"label": 1}], exclusive=True)[0]).all()
    assert np.isnan(rows([{"label": label}, {"label": 1}], exclusive=True, uncertain="ones")[0]).all()
    assert np.isnan(rows([{"label": label}, {"label": 1}])[0]).all()


@pytest.mark.parametrize(
    ("label", "expected"),
    [("0,1,0", [0, 1, 0]), ("[0, 1, 1]", [0, 1, 1]), ("1|0|-1", [1, 0, np.nan]), (["Mass", "edema"], [1, 1, 0])],
)
def test_rows_of_numbers_as_text_and_lists_of_names(label, expected):
    np.testing.assert_array_equal(rows([{"label": label}])[0], expected)
    with pytest.raises(DatalistError, match="must have 3 values"):
        rows([{"label": "0,1"}])


def test_columns_in_other_spelling():
    got = rows([{"edema": "1", "MASS": "", "Nodule ": "0"}, {"edema": "0", "MASS": "1"}])
    np.testing.assert_array_equal(got, [[1, 0, 0], [0, 1, 0]])
