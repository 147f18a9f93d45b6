"""The prototype head scores directions by cosines, and its prototypes can be held still."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.networks.heads.prototypes import PrototypeHead


def tiny_head() -> PrototypeHead:
    torch.manual_seed(0)
    head = PrototypeHead(6, 12, hidden_features=10, bottleneck_features=4)
    for parameter in head.parameters():  # away from the small initial weights, so that the layers matter
        torch.nn.init.normal_(parameter, std=0.5)
    return head


def embeddings_of(rows: int = 5) -> Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(1))


def test_layout_is_that_of_the_published_files() -> None:
    keys = {f"mlp.{number}.{kind}" for number in (0, 2, 4) for kind in ("weight", "bias")}
    head = PrototypeHead(6, 12, hidden_features=10, bottleneck_features=4)
    assert set(head.state_dict()) == keys | {"last_layer.weight_v"}
    assert head.last_layer.weight_v.shape == (12, 4)
    assert (head.in_features, head.num_prototypes) == (6, 12)


def test_the_head_of_the_papers_has_its_published_size() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in PrototypeHead(1024).parameters())
    assert round(count / 1e6, 1) == 23.6  # 23.7 with the 65536 constant lengths of the released file


def test_scores_are_cosines_with_the_prototypes() -> None:
    head, x = tiny_head(), embeddings_of()
    scores, prototypes = head(x), head.last_layer.weight_v
    expected = F.cosine_similarity(head.mlp(x)[:, None], prototypes[None], dim=2)
    torch.testing.assert_close(scores, expected)
    assert scores.abs().max() <= 1 + 1e-6
    with torch.no_grad():
        prototypes.mul_(torch.rand(12, 1) + 0.5)  # the length of a prototype does not matter
    torch.testing.assert_close(head(x), scores)


def test_rows_do_not_see_each_other_so_views_may_share_a_forward() -> None:
    head, x = tiny_head(), embeddings_of()
    torch.testing.assert_close(head(x), torch.cat([head(x[:2]), head(x[2:])]))


def test_frozen_prototypes_get_no_gradient_and_give_the_same_scores() -> None:
    head, x = tiny_head(), embeddings_of()
    frozen, moving = head(x, frozen_prototypes=True), head(x)
    assert torch.equal(frozen, moving)
    (frozen * embeddings_of(60).reshape(5, 12, 6).sum(2)).sum().backward()
    assert head.last_layer.weight_v.grad is None
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in head.mlp.parameters())
    (moving * embeddings_of(60).reshape(5, 12, 6).sum(2)).sum().backward()
    assert head.last_layer.weight_v.grad.abs().max() > 0


def test_a_vanishing_bottleneck_is_finite() -> None:
    head = tiny_head()
    with torch.no_grad():
        for parameter in head.mlp.parameters():
            parameter.zero_()
    scores = head(embeddings_of())
    scores.sum().backward()
    assert torch.equal(scores, torch.zeros(5, 12))
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_gradients_are_exact() -> None:
    head = tiny_head().double()
    assert torch.autograd.gradcheck(head, embeddings_of().double().requires_grad_())


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"all widths must be at least 1, got .*num_prototypes=0"):
        PrototypeHead(6, 0)
