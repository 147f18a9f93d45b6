"""PLACE: slow formulas in double precision, wiring, negative controls, and error messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.keys import MATCH_COUNT, PAIR_COUNT
from monai_anat.methods import PLACEMethod, RandPLACEViewsd
from monai_anat.methods.place import inverse_match, select_subcells
from monai_anat.networks import ResNetBackbone, SwinBackbone, ViTBackbone
from monai_anat.schedules import Progress
from monai_anat.transforms import RandDistort

START = Progress(0, 1, 0, 1)
TERMS = {"order", "restoration", "coarse_contrast", "fine_contrast", "whitening"}
CLEAN = RandDistort(shuffle_prob=0.0, bezier_prob=0.0, paint_prob=0.0)


def tiny_method(**options: Any) -> PLACEMethod:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    return PLACEMethod(backbone, **{"image_size": 16, "embedding_dim": 8, **options})


#: used by the contract tests; negatives and statistics are those of the batch
CASE = SimpleNamespace(
    method=tiny_method,
    views=lambda: RandPLACEViewsd(grid_size=4, cell_size=4, margin=1),
    image=lambda seed: np.random.RandomState(seed).randint(0, 256, (1, 23, 21)).astype(np.uint8),
    keeps_batch=False,
)


def batch_of(views: RandPLACEViewsd, images: list[Any]) -> dict[str, Tensor]:
    samples = [views.set_random_state(seed)({"image": image}) for seed, image in enumerate(images)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def mixed_batch(size: int = 5) -> dict[str, Tensor]:
    batch = batch_of(CASE.views(), [CASE.image(seed) for seed in range(size)])
    assert 0 < int((batch["correspondence"] < 0).all(1).sum()) < size
    return batch


def moved_teacher(method: PLACEMethod) -> PLACEMethod:
    """The method in evaluation mode with a teacher that differs from its student."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (p for _, teacher in method.student_teacher_pairs() for p in teacher.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return method.eval()


def slow_direction(query: Tensor, keys: Tensor, places: Tensor, match: Tensor) -> Tensor:
    """The contrast of one direction by loops, from embeddings (B, N, E) and positions (B, N, d)."""
    losses = []
    images, cells = match.shape
    for b in range(images):
        for i in range(cells):
            a = int(match[b, i])
            if a < 0:
                continue
            positive = query[b, i] @ keys[b, a] / 0.2
            total = positive.exp()
            for c in range(images):
                for j in range(cells):
                    if (c, j) != (b, a):
                        distance = (places[b, a] - places[c, j]).square().sum()
                        total = (
                            total + (1 - torch.exp(-distance / (2 * 0.06**2))) * (query[b, i] @ keys[c, j] / 0.2).exp()
                        )
            losses.append(total.log() - positive)
    return torch.stack(losses).mean()


def test_all_terms_equal_slow_formulas() -> None:
    torch.manual_seed(0)
    method = moved_teacher(tiny_method()).double()
    batch = {k: v.double() if v.is_floating_point() else v for k, v in mixed_batch(3).items()}
    terms = method(batch, START)
    student, teacher = method.backbone, method.teacher["backbone"]
    s1, s2 = student.forward_features(batch["view_1"]), student.forward_features(batch["view_2"])
    t1, t2 = teacher.forward_features(batch["target"]), teacher.forward_features(batch["view_2"])
    images, cells = batch["match"].shape
    back = torch.full((images, cells), -1)
    for b in range(images):
        for i, a in enumerate(batch["match"][b].tolist()):
            if a >= 0:
                back[b, a] = i
    for name, part, level in (("coarse_contrast", method.coarse, 1), ("fine_contrast", method.fine, 0)):
        factor = 1 if level else 2
        rows = {}
        places = {"1": batch["position_1"].clone(), "2": batch["position_2"].clone()}
        for key, maps, network in (
            ("s1", s1, part.projection),
            ("s2", s2, part.projection),
            ("t1", t1, part.teacher_projection),
            ("t2", t2, part.teacher_projection),
        ):
            out = torch.zeros(images, cells, 8, dtype=torch.float64)
            for b in range(images):
                for i in range(cells):
                    source = i if key[1] == "1" else (int(back[b, i]) if back[b, i] >= 0 else i)
                    sub = (batch["subcells"][b, source] * factor).long()
                    row, column = i // 4 * factor + int(sub[0]), i % 4 * factor + int(sub[1])
                    out[b, i] = F.normalize(network(maps[level][b, :, row, column]), dim=0)
                    if key[0] == "t":
                        side = torch.tensor([4 / 23, 4 / 21], dtype=torch.float64)
                        centre = batch[f"position_{key[1]}"][b, i]
                        places[key[1]][b, i] = centre + ((sub + 0.5) / factor - 0.5) * side
            rows[key] = out
        forth = slow_direction(rows["s1"], rows["t2"], places["2"], batch["correspondence"])
        both = (forth + slow_direction(rows["s2"], rows["t1"], places["1"], back)) / 2
        torch.testing.assert_close(terms[name], both, rtol=1e-5, atol=1e-5)
    order = F.cross_entropy(method.order_head(s1[-1].flatten(2).mT).flatten(0, 1), batch["order"].flatten())
    torch.testing.assert_close(terms["order"], order)
    restored = method.restoration_head(s1[-1])
    torch.testing.assert_close(terms["restoration"], F.mse_loss(restored, batch["target"]))
    tokens = s2[-1].flatten(2).mT.flatten(0, 1)
    tokens = (tokens - tokens.mean(1, keepdim=True)) / (tokens.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    covariance = torch.cov(tokens.T)
    variance = (1 - (covariance.diag() + 1e-4).sqrt()).clamp(min=0).mean()
    off = (covariance.square().sum() - covariance.diag().square().sum()) / tokens.shape[1]
    torch.testing.assert_close(terms["whitening"], variance + 0.04 * off, rtol=1e-4, atol=1e-5)


def placed(grid: int = 4, cell: int = 4) -> tuple[PLACEMethod, dict[str, Tensor]]:
    """A method with coordinate encoders: each embedding is a code of the position in the image."""
    views = RandPLACEViewsd(
        grid_size=grid, cell_size=cell, margin=2, distort_prob=1.0, distorter=CLEAN, mean=0.0, std=1.0
    )
    axes = [(torch.arange(side) + 0.5) / side for side in (26, 26)]
    image = torch.stack(torch.meshgrid(*axes, indexing="ij")).float()
    batch = batch_of(views, [image] * 3)

    class Coordinates(nn.Module):
        """Random Fourier features of the mean coordinates of a token's pixels."""

        def forward(self, tokens: Tensor) -> Tensor:
            frequencies = 12 * torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
            place = tokens.unflatten(2, (2, -1)).mean(3)  # pixels of a cell, channel-major
            return torch.cat([(place @ frequencies).sin(), (place @ frequencies).cos()], 2)

    class Cells(nn.Module):
        """Two maps: the pixels of cells of half the side, and of whole cells."""

        def forward_features(self, x: Tensor) -> list[Tensor]:
            maps = []
            for side in (cell // 2, cell):
                rows = x.unfold(2, side, side).unfold(3, side, side)  # (B, 2, h, w, side, side)
                maps.append(rows.permute(0, 1, 4, 5, 2, 3).flatten(1, 3))
            return maps

    method = tiny_method(
        order_weight=0.0, restoration_weight=0.0, whitening_weight=0.0, sigma=0.02, temperature=0.05
    ).eval()
    method.backbone = Cells()  # type: ignore[assignment]
    method.teacher["backbone"] = Cells()
    method.backbone.strides = (cell // 2, cell)  # type: ignore[assignment]
    for part in (method.coarse, method.fine):
        part.projection = part.teacher_projection = Coordinates()  # type: ignore[assignment]
    return method, batch


def test_coordinate_encoders_are_nearly_perfect_and_wrong_matches_hurt() -> None:
    method, batch = placed()
    right = method(batch, START)
    assert max(right.values()) < 0.1
    square = batch["match"].unflatten(1, (4, 4))
    shifted = torch.where(square >= 0, (square % 4) * 4 + square // 4, -1).flatten(1)  # rows and columns exchanged
    wrong = method({**batch, "match": shifted, "correspondence": shifted}, START)
    for name in right:
        assert wrong[name] > right[name] + 1, name
    other = {**batch, "view_2": batch["view_2"].flip(0)}
    assert (batch["position_2"] != batch["position_2"].flip(0)).any()
    for name, term in method(other, START).items():
        assert term > right[name] + 0.5, name


def test_negatives_at_the_position_of_the_match_are_left_out() -> None:
    method, batch = placed()
    for name in ("position_1", "position_2", "subcells", "match", "correspondence", "view_1", "view_2", "target"):
        batch[name] = batch[name][:1].expand(3, *batch[name].shape[1:]).clone()  # the same crops of three patients
    for term in method(batch, START).values():
        assert term < 0.1


def test_a_permutation_of_the_images_changes_nothing() -> None:
    torch.manual_seed(0)
    method, batch = moved_teacher(tiny_method()), mixed_batch()
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = method({key: value[order] for key, value in batch.items()}, START)
    for name, term in method(batch, START).items():
        torch.testing.assert_close(moved[name], term, rtol=1e-5, atol=1e-5)


def test_inverse_match_and_subcells() -> None:
    match = torch.tensor([[2, -1, 0, -1], [-1, -1, -1, -1]])
    assert inverse_match(match).tolist() == [[2, -1, 0, -1], [-1, -1, -1, -1]]
    volume = torch.arange(2.0 * 4 * 6).view(1, 1, 2, 4, 6)
    parts = torch.zeros(1, 1 * 2 * 3, 3, dtype=torch.long)
    parts[0, 4] = torch.tensor([1, 1, 0])  # cell (0, 1, 1) of 2 x 2 x 2 tokens: token (1, 3, 2)
    tokens = select_subcells(volume, parts, (1, 2, 3))
    assert tokens[0, 4].item() == volume[0, 0, 1, 3, 2]
    assert tokens[0, 1].item() == volume[0, 0, 0, 0, 2]


@pytest.mark.parametrize(
    ("backbone", "fine"),
    [(ViTBackbone(image_size=16, patch_size=4, embed_dim=16, depth=1, num_heads=2), False), (None, True)],
)
def test_backbones_with_one_map_train_without_the_fine_term(backbone: Any, fine: bool) -> None:
    method = tiny_method() if backbone is None else PLACEMethod(backbone, image_size=16, embedding_dim=8)
    assert set(method(mixed_batch(), START)) == (TERMS if fine else TERMS - {"fine_contrast"})
    assert hasattr(method, "fine") == fine


def test_a_resnet_has_a_fine_map_two_stages_before_the_last() -> None:
    method = PLACEMethod(ResNetBackbone(depth=18), image_size=64, embedding_dim=8)
    views = RandPLACEViewsd(grid_size=2, cell_size=32, margin=1)
    batch = batch_of(views, [CASE.image(seed).repeat(6, 1).repeat(6, 2) for seed in range(4)])
    terms = method(batch, START)
    assert method.backbone.strides[method.fine_map] == 8
    assert set(terms) == TERMS and all(torch.isfinite(term) for term in terms.values())


def test_a_volume_trains() -> None:
    torch.manual_seed(0)
    backbone = SwinBackbone(spatial_dims=3, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, patch_size=2)
    method = PLACEMethod(backbone, image_size=8, embedding_dim=8)
    views = RandPLACEViewsd(grid_size=2, cell_size=4, margin=1)
    terms = method(batch_of(views, [torch.rand(1, 14, 13, 15) for _ in range(4)]), START)
    sum(terms.values()).backward()
    assert set(terms) == TERMS and all(torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize(
    ("weight", "term", "head"),
    [
        ("order_weight", "order", "order_head"),
        ("restoration_weight", "restoration", "restoration_head"),
        ("coarse_weight", "coarse_contrast", "coarse"),
        ("fine_weight", "fine_contrast", "fine"),
        ("whitening_weight", "whitening", None),
    ],
)
def test_a_weight_of_zero_disables_term_and_head(weight: str, term: str, head: str | None) -> None:
    method = tiny_method(**{weight: 0.0})
    assert head is None or not hasattr(method, head)
    assert set(method(mixed_batch(), START)) == TERMS - {term}


def test_counts_are_the_matched_cells_of_both_directions() -> None:
    method, batch = moved_teacher(tiny_method()), mixed_batch()
    counts = method.loss_denominators(batch)
    assert counts[PAIR_COUNT] == (batch["correspondence"] >= 0).sum()
    assert counts[MATCH_COUNT] == (batch["match"] >= 0).sum() > counts[PAIR_COUNT]
    half = method({**batch, **{key: value / 2 for key, value in counts.items()}}, START)
    whole = method(batch, START)
    for name in ("coarse_contrast", "fine_contrast"):
        torch.testing.assert_close(half[name], 2 * whole[name])


def test_a_batch_of_shuffled_samples_has_one_direction() -> None:
    method, batch = moved_teacher(tiny_method()), mixed_batch()
    batch["correspondence"] = torch.full_like(batch["correspondence"], -1)
    terms = method(batch, START)
    assert terms["coarse_contrast"] > 0
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_the_teacher_gets_no_gradient_and_is_exported() -> None:
    method = tiny_method()
    sum(method(mixed_batch(), START).values()).backward()
    assert all(p.grad is None for _, teacher in method.student_teacher_pairs() for p in teacher.parameters())
    assert method.export_networks() == {"encoder": method.teacher["backbone"]}
    assert [student for student, _ in method.student_teacher_pairs()] == [
        method.backbone,
        method.coarse.projection,
        method.fine.projection,
    ]


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"coarse_weight or fine_weight must be positive, got 0 for both"):
        tiny_method(coarse_weight=0.0, fine_weight=0.0)
    with pytest.raises(ValueError, match=r"temperature and sigma must be positive, got 0.2 and 0"):
        tiny_method(sigma=0.0)
    batch = mixed_batch()
    with pytest.raises(ValueError, match=r"match must be \(B, 16\)"):
        tiny_method()({**batch, "match": batch["match"][:, :9]}, START)
    with pytest.raises(KeyError, match=r"batch lacks \['position_1'\].*RandPLACEViewsd makes them"):
        tiny_method()({key: value for key, value in batch.items() if key != "position_1"}, START)
