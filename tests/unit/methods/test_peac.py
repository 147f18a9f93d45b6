"""PEAC: two crops on one grid with matching cells, and the wiring of the four terms."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.keys import PAIR_COUNT
from monai_anat.methods import PEACMethod, RandPEACViewsd
from monai_anat.networks import ResNetBackbone, SwinBackbone, ViTBackbone
from monai_anat.schedules import Progress
from monai_anat.transforms import RandDistort, split_cells
from monai_anat.transforms.patch_shuffle import restore_patches

START = Progress(0, 1, 0, 1)
NO_DISTORTION = RandDistort(shuffle_prob=0.0, bezier_prob=0.0, paint_prob=0.0)
TERMS = {"order", "restoration", "global_consistency", "local_consistency"}


def tiny_method(**options: Any) -> PEACMethod:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    return PEACMethod(backbone, **{"image_size": 16, "global_dim": 24, "local_dim": 12, **options})


#: used by the contract tests
CASE = SimpleNamespace(
    method=tiny_method,
    views=lambda: RandPEACViewsd(grid_size=4, cell_size=4, margin=1),
    image=lambda seed: np.random.RandomState(seed).randint(0, 256, (1, 23, 21)).astype(np.uint8),
)


def image_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def batch_of(views: RandPEACViewsd, images: list[Any]) -> dict[str, Tensor]:
    samples = [views.set_random_state(seed)({"image": image}) for seed, image in enumerate(images)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def mixed_batch(size: int = 6) -> dict[str, Tensor]:
    batch = batch_of(CASE.views(), [CASE.image(seed) for seed in range(size)])
    shuffled = (batch["correspondence"] < 0).all(1)
    assert 0 < int(shuffled.sum()) < size
    return batch


def moved_teacher(method: PEACMethod) -> PEACMethod:
    """The method in evaluation mode with a teacher that differs from its student."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (p for _, teacher in method.student_teacher_pairs() for p in teacher.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return method.eval()


# ---------------------------------------------------------------------- views


@pytest.mark.parametrize("shape", [(1, 26, 29), (2, 24, 24), (1, 25, 24, 30)])
def test_matching_cells_show_the_same_pixels(shape: tuple[int, ...]) -> None:
    views, image, dims = (
        RandPEACViewsd(grid_size=4, cell_size=4, margin=2, distort_prob=1.0),
        image_of(*shape),
        len(shape) - 1,
    )
    places = set()
    for seed in range(30):
        sample = views.set_random_state(seed)({"image": image})
        cells_1, cells_2 = (split_cells(sample[name], 4, dims) for name in ("target", "view_2"))
        matched = sample["correspondence"] >= 0
        assert torch.equal(cells_1[matched], cells_2[sample["correspondence"][matched]])
        apart = [abs(a - b) for a, b in zip(views.crops.offset_1, views.crops.offset_2, strict=True)]
        assert int(matched.sum()) == int(np.prod([4 - a for a in apart]))
        places.add((views.crops.offset_1, views.crops.offset_2))
    assert len(places) > 20


def test_unmatched_cells_show_other_pixels() -> None:
    views, image = RandPEACViewsd(grid_size=4, cell_size=4, margin=2, distort_prob=1.0), image_of(1, 24, 24)
    for seed in range(10):
        sample = views.set_random_state(seed)({"image": image})
        cells_1, cells_2 = (split_cells(sample[name], 4, 2).flatten(1) for name in ("target", "view_2"))
        equal = (cells_1[:, None] == cells_2[None]).all(2)  # (N, N)
        assert torch.equal(equal.any(1), sample["correspondence"] >= 0)


def test_every_crop_lies_where_the_draw_says_and_only_view_1_is_corrupted() -> None:
    views, image = RandPEACViewsd(grid_size=4, cell_size=4, margin=1), image_of(1, 23, 21)
    kinds = set()
    for seed in range(20):
        sample = views.set_random_state(seed)({"image": image})
        clean = (image - 0.5056) / 0.252
        for name, offset in (("target", views.crops.offset_1), ("view_2", views.crops.offset_2)):
            row, column = (o + 4 * f for o, f in zip(views.crops.origin, offset, strict=True))
            torch.testing.assert_close(sample[name], clean[:, row : row + 16, column : column + 16])
        shuffled = views.corruptions[0].order is not None
        kinds.add(shuffled)
        if shuffled:
            assert torch.equal(restore_patches(sample["view_1"], sample["order"], 4), sample["target"])
            assert (sample["correspondence"] == -1).all()
            assert sample["order"].tolist() != list(range(16))
        else:
            assert not torch.equal(sample["view_1"], sample["target"])
            assert (sample["correspondence"] >= 0).any()
            assert sample["order"].tolist() == list(range(16))
    assert kinds == {True, False}


def test_the_grid_of_the_paper() -> None:
    views, image = RandPEACViewsd(distorter=NO_DISTORTION), np.zeros((1, 608, 608), np.uint8)
    views.set_random_state(0)
    origins, offsets, pairs = [], [], []
    for _ in range(400):
        sample = views({"image": image})
        origins.append(views.crops.origin)
        offsets += [views.crops.offset_1, views.crops.offset_2]
        if views.corruptions[0].order is None:
            pairs.append(int((sample["correspondence"] >= 0).sum()))
    assert sample["view_1"].shape == (1, 448, 448)
    assert (np.min(origins), np.max(origins)) == (0, 32)
    assert (np.min(offsets), np.max(offsets)) == (0, 4)
    assert min(pairs) >= 100
    assert np.mean(pairs) / 196 == pytest.approx(0.784, abs=0.02)
    assert 0.42 < len(pairs) / 400 < 0.58


def test_both_views_corrupted_is_the_variant_without_local_loss() -> None:
    views, image = RandPEACViewsd(grid_size=4, cell_size=4, margin=3, corrupt="both"), image_of(1, 30, 30)
    kinds = set()
    for seed in range(20):
        sample = views.set_random_state(seed)({"image": image})
        first, second = views.corruptions
        kinds.add(first.order is not None)
        if first.order is not None:
            row, column = (o + 4 * f for o, f in zip(views.crops.origin, views.crops.offset_2, strict=True))
            clean_2 = (image[:, row : row + 16, column : column + 16] - 0.5056) / 0.252
            torch.testing.assert_close(restore_patches(sample["view_2"], sample["order"], 4), clean_2)
            assert (sample["correspondence"] == -1).all()
        else:
            assert second.distortion is not None
            assert second.distortion is not first.distortion
    assert kinds == {True, False}


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_codes_and_their_gray_levels_give_the_same_views(prob: float) -> None:
    codes = np.random.RandomState(0).randint(0, 256, (1, 40, 40)).astype(np.uint8)
    views = RandPEACViewsd(grid_size=4, cell_size=8, margin=1, distort_prob=prob)
    for seed in range(5):
        first, second = (
            views.set_random_state(seed)({"image": image}) for image in (codes, (codes / 255).astype(np.float32))
        )
        for name in first:
            torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-5)


def test_same_seed_same_views_also_after_pickling() -> None:
    views = CASE.views()
    copy = pickle.loads(pickle.dumps(views))
    for seed in range(6):
        first, second, third = (v.set_random_state(seed)({"image": CASE.image(0)}) for v in (views, views, copy))
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert all(torch.equal(first[name], third[name]) for name in first)


def test_views_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"at least \(576, 576\).*got \(575, 600\)"):
        RandPEACViewsd()({"image": image_of(1, 575, 600)})
    with pytest.raises(ValueError, match=r"margin must be .* less than grid_size.* margin=14 and grid_size=14"):
        RandPEACViewsd(margin=14)
    with pytest.raises(ValueError, match=r'corrupt must be "first" \(PEAC\) or "both" \(PEAC\^-1\), got \'second\''):
        RandPEACViewsd(corrupt="second")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"distort_prob must be a probability"):
        RandPEACViewsd(distort_prob=-0.1)


# ---------------------------------------------------------------------- wiring


def slow_terms(method: PEACMethod, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The formulas, with one forward pass per network, view and sample."""
    student = {"backbone": method.backbone, "global_head": method.global_head, "local_head": method.local_head}
    count = len(batch["order"])
    out: dict[str, list[Any]] = {name: [] for name in ("s1", "s2", "t1", "t2")}
    for who, networks in (("s", student), ("t", method.teacher)):
        for view in ("1", "2"):
            for b in range(count):
                feature_map = networks["backbone"](batch[f"view_{view}"][b : b + 1])
                tokens = feature_map[0].flatten(1).T  # (N, D)
                glob = F.normalize(networks["global_head"](tokens.mean(0)), dim=0)
                out[who + view].append((feature_map, tokens, glob, networks["local_head"](tokens)))
    orders, errors, glob, squares = [], [], [], []
    for b in range(count):
        scores = method.order_head(out["s1"][b][1])
        orders.append(F.cross_entropy(scores, batch["order"][b]))
        errors.append((method.restoration_head(out["s1"][b][0])[0] - batch["target"][b]).square().mean())
        glob.append(
            (out["s1"][b][2] - out["t2"][b][2]).square().sum() + (out["s2"][b][2] - out["t1"][b][2]).square().sum()
        )
        for i, j in enumerate(batch["correspondence"][b].tolist()):
            if j >= 0:
                squares.append((out["s1"][b][3][i] - out["t2"][b][3][j]).square().mean())
                squares.append((out["s2"][b][3][j] - out["t1"][b][3][i]).square().mean())
    named = {"order": orders, "restoration": errors, "global_consistency": glob, "local_consistency": squares}
    return {name: torch.stack(values).mean() for name, values in named.items()}


def test_terms_equal_slow_separate_formulas() -> None:
    torch.manual_seed(0)
    method, batch = moved_teacher(tiny_method()), mixed_batch()
    terms, slow = method(batch, START), slow_terms(method, batch)
    assert set(terms) == TERMS
    for name in TERMS:
        torch.testing.assert_close(terms[name], slow[name], rtol=1e-5, atol=1e-5, msg=name)
    # wrong wiring gives other values: the formulas distinguish views, and student from teacher
    swapped = slow_terms(method, {**batch, "view_1": batch["view_2"], "view_2": batch["view_1"]})
    for name in TERMS - {"global_consistency"}:  # which is symmetric
        assert abs(swapped[name] - slow[name]) > 1e-4, name
    one_view = slow_terms(method, {**batch, "view_2": batch["view_1"]})
    assert abs(one_view["global_consistency"] - slow["global_consistency"]) > 1e-4


@pytest.mark.parametrize("training", [False, True])
def test_batch_normalization_sees_each_view_alone(training: bool) -> None:
    torch.manual_seed(0)
    method = PEACMethod(ResNetBackbone(depth=18), image_size=64, global_dim=16, local_dim=8).train(training)
    batch = batch_of(RandPEACViewsd(grid_size=2, cell_size=32, margin=1, distort_prob=1.0), [image_of(1, 96, 96)] * 4)
    with torch.no_grad():
        maps = [method.backbone(batch[name]) for name in ("view_1", "view_2")]
        teachers = [method.teacher["backbone"](batch[name]) for name in ("view_1", "view_2")]
        s1, s2 = (method.global_head(m.mean((2, 3))) for m in maps)
        t1, t2 = (method.teacher["global_head"](m.mean((2, 3))) for m in teachers)
        expected = (4 - 2 * F.cosine_similarity(s1, t2) - 2 * F.cosine_similarity(s2, t1)).mean()
        torch.testing.assert_close(method(batch, START)["global_consistency"], expected, rtol=1e-4, atol=1e-5)


def identity_heads(method: PEACMethod) -> PEACMethod:
    for name in ("global_head", "local_head"):
        setattr(method, name, nn.Identity())
        method.teacher[name] = nn.Identity()
    return method


@pytest.mark.parametrize("dims", [2, 3])
def test_an_encoder_that_sees_cells_gives_zero_only_with_the_right_matching(
    dims: int, cell_backbone: Callable[..., Any]
) -> None:
    method = identity_heads(PEACMethod(cell_backbone(4, spatial_dims=dims), image_size=16))
    views = RandPEACViewsd(grid_size=4, cell_size=4, margin=2, distort_prob=1.0, distorter=NO_DISTORTION)
    batch = batch_of(views, [image_of(1, *[24] * dims, seed=seed) for seed in range(4)])

    def local(changed: dict[str, Tensor]) -> float:
        return method({**batch, **changed}, START)["local_consistency"].item()

    assert local({}) == pytest.approx(0.0, abs=1e-10)
    assert local({"view_1": batch["view_2"], "view_2": batch["view_1"]}) > 0.1
    transposed = batch["correspondence"].unflatten(1, [4] * dims).transpose(1, 2).flatten(1)
    assert local({"correspondence": transposed}) > 0.1
    assert local({"view_2": batch["view_2"].transpose(2, 3)}) > 0.1


def test_equal_views_have_no_global_distance_and_opposite_ones_four_per_direction(
    cell_backbone: Callable[..., Any],
) -> None:
    method = identity_heads(PEACMethod(cell_backbone(4), image_size=16))
    batch = batch_of(
        RandPEACViewsd(grid_size=4, cell_size=4, margin=1, distorter=NO_DISTORTION), [image_of(1, 20, 20)] * 2
    )
    same = {**batch, "view_1": batch["view_2"]}
    assert method(same, START)["global_consistency"].item() == pytest.approx(0.0, abs=1e-10)
    opposite = {**batch, "view_1": -batch["view_2"]}
    assert method(opposite, START)["global_consistency"].item() == pytest.approx(8.0, rel=1e-6)


def test_the_order_target_is_the_original_place(
    cell_backbone: Callable[..., Any], reads_cell_number: Callable[..., Any], numbered: Callable[..., Any]
) -> None:
    method = PEACMethod(cell_backbone(4), image_size=16, global_dim=8, local_dim=8)
    method.order_head = reads_cell_number(16)
    views = RandPEACViewsd(grid_size=4, cell_size=4, margin=0, distort_prob=0.0)
    views.normalize = lambda pixels: pixels.float()  # type: ignore[method-assign]  # the pixels are cell numbers
    batch = batch_of(views, [numbered((4, 4))] * 3)
    assert method(batch, START)["order"].item() == pytest.approx(0.0, abs=1e-6)
    assert method({**batch, "order": batch["order"].argsort(1)}, START)["order"].item() > 1.0


def test_a_batch_without_pairs_trains_without_local_term() -> None:
    method = tiny_method()
    views = RandPEACViewsd(grid_size=4, cell_size=4, margin=1, distort_prob=0.0)
    batch = batch_of(views, [CASE.image(seed) for seed in range(2)])
    terms = method(batch, START)
    assert terms["local_consistency"] == 0.0
    sum(terms.values()).backward()
    gradients = [p.grad for p in method.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_shuffled_samples_do_not_change_the_local_term() -> None:
    method, batch = tiny_method().eval(), mixed_batch()
    kept = (batch["correspondence"] >= 0).any(1)
    without = {name: value[kept] for name, value in batch.items()}
    torch.testing.assert_close(
        method(batch, START)["local_consistency"], method(without, START)["local_consistency"], rtol=1e-5, atol=1e-6
    )


def test_counts_are_the_matched_pairs_and_the_term_divides_by_them() -> None:
    method, batch = tiny_method().eval(), mixed_batch()
    counts = method.loss_denominators(batch)
    assert set(counts) == {PAIR_COUNT}
    assert counts[PAIR_COUNT] == (batch["correspondence"] >= 0).sum()
    half = method({**batch, PAIR_COUNT: counts[PAIR_COUNT] / 2}, START)["local_consistency"]
    torch.testing.assert_close(half, 2 * method(batch, START)["local_consistency"])


# ---------------------------------------------------------------------- arguments


def test_defaults_are_the_published_weights() -> None:
    weights = tiny_method().loss_weights
    assert weights == {"order": 1.0, "restoration": 1.0, "global_consistency": 1e5 / 8192, "local_consistency": 1.0}


def test_a_weight_of_zero_leaves_the_head_away_on_both_sides() -> None:
    method, batch = tiny_method(local_weight=0.0), mixed_batch()
    assert set(method.teacher) == {"backbone", "global_head"}
    assert not hasattr(method, "local_head")
    assert method.loss_denominators(batch) == {}
    without = {name: value for name, value in batch.items() if name != "correspondence"}
    assert set(method(without, START)) == TERMS - {"local_consistency"}
    method = tiny_method(global_weight=0.0, order_weight=0.0, restoration_weight=0.0)
    assert set(method.teacher) == {"backbone", "local_head"}
    assert set(method(batch, START)) == {"local_consistency"}
    with pytest.raises(ValueError, match=r"global_weight or local_weight must be positive.*POPARMethod"):
        tiny_method(global_weight=0.0, local_weight=0.0)


def test_pairs_are_the_backbone_and_the_projection_heads() -> None:
    method = tiny_method()
    expected = [method.backbone, method.global_head, method.local_head]
    assert all(pair[0] is student for pair, student in zip(method.student_teacher_pairs(), expected, strict=True))
    for student, teacher in method.student_teacher_pairs():
        assert dict(student.named_parameters()).keys() == dict(teacher.named_parameters()).keys()


def test_normalized_local_embeddings_are_a_choice() -> None:
    torch.manual_seed(0)
    method, batch = moved_teacher(tiny_method()), mixed_batch()
    plain = method(batch, START)["local_consistency"]
    method.normalize_local = True
    unit = method(batch, START)["local_consistency"]
    assert abs(plain - unit) > 1e-3
    assert unit <= 4 / 12


def test_the_teacher_gets_no_gradient_and_no_graph() -> None:
    method = tiny_method()
    sum(method(mixed_batch(), START).values()).backward()
    assert all(p.grad is None for _, teacher in method.student_teacher_pairs() for p in teacher.parameters())


def test_misfits_are_refused() -> None:
    method, batch = tiny_method(), mixed_batch()
    with pytest.raises(KeyError, match=r"batch lacks \['view_2'\].*RandPEACViewsd makes them"):
        method({"view_1": batch["view_1"]}, START)
    with pytest.raises(ValueError, match=r"view_2 must be \(B, C, 16, 16\), got \(6, 1, 8, 8\)"):
        method({**batch, "view_2": batch["view_2"][:, :, :8, :8]}, START)
    with pytest.raises(ValueError, match=r"correspondence must be \(B, 16\), .* got \(6, 4\); give RandPEACViewsd"):
        method({**batch, "correspondence": batch["correspondence"][:, :4]}, START)
    with pytest.raises(ValueError, match=r"nearest is 16"):
        tiny_method(image_size=17)


# ---------------------------------------------------------------------- any backbone, 3D


@pytest.mark.parametrize(
    "backbone",
    [
        lambda: ViTBackbone(image_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2),
        lambda: SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, patch_size=4),
    ],
    ids=["vit", "swin"],
)
def test_any_backbone_trains(backbone: Callable[[], Any], one_step: Callable[..., None]) -> None:
    method = PEACMethod(backbone(), image_size=32, global_dim=16, local_dim=8)
    one_step(method, batch_of(RandPEACViewsd(grid_size=4, cell_size=8, margin=1), [image_of(1, 40, 40)] * 4))


def volume_method() -> PEACMethod:
    backbone = SwinBackbone(spatial_dims=3, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, patch_size=4)
    return PEACMethod(backbone, image_size=32, global_dim=16, local_dim=8)


def test_a_volume_trains(one_step: Callable[..., None]) -> None:
    one_step(
        volume_method(), batch_of(RandPEACViewsd(grid_size=4, cell_size=8, margin=1), [image_of(1, 40, 44, 41)] * 2)
    )


@pytest.mark.real_data
def test_a_ct_trains(ct: Callable[[int], Tensor], one_step: Callable[..., None]) -> None:
    views = RandPEACViewsd(grid_size=4, cell_size=8, margin=1)
    one_step(volume_method(), batch_of(views, [ct(48)] * 4))
