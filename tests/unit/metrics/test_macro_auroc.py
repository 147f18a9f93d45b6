"""AUROC while training: over batches, unknown labels, classes of one kind."""

from __future__ import annotations

import logging

import pytest
import torch
from sklearn.metrics import roc_auc_score

from monai_anat.metrics import MacroAUROCMetric


def test_it_is_scikit_learns_macro_mean_however_the_batches_fall():
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.rand(40, 3, generator=generator), (torch.rand(40, 3, generator=generator) > 0.6).float()
    for size in (40, 7):
        metric = MacroAUROCMetric()
        for part in zip(scores.split(size), labels.split(size), strict=True):
            metric(*part)
        assert metric.aggregate().item() == pytest.approx(roc_auc_score(labels, scores, average="macro"), abs=1e-6)
        metric.reset()
        with pytest.raises(ValueError, match="there are no predictions yet"):
            metric.aggregate()


def test_lists_of_single_images_are_taken_as_monais_handlers_give_them():
    metric = MacroAUROCMetric()
    metric([torch.tensor([0.2]), torch.tensor([0.7])], [torch.tensor([0.0]), torch.tensor([1.0])])
    assert metric.aggregate() == 1
    assert metric.get_buffer()[0].shape == (2, 1)


@pytest.mark.parametrize("unsure", [float("nan"), 0.7])
def test_unknown_and_smoothed_labels_are_left_out(unsure):
    metric = MacroAUROCMetric()
    metric(torch.tensor([[0.9], [0.1], [0.5]]), torch.tensor([[unsure], [0.0], [1.0]]))
    assert metric.aggregate() == 1


def test_one_sided_classes_are_said_once_and_left_out(caplog):
    metric = MacroAUROCMetric(["Mass", "Hernia"])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            metric(torch.tensor([[0.9, 0.2], [0.1, 0.1]]), torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
            assert metric.aggregate() == 0
    assert caplog.text.count("all known labels are equal: Hernia") == 1
    metric.reset()
    metric(torch.tensor([[0.9, 0.2]]), torch.tensor([[0.0, 0.0]]))
    assert metric.aggregate() == 0.5


def test_shapes_are_named():
    with pytest.raises(ValueError, match=r"must both be \(B, C\), got \(2, 3\) and \(2, 2\)"):
        MacroAUROCMetric()(torch.zeros(2, 3), torch.zeros(2, 2))
