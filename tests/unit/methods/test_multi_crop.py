"""Embeddings of crops of several sizes: which network sees which crop, and in how many passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_anat.methods.multi_crop import embed_crops, embed_views


class Counted(nn.Module):
    """A backbone that scales the image and records the shapes of its inputs."""

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


def test_misfits_are_refused(cell_backbone: Callable[..., Any]) -> None:
    network, view = cell_backbone(4), torch.zeros(2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"local_views must be \(B, V, C, h, w\[, d\]\), got \(2, 1, 8, 8\)"):
        embed_crops(network, view)
    with pytest.raises(ValueError, match=r"one shape, got \(2, 1, 8, 8\) and \(1, 1, 8, 8\)"):
        embed_views(network, network, view, view[:1], view[:, None])
