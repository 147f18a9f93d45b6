"""Lamps: wiring of the objectives, their turns, and error messages."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.keys import PAIR_COUNT
from monai_anat.methods import LampsMethod, RandLampsViewsd
from monai_anat.networks import Backbone, ResNetBackbone, SwinBackbone, ViTBackbone
from monai_anat.schedules import Progress
from monai_anat.transforms import RandAppearance, RandElastic, split_cells

START = Progress(0, 1, 0, 1)
TERMS = {
    "consistency": {"distillation", "local_consistency"},
    "extrapolation": {"extrapolation"},
    "order": {"order", "order_consistency"},
    "hierarchy": {"composition", "decomposition"},
}
OBJECTIVES = list(TERMS)
SAME = RandAppearance(jitter_prob=0.0, blur_prob=0.0)
SMALL = {
    "image_size": 16,
    "alternate": "none",
    "kept": 2,
    "local_dim": 12,
    "num_prototypes": 20,
    "prototype_hidden": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "frozen_prototype_epochs": 0,
}
#: a tiny prototype head starts near 0, where a small step reverses its unit vectors
STEADY = {"distillation_weight": 0.0}


def tiny_backbone() -> SwinBackbone:
    return SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)


def tiny_method(**options: Any) -> LampsMethod:
    return tiny_method_of(tiny_backbone(), **options)


def tiny_method_of(backbone: Backbone, **options: Any) -> LampsMethod:
    return LampsMethod(backbone, **{**SMALL, **options})


def tiny_views(**options: Any) -> RandLampsViewsd:
    small = RandElastic(magnitude=8.0, smoothness=2.0, affine=1.0)
    return RandLampsViewsd(**{"grid_size": 4, "cell_size": 4, "margin": 1, "kept": 2, "elastic": small, **options})


def tiny_image(seed: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (1, 27, 26)).astype(np.uint8)


#: at the start the student is the teacher, so that two terms cannot fall at once: order_consistency is small
#: beside the chance level of order, and distillation rises to that of its prototypes while the center moves
FALLING = {"order_weight": 1.0, "distillation_weight": 0.001}


def case(objective: int) -> SimpleNamespace:
    """Progress with a single current objective."""
    return SimpleNamespace(
        method=lambda: tiny_method(alternate="epoch", **FALLING),
        views=tiny_views,
        image=tiny_image,
        phase=objective,
        progress=lambda step, steps: Progress(objective, 4, objective * steps + step, 4 * steps),
    )


#: used by the contract tests
CASE = SimpleNamespace(method=tiny_method, views=tiny_views, image=tiny_image)
MORE_CASES = {name: case(number) for number, name in enumerate(OBJECTIVES)} | {
    "frozen": SimpleNamespace(method=lambda: tiny_method(frozen_prototype_epochs=1), views=tiny_views, image=tiny_image)
}


def batch_of(views: RandLampsViewsd, images: list[Any], phase: int | None = None) -> dict[str, Tensor]:
    extra = {} if phase is None else {"phase": phase}
    samples = [views.set_random_state(seed)({"image": image, **extra}) for seed, image in enumerate(images)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0] if name != "phase"}


def full_batch(size: int = 3) -> dict[str, Tensor]:
    return batch_of(tiny_views(), [tiny_image(seed) for seed in range(size)])


def image_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def moved_teacher(method: LampsMethod) -> LampsMethod:
    """The method in evaluation mode with another teacher and a center that is not 0."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        if hasattr(method, "distillation"):
            # at a temperature of 0.04, a larger center would outweigh the logits
            method.distillation.center.center.normal_(std=0.01, generator=generator)
    return method.eval()


# ---------------------------------------------------------------------- wiring


def tokens_of(backbone: nn.Module, image: Tensor) -> Tensor:
    return backbone(image[None])[0].flatten(1).T  # (N, D)


def slow_terms(method: LampsMethod, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The formulas, with one forward pass per network, sample and image, and loops over cells."""
    student, teacher = method.backbone, method.teacher["backbone"]
    sums: dict[str, list[Tensor]] = {name: [] for terms in TERMS.values() for name in terms}
    for b in range(len(batch["view_1"])):
        clean = [batch["view_1"][b], batch["view_2"][b]]
        augmented = [tokens_of(student, batch[f"augmented_{v}"][b]) for v in (1, 2)]
        targets = [tokens_of(teacher, view) for view in clean]
        for v in (0, 1):
            scores = method.distillation.head(augmented[v].mean(0)[None])[0] / 0.1
            logits = method.distillation.teacher_head(targets[1 - v].mean(0)[None])[0]
            wanted = ((logits - method.distillation.center.center) / 0.04).softmax(0)
            sums["distillation"].append(-(wanted * scores.log_softmax(0)).sum())
            row, column = batch["windows"][b, v].tolist()
            crop = clean[v][:, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8]
            shown = tokens_of(student, crop)
            grid = method.decoder.mask_token[0].expand(16, -1).clone()
            places = [(row + i) * 4 + column + j for i in (0, 1) for j in (0, 1)]
            grid[places] = shown
            predicted = decoded(method, grid)
            missing = [cell for cell in range(16) if cell not in places]
            assert len(missing) == 12
            sums["extrapolation"].append(F.smooth_l1_loss(predicted[missing], targets[v][missing]))
            order = batch["order"][b]
            mixed = torch.zeros_like(clean[v])
            for j, source in enumerate(order.tolist()):
                (r, c), (y, x) = divmod(j, 4), divmod(source, 4)
                mixed[:, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4] = clean[v][:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
            seen = tokens_of(student, mixed)
            sums["order"].append(F.cross_entropy(method.order_head(seen), order))
            sums["order_consistency"].append((seen - targets[v][order]).square().mean())
            quadrants = batch["quadrants"][b, 4 * v : 4 * v + 4]
            parts = torch.stack([tokens_of(student, quadrant).mean(0) for quadrant in quadrants])
            sums["composition"].append(F.smooth_l1_loss(method.composition_head(parts[None])[0], targets[v].mean(0)))
            wanted_parts = torch.stack([tokens_of(teacher, quadrant).mean(0) for quadrant in quadrants])
            guessed = method.decomposition_head(augmented[v].mean(0)[None])[0]
            sums["decomposition"].append(
                torch.stack([F.smooth_l1_loss(guessed[i], wanted_parts[i]) for i in range(4)]).mean()
            )
        s1, s2 = (method.local_head(tokens) for tokens in augmented)
        t1, t2 = (method.teacher["local_head"](tokens) for tokens in targets)
        for i, j in enumerate(batch["correspondence"][b].tolist()):
            if j >= 0:  # both directions are summed, so each pair counts twice in a mean
                sums["local_consistency"].append((s1[i] - t2[j]).square().mean() + (s2[j] - t1[i]).square().mean())
    return {name: torch.stack(values).mean() for name, values in sums.items()}


def decoded(method: LampsMethod, grid: Tensor) -> Tensor:
    decoder = method.decoder
    x = torch.cat([decoder.cls_token[0], grid + decoder.positions])[None]
    for block in decoder.decoder_blocks:
        x = block(x)
    return decoder.decoder_norm(x)[0, 1:]


def test_all_terms_equal_slow_separate_forwards() -> None:
    torch.manual_seed(0)
    method, batch = moved_teacher(tiny_method()), full_batch()
    for number, name in enumerate(("view_1", "view_2", "augmented_1", "augmented_2")):
        batch[name] += number * image_of(*batch[name].shape, seed=number)  # crops of one image are too similar
    with torch.no_grad():
        for parameter in method.decoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for head in (method.distillation.head, method.distillation.teacher_head):
            for parameter in head.parameters():  # initial weights are too small to distinguish embeddings
                parameter.add_(torch.randn_like(parameter))
        terms, expected = method(batch, START), slow_terms(method, batch)
    assert set(terms) == set(expected) == set(method.loss_weights)
    for name, value in terms.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)


def test_the_sum_with_its_weights_is_the_published_one() -> None:
    assert tiny_method().loss_weights == {
        "distillation": 0.1,
        "local_consistency": 1.0,
        "extrapolation": 1.0,
        "order": 0.1,
        "order_consistency": 1.0,
        "composition": 1.0,
        "decomposition": 1.0,
    }


class Coordinates(Backbone):
    """The mean gray level of each cell, four times, so that tokens encode positions."""

    def __init__(self) -> None:
        super().__init__({}, spatial_dims=2, in_channels=1, channels=(4,), strides=(4,))
        self.scale = nn.Parameter(torch.ones(()))

    def forward_features(self, x: Tensor) -> list[Tensor]:
        return [self.scale * F.avg_pool2d(x, 4).expand(-1, 4, -1, -1)]


class Known(nn.Module):
    """A head that applies a given function to its inputs."""

    def __init__(self, rule: Callable[..., Tensor]) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, *inputs: Any) -> Tensor:
        return self.rule(*inputs)


def coordinate_method(views: RandLampsViewsd) -> LampsMethod:
    """Heads that are correct only with correct wiring, on an image with a linear ramp of gray levels."""
    options = {**SMALL, "decoder_heads": 1, "num_prototypes": 4}
    method = LampsMethod(Coordinates(), **options).eval()
    method.local_head, method.teacher["local_head"] = nn.Identity(), nn.Identity()
    # quadrants TL, BL, TR, BR of a plane 100 * row + column whose cells are 1 apart: centers 2 cells apart
    apart = torch.tensor([[-101.0], [99.0], [-99.0], [101.0]])
    method.composition_head = Known(lambda parts: (parts - apart).mean(1))
    method.decomposition_head = Known(lambda whole: whole[:, None] + apart)
    return method


def plane(rows: int = 26, columns: int = 27) -> Tensor:
    """A ramp that rises by 100 per row of cells and by 1 per column."""
    return (100 * torch.arange(rows)[:, None] + torch.arange(columns)[None]).float()[None] / 4


def test_coordinates_find_the_right_wiring_and_not_a_wrong_one() -> None:
    views = tiny_views(area=None, elastic=RandElastic(prob=0.0), appearance=SAME, mean=0.0, std=1.0)
    batch = batch_of(views, [plane()] * 8)
    method = coordinate_method(views)
    right = method(batch, START)
    for name in ("local_consistency", "order_consistency", "composition", "decomposition"):
        assert right[name] < 1e-4, name

    def terms(**changes: Tensor) -> dict[str, Tensor]:
        return method({**batch, **changes}, START)

    moved = batch["correspondence"].unflatten(1, (4, 4)).transpose(1, 2).flatten(1)
    apart = (batch["view_1"] - batch["view_2"]).abs().amax((1, 2, 3)) > 0
    assert apart.any()
    assert terms(correspondence=moved)["local_consistency"] > 1
    swapped = terms(augmented_1=batch["augmented_2"], augmented_2=batch["augmented_1"])
    assert swapped["local_consistency"] > 0.1
    assert swapped["decomposition"] > 0.1
    quadrants = batch["quadrants"]
    row_major = quadrants[:, [0, 2, 1, 3, 4, 6, 5, 7]]
    assert terms(quadrants=row_major)["decomposition"] > 1
    assert terms(quadrants=quadrants.flip(1))["decomposition"] > 1
    assert terms(quadrants=torch.cat([quadrants[:, 4:], quadrants[:, :4]], 1))["composition"] > 0.1


def test_the_target_of_a_shuffled_cell_is_the_teachers_cell_that_it_shows() -> None:
    """The target differs from token to token, unlike in the released code."""
    method, batch = coordinate_method(tiny_views()), full_batch()
    batch["view_1"] = torch.arange(16.0).reshape(1, 1, 4, 4).repeat(3, 1, 1, 1)
    batch["view_1"] = batch["view_2"] = batch["view_1"].repeat_interleave(4, 2).repeat_interleave(4, 3)
    with torch.no_grad():
        assert method(batch, START)["order_consistency"] == 0
        method.backbone.scale.zero_()
        # with student tokens 0 the term is the mean square of the targets: those of all cells, each once
        assert method(batch, START)["order_consistency"].item() == pytest.approx(np.square(np.arange(16)).mean())


def test_extrapolation_looks_at_missing_cells_alone_and_the_student_at_kept_ones() -> None:
    method, batch = moved_teacher(tiny_method(objectives=("extrapolation",))), full_batch()
    batch = {name: batch[name].clone() for name in ("view_1", "view_2", "windows")}
    batch["view_1"].requires_grad_(True)
    before = method(batch, START)["extrapolation"]
    (gradient,) = torch.autograd.grad(before, batch["view_1"])
    touched = split_cells(gradient, 4, 2).abs().sum((2, 3, 4)) > 0  # (B, N)
    for b, (row, column) in enumerate(batch["windows"][:, 0].tolist()):
        kept = [(row + i) * 4 + column + j for i in (0, 1) for j in (0, 1)]
        assert touched[b].nonzero().flatten().tolist() == kept
    # the teacher's tokens of kept cells do not count
    teacher = method.teacher["backbone"]
    tokens = teacher(torch.cat([batch["view_1"], batch["view_2"]]).detach())
    changed = tokens.clone()
    for row, (r, c) in enumerate(batch["windows"].transpose(0, 1).flatten(0, 1).tolist()):
        changed[row, :, r : r + 2, c : c + 2] += 5.0
    method.teacher["backbone"] = Known(lambda _: changed)
    torch.testing.assert_close(method(batch, START)["extrapolation"], before)
    changed += 1.0
    assert (method(batch, START)["extrapolation"] - before).abs() > 1e-2


# ---------------------------------------------------------------------- turns


def test_a_vit_is_shown_the_kept_patches_at_their_places() -> None:
    """A window that is cut out of the image would get the positions of a whole view."""
    backbone = ViTBackbone(image_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2)
    method = moved_teacher(tiny_method_of(backbone, objectives=("extrapolation",)))
    with torch.no_grad():
        backbone.pos_embed.normal_(generator=torch.Generator().manual_seed(0))
    view = image_of(1, 1, 16, 16)
    batch = {"view_1": view, "view_2": view, "windows": torch.tensor([[[2, 1], [0, 2]]])}
    with torch.no_grad():
        term = method(batch, START)["extrapolation"]
        expected = []
        target = tokens_of(method.teacher["backbone"], view[0])
        for row, column in ((2, 1), (0, 2)):
            places = torch.tensor([(row + i) * 4 + column + j for i in (0, 1) for j in (0, 1)])
            embedded = backbone.patch_embed(view).flatten(1, 2) + backbone.pos_embed
            tokens = embedded[:, places]
            for block in backbone.blocks:
                tokens = block(tokens)
            grid = method.decoder.mask_token[0].expand(16, -1).clone()
            grid[places] = backbone.norm(tokens)[0]
            missing = [cell for cell in range(16) if cell not in places]
            expected.append(F.smooth_l1_loss(decoded(method, grid)[missing], target[missing]))
    torch.testing.assert_close(term, torch.stack(expected).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("alternate", "attribute"), [("epoch", "epoch"), ("step", "step")])
def test_objectives_take_turns(alternate: Any, attribute: str) -> None:
    method = tiny_method(alternate=alternate)
    assert method.find_unused_parameters
    for count in range(8):
        progress = Progress(**{"epoch": 3, "max_epochs": 9, "step": 3, "max_steps": 9, attribute: count})
        batch = batch_of(tiny_views(), [tiny_image(0)], phase=count % 4)
        assert set(method(batch, progress)) == TERMS[OBJECTIVES[count % 4]]


def test_the_order_of_the_turns_is_an_argument_and_an_objective_may_come_twice() -> None:
    objectives = ("order", "consistency", "order")
    method = tiny_method(alternate="epoch", objectives=objectives)
    assert set(method.loss_weights) == TERMS["order"] | TERMS["consistency"]
    assert not hasattr(method, "decoder")
    turns = [method.current_objectives(Progress(epoch, 9, 0, 9)) for epoch in range(4)]
    assert turns == [("order",), ("consistency",), ("order",), ("order",)]
    assert tiny_method(objectives=objectives).current_objectives(START) == ("order", "consistency")


def test_all_at_once_uses_every_parameter() -> None:
    method = tiny_method()
    assert not method.find_unused_parameters
    assert tiny_method(frozen_prototype_epochs=1).find_unused_parameters


def test_views_for_another_objective_are_told() -> None:
    batch = batch_of(tiny_views(), [tiny_image(0)], phase=1)
    with pytest.raises(
        KeyError, match=r"lacks \['order'\]; it holds \['view_1', 'view_2', 'windows'\].*RandLampsViewsd"
    ):
        tiny_method(alternate="epoch")(batch, Progress(2, 4, 0, 4))


def test_the_prototypes_are_frozen_in_the_first_epochs_and_the_center_moves_in_training_only() -> None:
    method, batch = tiny_method(frozen_prototype_epochs=1, objectives=("consistency",)), full_batch()
    weight = method.distillation.head.last_layer.weight_v
    method(batch, START)["distillation"].backward()
    assert weight.grad is None
    method(batch, Progress(1, 2, 1, 2))["distillation"].backward()
    assert weight.grad is not None
    method.after_step(START)
    moved = method.distillation.center.center.clone()
    with torch.no_grad():
        means = [method.teacher["backbone"](batch[view]).flatten(2).mean(2) for view in ("view_1", "view_2")]
        logits = method.distillation.teacher_head(torch.cat(means))
    torch.testing.assert_close(moved, 0.1 * logits.mean(0))  # two forwards of the same batch, one step
    method.eval()
    method(batch, START)
    method.after_step(START)
    assert torch.equal(method.distillation.center.center, moved)


# ---------------------------------------------------------------------- arguments


def test_an_objective_that_is_left_out_leaves_its_heads_out() -> None:
    heads = {"distillation", "local_head", "decoder", "order_head", "composition_head", "decomposition_head"}
    expected = {
        "consistency": {"distillation", "local_head"},
        "extrapolation": {"decoder"},
        "order": {"order_head"},
        "hierarchy": {"composition_head", "decomposition_head"},
    }
    for objective, own in expected.items():
        method = tiny_method(objectives=(objective,))
        assert {name for name in heads if hasattr(method, name)} == own
        batch = batch_of(tiny_views(objectives=(objective,)), [tiny_image(0)] * 2)
        assert set(method(batch, START)) == TERMS[objective]
        assert len(method.student_teacher_pairs()) == (3 if objective == "consistency" else 1)


@pytest.mark.parametrize(
    ("weight", "term", "head"),
    [
        ("distillation_weight", "distillation", "distillation"),
        ("local_weight", "local_consistency", "local_head"),
        ("order_weight", "order", "order_head"),
        ("order_consistency_weight", "order_consistency", None),
        ("composition_weight", "composition", "composition_head"),
        ("decomposition_weight", "decomposition", "decomposition_head"),
    ],
)
def test_a_weight_of_zero_leaves_a_term_away(weight: str, term: str, head: str | None) -> None:
    method = tiny_method(**{weight: 0.0})
    assert head is None or not hasattr(method, head)
    assert set(method(full_batch(2), START)) == set(tiny_method().loss_weights) - {term}


def test_counts_are_the_matched_pairs_where_there_are_any() -> None:
    method, batch = tiny_method().eval(), full_batch()
    assert method.loss_denominators(batch)[PAIR_COUNT] == (batch["correspondence"] >= 0).sum()
    half = method({**batch, PAIR_COUNT: method.loss_denominators(batch)[PAIR_COUNT] / 2}, START)["local_consistency"]
    torch.testing.assert_close(half, 2 * method(batch, START)["local_consistency"])
    assert method.loss_denominators(batch_of(tiny_views(), [tiny_image(0)], phase=2)) == {}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r'alternate must be "epoch", "step" or "none".*got \'batch\''):
        tiny_method(alternate="batch")
    with pytest.raises(ValueError, match=r"temperatures must be positive, got student_temperature=-1"):
        tiny_method(student_temperature=-1.0)
    with pytest.raises(ValueError, match=r"even number of cells per side, got a grid of \(3, 3\)"):
        tiny_method(image_size=12)
    with pytest.raises(ValueError, match=r"kept must be at least 1 and less .* got kept=4 and a grid of \(4, 4\)"):
        tiny_method(kept=4)
    with pytest.raises(ValueError, match=r"objectives must be a list .* got \(\)"):
        tiny_method(objectives=())
    with pytest.raises(ValueError, match=r"objective 'extrapolation' has no term left"):
        tiny_method(extrapolation_weight=0.0)
    with pytest.raises(ValueError, match=r"nearest is 16"):
        tiny_method(image_size=17)
    method, batch = tiny_method(), full_batch()
    with pytest.raises(ValueError, match=r"windows must be \(3, 2, 2\).*got \(3, 4\); RandLampsViewsd"):
        method({**batch, "windows": batch["windows"].flatten(1)}, START)
    with pytest.raises(ValueError, match=r"quadrants must be \(B, 8, C, 8, 8\), got \(3, 4, 1, 8, 8\)"):
        method({**batch, "quadrants": batch["quadrants"][:, :4]}, START)
    with pytest.raises(ValueError, match=r"quadrants must be \(B, C, 8, 8\), got"):
        method({**batch, "quadrants": batch["quadrants"][..., :7]}, START)
    with pytest.raises(ValueError, match=r"augmented_2 must be \(B, C, 16, 16\)"):
        method({**batch, "augmented_2": batch["augmented_2"][..., :8]}, START)


# ---------------------------------------------------------------------- any backbone, 3D


@pytest.mark.parametrize(
    "backbone",
    [
        lambda: ViTBackbone(image_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2),
        lambda: SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, patch_size=4),
        lambda: ResNetBackbone(depth=18),
    ],
    ids=["vit", "swin", "resnet"],
)
def test_any_backbone_trains(backbone: Callable[[], Any], one_step: Callable[..., None]) -> None:
    network = backbone()
    cell = network.strides[-1]
    method = LampsMethod(network, **{**SMALL, **STEADY, "image_size": 4 * cell})
    views = tiny_views(cell_size=cell)
    one_step(method, batch_of(views, [image_of(1, 6 * cell, 6 * cell)] * 2))


def volume_method() -> LampsMethod:
    backbone = SwinBackbone(spatial_dims=3, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, patch_size=4)
    return LampsMethod(backbone, **{**SMALL, **STEADY, "image_size": 32, "kept": 3})


def test_a_volume_trains_with_octants(one_step: Callable[..., None]) -> None:
    batch = batch_of(tiny_views(cell_size=8, kept=3), [image_of(1, 48, 50, 49)] * 2)
    assert batch["quadrants"].shape == (2, 16, 1, 16, 16, 16)
    assert batch["windows"].shape == (2, 2, 3)
    one_step(volume_method(), batch)


@pytest.mark.real_data
def test_a_ct_trains(ct: Callable[[int], Tensor], one_step: Callable[..., None]) -> None:
    one_step(volume_method(), batch_of(tiny_views(cell_size=8, kept=3), [ct(52)] * 4))
