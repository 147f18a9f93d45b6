"""Cross-entropy of labels: against torch's own, and unknown labels that have no part."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from monai_anat.losses import LabelCrossEntropyLoss, label_cross_entropy

NAN = float("nan")


def _findings():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(6, 4, generator=generator) > 0.5).double()


def test_known_findings_are_torchs_binary_cross_entropy():
    logits, labels = _findings()
    weight = torch.tensor([1.0, 2.0, 0.5, 4.0])
    expected = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight)
    torch.testing.assert_close(label_cross_entropy(logits, labels, weight), expected)


def test_unknown_findings_have_neither_loss_nor_gradient():
    logits, labels = _findings()
    logits = logits.float().requires_grad_()
    labels[0, 1] = labels[3, 2] = NAN
    value = label_cross_entropy(logits, labels)
    known = ~labels.isnan()
    expected = F.binary_cross_entropy_with_logits(logits[known], labels[known].float())
    torch.testing.assert_close(value, expected)
    value.backward()
    assert logits.grad.isfinite().all()
    assert torch.equal(logits.grad == 0, ~known)


def test_exclusive_classes_are_torchs_cross_entropy_with_weights():
    logits, _ = _findings()
    classes = torch.tensor([0, 1, 2, 3, 1, 1])
    weight = torch.tensor([1.0, 2.0, 0.5, 4.0])
    labels = F.one_hot(classes, 4).float()
    expected = F.cross_entropy(logits, classes, weight.double())
    torch.testing.assert_close(label_cross_entropy(logits, labels, weight, exclusive=True), expected)
    labels[2] = NAN
    rows = torch.tensor([0, 1, 3, 4, 5])
    expected = F.cross_entropy(logits[rows], classes[rows])
    torch.testing.assert_close(label_cross_entropy(logits, labels, exclusive=True), expected)


@pytest.mark.parametrize("exclusive", [False, True])
def test_nothing_known_is_zero_with_a_gradient_path(exclusive):
    logits = torch.randn(2, 3, requires_grad=True)
    value = label_cross_entropy(logits, torch.full((2, 3), NAN), exclusive=exclusive)
    assert value.item() == 0
    value.backward()
    assert not logits.grad.any()


def test_smooth_labels_and_other_number_types():
    value = label_cross_entropy(torch.zeros(1, 1, dtype=torch.bfloat16), torch.tensor([[0.7]], dtype=torch.float64))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(0.6931, abs=1e-4)


def test_the_module_carries_its_weight_along_and_shapes_are_checked():
    loss = LabelCrossEntropyLoss(torch.tensor([2.0, 1.0]))
    assert loss.double().weight.dtype == torch.float64
    assert loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])).item() == pytest.approx(1.5 * 0.693147, abs=1e-5)
    with pytest.raises(ValueError, match=r"must have the shape of logits, .*got \(1, 3\) and \(1, 2\)"):
        loss(torch.zeros(1, 2), torch.zeros(1, 3))
