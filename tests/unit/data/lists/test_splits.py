from __future__ import annotations

import itertools

import numpy as np
import pytest

from monai_anat.data import DatalistError, check_splits, split_by_patient, take_fraction, take_shots


def test_patient_or_file_in_two_splits_is_refused_by_name() -> None:
    a = {"image": "1.png", "patient": "p"}
    with pytest.raises(DatalistError, match=r"patient must .* got 1 in both 'training' and 'test' \('p'\)"):
        check_splits({"training": [a], "test": [{"image": "2.png", "patient": "p"}]})
    with pytest.raises(DatalistError, match="image file"):
        check_splits({"training": [{"image": "1.png"}], "test": [{"image": "1.png"}]})
    check_splits({"training": [a, a], "test": [{"image": "2.png"}]})


def test_splits_keep_patients_whole_and_spread_strata() -> None:
    generator = np.random.default_rng(0)
    items = [{"image": str(i), "patient": str(generator.integers(60)), "kind": "ab"[i % 3 == 0]} for i in range(300)]
    fractions = {"training": 0.7, "validation": 0.1, "test": 0.2}
    parts = split_by_patient(items, fractions, seed=3, stratify="kind")
    assert parts == split_by_patient(items, fractions, seed=3, stratify="kind")
    assert parts != split_by_patient(items, fractions, seed=4, stratify="kind")
    assert sum(map(len, parts.values())) == 300
    check_splits(parts)
    patients = {name: len({item["patient"] for item in part}) for name, part in parts.items()}
    total = sum(patients.values())
    for name, fraction in fractions.items():
        assert abs(patients[name] - fraction * total) <= 2
    with pytest.raises(ValueError, match="sum to 1"):
        split_by_patient(items, {"training": 0.5}, seed=0)


def test_shots_are_nested_and_spread_over_patients() -> None:
    items = [{"image": str(i), "patient": str(i // 3)} for i in range(30)]
    for seed in range(5):
        draws = [take_shots(items, n, seed) for n in (3, 6, 12, 24)]
        for small, large in itertools.pairwise(draws):
            assert small == large[: len(small)]
        assert len({item["patient"] for item in draws[1]}) == 6
    assert take_shots(items, 3, 0) != take_shots(items, 3, 1)
    with pytest.raises(ValueError, match="between 1 and the 30"):
        take_shots(items, 31, 0)


def test_fractions_are_nested_and_keep_patients_whole() -> None:
    items = [{"image": str(i), "patient": str(i // 2)} for i in range(100)]
    sizes = []
    before: set[str] = set()
    for fraction in (0.01, 0.1, 0.25, 0.5, 1.0):
        part = take_fraction(items, fraction, seed=1)
        images = {item["image"] for item in part}
        assert before <= images
        before = images
        sizes.append(len(part))
    assert sizes == [2, 10, 26, 50, 100]
    with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\], got 10; 0.1 takes 10 % of the images"):
        take_fraction(items, 10, 0)
    with pytest.raises(ValueError, match="fraction must be in"):
        take_fraction(items, 0, 0)
