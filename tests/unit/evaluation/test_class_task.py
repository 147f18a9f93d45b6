"""Classification tasks of every form of label, and their scores."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.data import DatalistError
from monai_anat.evaluation import PatientBootstrap
from monai_anat.evaluation.class_task import accuracy, read_class_task, score_classes


def read(labels, names=None):
    items = [
        {"image": str(n), **(label if isinstance(label, dict) else {"label": label})} for n, label in enumerate(labels)
    ]
    task, rows = read_class_task(items, names)
    return task.names, task.one_of_many, rows.tolist()


def test_numbers_are_one_of_many_and_lists_are_findings() -> None:
    assert read([1, 0, 2]) == (("0", "1", "2"), True, [[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    assert read(["1", 0.0], ["normal", "virus"]) == (("normal", "virus"), True, [[0, 1], [1, 0]])
    names, one_of_many, rows = read([[1, -1], [0, None]])
    assert (names, one_of_many) == (("0", "1"), False)
    np.testing.assert_equal(rows, [[1, np.nan], [0, np.nan]])


def test_with_names_a_number_may_be_a_finding_and_names_and_columns_are_read() -> None:
    assert read([1, 0], ["pneumonia"]) == (("pneumonia",), False, [[1], [0]])
    assert read(["Mass|Edema", "No Finding"], ["Edema", "Mass"]) == (("Edema", "Mass"), False, [[1, 1], [0, 0]])
    columns = [{"Edema": "1", "Mass": ""}, {"Edema": "0", "Mass": "1", "label": 3}]
    assert read(columns, ["Edema", "Mass"]) == (("Edema", "Mass"), False, [[1, 0], [0, 1]])


def test_what_cannot_be_read_is_named() -> None:
    for label in ("mask.png", None, float("nan"), -2, 1.5):
        with pytest.raises(
            DatalistError, match=r"class number or a list of 0, 1 and -1 .*; labels of other forms need"
        ):
            read([1, label])
    with pytest.raises(DatalistError, match=r"labels of one form, got lengths \[0, 1\]"):
        read([1, [1]])
    with pytest.raises(DatalistError, match=r"must have 2 values, one for each of \['a', 'b'\], got \[1, 0, 1\]"):
        read([[1, 0, 1]], ["a", "b"])
    with pytest.raises(DatalistError, match=r"labels must be 0, 1, -1 .* got 2 for 0"):
        read([[2], [1]])
    with pytest.raises(DatalistError, match=r"class number must be in 0..1 .* got 7"):
        read([1, 7], ["a", "b"])


def test_minus_one_is_an_unknown_class_number() -> None:
    names, one_of_many, rows = read([1, -1, 0])
    assert (names, one_of_many) == (("0", "1"), True)
    np.testing.assert_array_equal(rows, [[0, 1], [np.nan, np.nan], [1, 0]])


def test_one_sided_and_unknown_classes_are_named_and_not_averaged() -> None:
    bootstrap = PatientBootstrap([str(number) for number in range(12)], resamples=50)
    labels = np.stack([np.arange(12) % 2, np.zeros(12), np.ones(12), np.full(12, np.nan)], axis=1).astype(float)
    metrics, notes = score_classes(labels[:, [0, 0, 0, 0]], labels, ["a", "none", "all", "unknown"], bootstrap)
    assert metrics["auroc"].value == metrics["auroc/a"].value == 1
    assert [metrics[f"auroc/{name}"].why.split(": ")[1] for name in ("none", "all", "unknown")] == [
        "all 12 test images with a known label are negative",
        "all 12 test images with a known label are positive",
        "no test image has a known label",
    ]
    assert len(notes) == 3


def test_accuracy_leaves_out_images_without_a_class() -> None:
    bootstrap = PatientBootstrap(["a", "b", "c"], resamples=50)
    labels = np.array([[1, 0], [0, 1], [np.nan, np.nan]])
    assert accuracy(np.array([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5]]), labels, bootstrap).value == 0.5
    assert accuracy(np.zeros((3, 2)), np.full((3, 2), np.nan), bootstrap).why.startswith(
        "no test image has a known class"
    )
    one = accuracy(np.eye(2)[[0, 0, 1]], np.eye(2)[[0, 0, 0]], bootstrap)
    assert (one.value, one.why) == (None, "all test images are of one class, so there is no accuracy")


def test_accuracy_counts_images_and_not_patients() -> None:
    truth, bootstrap = np.eye(2)[[0, 0, 0, 1]], PatientBootstrap(["a", "a", "a", "b"], resamples=50)
    assert accuracy(np.eye(2)[[0, 0, 0, 0]], truth, bootstrap).value == 0.75


def test_what_was_not_learned_is_not_averaged() -> None:
    bootstrap = PatientBootstrap([str(number) for number in range(12)], resamples=50)
    labels = np.stack([np.arange(12) % 2, np.arange(12) % 3 == 0], axis=1).astype(float)
    training = np.array([[0.0, 1.0], [1.0, 1.0]])
    metrics, notes = score_classes(labels, labels, ["mass", "edema"], bootstrap, training)
    assert metrics["auroc"] == metrics["auroc/mass"], "of one class alone the mean is its own"
    assert notes == ["Edema has no area under a curve: all 2 training images with a known label are positive."]


def test_no_and_yes_are_two_classes() -> None:
    task, labels = read_class_task([{"image": "a", "label": False}, {"image": "b", "label": True}])
    assert (task.names, task.one_of_many, labels.tolist()) == (("0", "1"), True, [[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(DatalistError, match=r"'label' must have 3 values, .* got True for b"):
        read_class_task([{"image": "a", "label": 2}, {"image": "b", "label": True}])
