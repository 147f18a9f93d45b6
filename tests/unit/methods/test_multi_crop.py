"""Crops of several sizes: which network sees which, in how many passes, and which view follows which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_anat.losses import DistillationCenter, self_distillation
from monai_anat.losses.multi_view import distinct_pairs
from monai_anat.methods.multi_crop import distill_views, embed_crops, embed_views
from monai_anat.networks import PrototypeHead


class Counted(nn.Module):
    """A backbone of one number per pixel, which keeps the shapes of what it saw."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return self.factor * x


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spatial", [(4, 6), (4, 2, 6)])
def test_crops_of_one_size_share_a_pass_and_come_back_one_by_one(spatial: tuple[int, ...]) -> None:
    network, crops = Counted(), randn(3, 5, 2, *spatial)
    embeddings = embed_crops(network, crops)
    assert network.seen == [(15, 2, *spatial)]
    assert len(embeddings) == 5
    for number, embedding in enumerate(embeddings):
        torch.testing.assert_close(embedding, crops[:, number].flatten(2).mean(2))


def test_the_student_sees_all_views_and_the_teacher_the_large_ones() -> None:
    student, teacher = Counted(2.0), Counted(3.0)
    view_1, view_2, local = randn(2, 1, 8, 8), randn(2, 1, 8, 8, seed=1), randn(2, 4, 1, 4, 4, seed=2)
    learned, taught = embed_views(student, teacher, view_1, view_2, local)
    assert student.seen == [(4, 1, 8, 8), (8, 1, 4, 4)]
    assert teacher.seen == [(4, 1, 8, 8)]
    views = [view_1, view_2, *local.unbind(1)]
    torch.testing.assert_close(torch.stack(learned), torch.stack([2 * view.mean((2, 3)) for view in views]))
    torch.testing.assert_close(torch.stack(taught), torch.stack([3 * view.mean((2, 3)) for view in views[:2]]))
    assert all(embedding.requires_grad for embedding in learned)
    assert not any(embedding.requires_grad for embedding in taught)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_term_is_the_mean_over_the_pairs_and_the_center_takes_note(frozen: bool) -> None:
    torch.manual_seed(0)
    heads = [PrototypeHead(6, 10, hidden_features=8, bottleneck_features=4) for _ in range(2)]
    center = DistillationCenter(10)
    center.center.copy_(0.1 * randn(10))
    student, teacher = randn(4, 3, 6), randn(2, 3, 6, seed=1)
    pairs, before = distinct_pairs(2, 4), center.center.clone()
    term = distill_views((heads[0], heads[1]), center, student.unbind(), teacher.unbind(), (0.1, 0.04), pairs, frozen)
    slow = [self_distillation(heads[0](student[s]), heads[1](teacher[t]), before, 0.1, 0.04) for t, s in pairs]
    torch.testing.assert_close(term, torch.stack(slow).mean())
    term.backward()
    assert all(parameter.grad is None for parameter in heads[1].parameters())
    assert (heads[0].last_layer.weight_v.grad is None) == frozen
    assert heads[0].mlp[0].weight.grad is not None
    center.update()
    torch.testing.assert_close(center.center, 0.9 * before + 0.1 * heads[1](teacher.flatten(0, 1)).mean(0))


def test_misfits_are_refused(cell_backbone: Callable[..., Any]) -> None:
    network, view = cell_backbone(4), torch.zeros(2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"local_views must be \(B, V, C, h, w\[, d\]\), got \(2, 1, 8, 8\)"):
        embed_crops(network, view)
    with pytest.raises(ValueError, match=r"one shape, got \(2, 1, 8, 8\) and \(1, 1, 8, 8\)"):
        embed_views(network, network, view, view[:1], view[:, None])
