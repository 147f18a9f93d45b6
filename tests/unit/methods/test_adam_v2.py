"""Adam-v2: views of a structure and its parts in each stage, and the wiring of the three terms."""

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

from monai_anat.methods import AdamV2Method, RandAdamV2Viewsd
from monai_anat.networks import ConvNeXtBackbone, ResNetBackbone, SwinBackbone, ViTBackbone
from monai_anat.schedules import Progress

TERMS = {"localizability", "composability", "decomposability"}
STAGES = (("L", 0), ("L", 1), ("LCD", 0), ("LCD", 1))


def tiny_method(backbone: Any = None, **options: Any) -> AdamV2Method:
    if backbone is None:
        backbone = ConvNeXtBackbone(depths=(1, 1), dims=(8, 16), layer_scale=0.1)
    tiny = {"num_prototypes": 24, "head_features": 16, "bottleneck_features": 8, "frozen_prototype_epochs": 0}
    return AdamV2Method(backbone, **{**tiny, **options})


def tiny_views(**options: Any) -> RandAdamV2Viewsd:
    return RandAdamV2Viewsd(**{"image_size": 16, "local_size": 8, "stages": STAGES, "border": 4, **options})


def noise(seed: int, shape: tuple[int, ...] = (1, 70, 64)) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


#: used by the contract tests: a stage of each kind, and the first epoch, in which the prototypes are frozen
CASE = SimpleNamespace(method=tiny_method, views=tiny_views, image=noise, phase=1)
MORE_CASES = {
    "parts": SimpleNamespace(method=tiny_method, views=tiny_views, image=noise, phase=2),
    "frozen": SimpleNamespace(
        method=lambda: tiny_method(frozen_prototype_epochs=1), views=tiny_views, image=noise, phase=3
    ),
}


def image_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def batch_of(views: RandAdamV2Viewsd, phase: int, size: int = 3) -> dict[str, Tensor]:
    samples = [views.set_random_state(seed)({"image": noise(seed), "phase": phase}) for seed in range(size)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0] if name != "phase"}


def progress(epoch: int = 1) -> Progress:
    return Progress(epoch, 4, epoch, 4)


def moved_teacher(method: AdamV2Method) -> AdamV2Method:
    """The method in evaluation mode with a teacher and a center that differ from the initial ones."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        method.localizability.center.center.copy_(
            0.1 * torch.randn(method.localizability.center.center.shape, generator=generator)
        )
    return method.eval()


def unchanged(**options: Any) -> RandAdamV2Viewsd:
    """Views without changes of appearance."""
    still = {"brightness": 0.0, "contrast": 0.0, "blur_sigma": (0.0, 0.0), "angles": (0.0, 0.0)}
    return tiny_views(**{**still, "mean": 0.0, "std": 1.0, **options})


# ---------------------------------------------------------------------- views


@pytest.mark.parametrize("phase", [0, 1])
def test_first_stages_crop_anywhere_in_a_square_anywhere(phase: int) -> None:
    views, places, shares = tiny_views(), [], []
    for seed in range(60):
        views.set_random_state(seed).phase = phase
        views.randomize((140, 128))
        boxes = np.stack([view.box for view in views.drawn])
        assert [view.key for view in views.drawn] == ["view_1", "view_2", *["local_views"] * 8]
        assert [view.size for view in views.drawn] == [16, 16, *[8] * 8]
        square = 128 // 2**phase
        assert np.ptp(np.concatenate([boxes[:, 0], boxes.sum(1)]), axis=0).max() <= square
        assert (boxes[:, 0] >= 0).all()
        assert (boxes.sum(1) <= (140, 128)).all()
        places.append(boxes[0, 0])
        shares.append(boxes[:, 1].prod(1) / square**2)
    large, small = np.array(shares)[:, :2], np.array(shares)[:, 2:]
    assert 0.77 < large.min() < 0.85
    assert 0.95 < large.max() <= 1.0
    assert 0.04 < small.min() < 0.08
    assert 0.35 < small.max() < 0.42
    assert np.ptp(places, axis=0).min() > (10 if phase == 0 else 60)


@pytest.mark.parametrize(("phase", "sides"), [(2, (140, 128)), (3, (70, 64))])
def test_later_stages_crop_around_the_middle_of_a_whole_and_cut_it_into_parts(phase: int, sides: Any) -> None:
    views, corners = tiny_views(border=20), []
    for seed in range(40):
        views.set_random_state(seed).phase = phase
        views.randomize((140, 128))
        by_key = {key: np.stack([v.box for v in views.drawn if v.key == key]) for key in {v.key for v in views.drawn}}
        (whole,), (crop,) = by_key["view_1"], by_key["view_2"]
        assert tuple(whole[1]) == sides
        corners.append(whole[0])
        around = np.concatenate([crop[None], by_key["local_views"]])
        assert np.abs(around[:, 0] + around[:, 1] / 2 - whole[0] - whole[1] / 2).max() <= 1
        shares = around[:, 1].prod(1) / np.prod(sides)
        bands = [(0.8, 1), (0.05, 0.1), *[(t / 10, t / 10 + 0.1) for t in range(1, 8)]]
        assert all(low - 0.02 <= share <= high + 0.02 for share, (low, high) in zip(shares, bands, strict=True))
        slim = around[1:, 1, 1] / around[1:, 1, 0]
        assert (slim[::2] <= 1.03).all()
        assert (slim[1::2] >= 0.97).all()
        half = whole[1] // 2
        corner = [list(whole[0] + half * (row, column)) for row in (0, 1) for column in (0, 1)]
        assert by_key["parts"].tolist() == [[c, list(half)] for c in corner]  # top left, top right, bottom left, ...
    least, most = np.min(corners, 0), np.max(corners, 0)
    if phase == 2:
        assert not least.any()
        assert not most.any()
    else:  # the structure fits inside the border of 20 pixels
        assert (least >= 20).all()
        assert (least < 26).all()
        assert (most <= (50, 44)).all()
        assert (most > (44, 38)).all()


def test_views_show_what_lies_in_their_boxes() -> None:
    views, image = unchanged(), image_of(1, 64, 64)
    sample = views.set_random_state(0)({"image": image, "phase": 2})
    torch.testing.assert_close(sample["view_1"], F.interpolate(image[None], 16, mode="bicubic", antialias=True)[0])
    for number, part in enumerate(sample["parts"]):
        row, column = 32 * (number // 2), 32 * (number % 2)
        cut = image[:, row : row + 32, column : column + 32]
        torch.testing.assert_close(part, F.interpolate(cut[None], 16, mode="bicubic", antialias=True)[0].clamp(0, 1))


def test_the_sample_of_the_paper() -> None:
    views = RandAdamV2Viewsd()
    for phase, keys in ((0, set()), (5, {"parts"})):
        sample = views.set_random_state(0)({"image": noise(0, (1, 300, 280)), "phase": phase})
        assert set(sample) == {"view_1", "view_2", "local_views"} | keys
        assert sample["view_1"].shape == sample["view_2"].shape == (1, 224, 224)
        assert sample["local_views"].shape == (8, 1, 96, 96)
        assert sample["view_1"].is_contiguous()
    assert sample["parts"].shape == (4, 1, 224, 224)


def test_every_view_has_its_own_appearance_and_each_kind_its_blur_and_angle() -> None:
    views, drawn = tiny_views(), {0: [], 2: []}
    views.set_random_state(0)
    for phase, kept in drawn.items():
        for _ in range(150):
            views.phase = phase
            views.randomize((70, 64))
            kept.append([view.appearance for view in views.drawn])
            assert len({view.appearance for view in views.drawn}) == len(views.drawn)
    for phase, largest in ((0, 30), (2, 10)):
        blurred = np.array([[a.blur_sigma > 0 for a in views] for views in drawn[phase]]).mean(0)
        angles = np.array([[a.angle for a in views] for views in drawn[phase]])
        assert (blurred[:2] if phase == 0 else blurred[1::-1]) == pytest.approx([1.0, 0.1], abs=0.08)
        assert blurred[2:10] == pytest.approx([0.5] * 8, abs=0.13)
        assert blurred[10:] == pytest.approx([0.1] * len(blurred[10:]), abs=0.08)
        assert (np.abs(angles).max(), angles.mean()) == pytest.approx((largest, 0), abs=0.05 * largest)


def test_the_heart_stays_on_the_left() -> None:
    image = torch.zeros(1, 64, 64)
    image[:, :, :32] = 1
    for phase in (0, 2):
        for seed in range(10):
            sample = unchanged(angles=(20.0, 20.0)).set_random_state(seed)({"image": image, "phase": phase})
            left, right = sample["view_1"].mean((0, 1))[[2, -3]]
            assert left > 0.6
            assert right < 0.4


def test_codes_and_their_gray_levels_give_the_same_views() -> None:
    for phase in range(4):
        first, second = (
            tiny_views().set_random_state(1)({"image": image, "phase": phase})
            for image in (noise(0), (noise(0) / 255).astype(np.float32))
        )
        for name in first:
            torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-5)


def test_same_seed_same_views_also_after_pickling() -> None:
    views = tiny_views()
    copy = pickle.loads(pickle.dumps(views))
    for phase in range(4):
        first, second, third = (
            v.set_random_state(3)({"image": noise(0), "phase": phase}) for v in (views, views, copy)
        )
        for name in first.keys() - {"phase"}:
            assert torch.equal(first[name], second[name])
            assert torch.equal(first[name], third[name])


def test_without_a_phase_it_is_the_first_stage() -> None:
    assert "parts" not in tiny_views()({"image": noise(0)})
    assert "parts" in tiny_views(stages=[("LCD", 1)])({"image": noise(0)})


def test_views_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"phase must be one of the 4 stages, got 4; stage_epochs must have one"):
        tiny_views()({"image": noise(0), "phase": 4})
    with pytest.raises(ValueError, match=r'stages must be pairs of "L" or "LCD" and a granularity.*CD'):
        tiny_views(stages=[("CD", 0)])
    with pytest.raises(ValueError, match=r"stages must be pairs"):
        tiny_views(stages=[])
    with pytest.raises(ValueError, match=r"parts_per_side at least 2 and border at least 0, got .*parts_per_side=1"):
        tiny_views(parts_per_side=1)
    with pytest.raises(ValueError, match=r"at least 4 pixels per side for structures of granularity 1.*got \(3, 9\)"):
        tiny_views()({"image": noise(0, (1, 3, 9)), "phase": 3})
    with pytest.raises(ValueError, match=r"got \(1, 8, 8, 8\); RandAdamV2Viewsd is 2D only"):
        tiny_views()({"image": noise(0, (1, 8, 8, 8))})


# ---------------------------------------------------------------------- wiring


def embedding(network: nn.Module, image: Tensor) -> Tensor:
    return network(image[None])[0].flatten(1).mean(1)


def distillation(method: AdamV2Method, teacher: Tensor, student: Tensor) -> Tensor:
    target = F.softmax(
        (method.localizability.teacher_head(teacher[None]) - method.localizability.center.center) / 0.04, 1
    )
    return -(target * F.log_softmax(method.localizability.head(student[None]) / 0.1, 1)).sum()


def slow_terms(method: AdamV2Method, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The formulas, with one forward pass per network, view and sample."""
    losses: dict[str, list[Tensor]] = {}

    def add(name: str, loss: Tensor) -> None:
        losses.setdefault(name, []).append(loss)

    student, teacher = method.backbone, method.teacher["backbone"]
    for b, (first, second, local) in enumerate(
        zip(batch["view_1"], batch["view_2"], batch["local_views"], strict=True)
    ):
        if "parts" not in batch:
            views = [first, second, *local]
            for t in (0, 1):
                for s, view in enumerate(views):
                    if s != t:
                        pair = distillation(method, embedding(teacher, views[t]), embedding(student, view))
                        add("localizability", pair)
            continue
        whole = embedding(teacher, first)
        for view in (second, *local):
            add("localizability", distillation(method, whole, embedding(student, view)))
        parts = list(batch["parts"][b])
        composed = method.composition_head(torch.stack([embedding(student, part) for part in parts])[None])[0]
        add("composability", 2 - 2 * F.cosine_similarity(composed, whole, dim=0))
        for predicted, part in zip(method.decomposition_head(embedding(student, first)[None])[0], parts, strict=True):
            add("decomposability", 2 - 2 * F.cosine_similarity(predicted, embedding(teacher, part), dim=0))
    assert len(losses["localizability"]) == len(batch["view_1"]) * (9 if "parts" in batch else 18)
    return {name: torch.stack(values).mean() for name, values in losses.items()}


@pytest.mark.parametrize("phase", [1, 3])
def test_terms_equal_slow_separate_formulas(phase: int) -> None:
    torch.manual_seed(0)
    method, batch = moved_teacher(tiny_method()), batch_of(tiny_views(), phase)
    for head in (method.localizability.head, method.localizability.teacher_head):
        for parameter in head.parameters():
            parameter.data.mul_(20)  # logits that differ between views
    terms, slow = method(batch, progress()), slow_terms(method, batch)
    assert set(terms) == ({"localizability"} if phase == 1 else TERMS)
    for name in terms:
        torch.testing.assert_close(terms[name], slow[name], rtol=1e-5, atol=1e-5, msg=name)
    # the formulas distinguish the views
    swapped = slow_terms(method, {**batch, "view_1": batch["view_2"], "view_2": batch["local_views"][:, 0]})
    turned = slow_terms(method, {**batch, "local_views": batch["local_views"].flip(0)})
    for other in (swapped, turned):
        assert abs(other["localizability"] - slow["localizability"]) > 1e-5
    if phase == 3:
        for order in ([0, 2, 1, 3], [3, 2, 1, 0]):
            mixed = slow_terms(method, {**batch, "parts": batch["parts"][:, order]})
            for name in ("composability", "decomposability"):
                assert abs(mixed[name] - slow[name]) > 1e-5, name


class JoinsQuadrants(nn.Module):
    """Compose the whole for an encoder that returns pixels: each quadrant has the mean of its part."""

    def forward(self, parts: Tensor) -> Tensor:
        levels = parts.mean(2).unflatten(1, (2, 2))  # (B, 2, 2)
        return levels.repeat_interleave(8, 1).repeat_interleave(8, 2).flatten(1)


class CutsQuadrants(nn.Module):
    """Decompose the whole into the means of its quadrants."""

    def forward(self, whole: Tensor) -> Tensor:
        levels = whole.unflatten(1, (2, 8, 2, 8)).mean((2, 4)).flatten(1)  # (B, 4)
        return levels[:, :, None].repeat(1, 1, 256)


def test_an_encoder_that_sees_pixels_gives_zero_only_with_the_parts_in_order(cell_backbone: Callable[..., Any]) -> None:
    """The whole chain, from an image of four gray quadrants to the terms."""
    method = tiny_method(cell_backbone(16), localizability_weight=0.0)
    method.composition_head, method.decomposition_head = JoinsQuadrants(), CutsQuadrants()
    levels = torch.tensor([[0.1, -0.6], [0.9, -0.2]])  # of either sign, so that constant parts differ in direction
    image = (levels + 1) / 2
    views = unchanged(stages=[("LCD", 0)], mean=0.5, std=0.5)
    image = image.repeat_interleave(16, 0).repeat_interleave(16, 1)[None]
    sample = views.set_random_state(0)({"image": image})
    batch = {name: value[None] for name, value in sample.items()}
    # without the resampled edges between quadrants
    exact = levels.repeat_interleave(8, 0).repeat_interleave(8, 1)[None, None]
    torch.testing.assert_close(batch["view_1"][..., 1:7, 1:7], exact[..., 1:7, 1:7], atol=0.05, rtol=0)
    batch["view_1"] = exact

    def terms(**changed: Tensor) -> dict[str, float]:
        return {name: value.item() for name, value in method({**batch, **changed}, progress()).items()}

    assert terms() == pytest.approx({"composability": 0.0, "decomposability": 0.0}, abs=1e-9)
    for order in ([0, 2, 1, 3], [1, 0, 3, 2], [2, 3, 0, 1]):
        assert terms(parts=batch["parts"][:, order])["composability"] > 0.1
    assert terms(parts=batch["parts"][:, [1, 0, 2, 3]])["decomposability"] > 0.1
    assert terms(view_1=exact.transpose(2, 3))["composability"] > 0.1
    assert terms(view_1=exact.flip(3))["decomposability"] > 0.1


def test_which_views_meet_in_one_forward() -> None:
    """Batch statistics are those of one view, except for the small crops, which share them as published."""

    def sizes(network: nn.Module, method: AdamV2Method, batch: dict[str, Tensor]) -> list[tuple[int, ...]]:
        seen: list[tuple[int, ...]] = []
        handle = network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[::2])))
        method(batch, progress())
        handle.remove()
        return seen

    first, later = batch_of(tiny_views(image_size=64, local_size=32), 0, 2), batch_of(tiny_views(image_size=64), 2, 2)
    residual, convnext = tiny_method(ResNetBackbone(depth=18)).train(), tiny_method().train()
    for method in (residual, convnext):
        assert sizes(method.backbone, method, first) == [(4, 64), (16, 32)]
        assert sizes(method.teacher["backbone"], method, first) == [(4, 64)]
        assert sizes(method.teacher["backbone"], method, later) == [(10, 64)]
    assert sizes(residual.backbone, residual, later) == [(2, 64)] * 6 + [(16, 8)]
    assert sizes(convnext.backbone, convnext, later) == [(12, 64), (16, 8)]


@pytest.mark.parametrize("phase", [0, 2])
def test_gradients_reach_all_that_a_stage_uses(phase: int) -> None:
    torch.manual_seed(0)
    method = tiny_method()
    sum(method(batch_of(tiny_views(), phase), progress()).values()).backward()
    for name, parameter in method.named_parameters():
        unused = "teacher" in name or (phase == 0 and "composition" in name)
        assert (parameter.grad is None) == unused, name
        assert unused or parameter.grad.abs().max() > 0, name


def test_prototypes_are_frozen_in_the_first_epoch() -> None:
    method, batch = tiny_method(frozen_prototype_epochs=1), batch_of(tiny_views(), 0)
    prototypes = method.localizability.head.last_layer.weight_v
    method(batch, progress(0))["localizability"].backward()
    assert prototypes.grad is None
    assert method.localizability.head.mlp[0].weight.grad is not None
    method(batch, progress(1))["localizability"].backward()
    assert prototypes.grad is not None


@pytest.mark.parametrize("phase", [0, 2])
def test_the_center_follows_what_the_teacher_says_of_its_views(phase: int) -> None:
    torch.manual_seed(0)
    method, batch = tiny_method(center_momentum=0.75), batch_of(tiny_views(), phase)
    for parameter in method.localizability.teacher_head.parameters():
        parameter.data.mul_(20)
    views = torch.cat([batch["view_1"], batch["view_2"]]) if phase == 0 else batch["view_1"]
    with torch.no_grad():
        logits = method.localizability.teacher_head(method.teacher["backbone"](views).mean((2, 3)))
    method.eval()(batch, progress())
    method.after_step(progress())
    assert not method.localizability.center.center.any()
    method.train()(batch, progress())
    assert not method.localizability.center.center.any()
    method.after_step(progress())
    torch.testing.assert_close(method.localizability.center.center, 0.25 * logits.mean(0), rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------- arguments


def test_defaults_are_those_of_the_paper() -> None:
    assert tiny_method().loss_weights == dict.fromkeys(["localizability", "composability", "decomposability"], 1.0)
    stages = RandAdamV2Viewsd().stages
    assert stages == (("L", 0), ("L", 1), ("L", 2), ("LCD", 0), ("LCD", 1), ("LCD", 2))


def test_the_released_form_divides_the_part_terms_by_the_width() -> None:
    torch.manual_seed(0)
    method, batch = moved_teacher(tiny_method()), batch_of(tiny_views(), 2)
    terms = method(batch, progress())
    method.reduction = "mean"
    small = method(batch, progress())
    assert torch.equal(small["localizability"], terms["localizability"])
    for name in ("composability", "decomposability"):
        torch.testing.assert_close(16 * small[name], terms[name])


@pytest.mark.parametrize("kept", [("composability",), ("decomposability",), ("localizability", "composability")])
def test_a_weight_of_zero_leaves_term_and_head_away(kept: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    weights = {f"{name}_weight": 0.0 for name in TERMS - set(kept)}
    full, batch = moved_teacher(tiny_method()), batch_of(tiny_views(), 2)
    method = tiny_method(**weights).eval()
    method.load_state_dict({name: full.state_dict()[name] for name in method.state_dict()})
    heads = {"composability": "composition_head", "decomposability": "decomposition_head"}
    for name in TERMS:
        assert hasattr(method, heads.get(name, name)) == (name in kept)
    assert len(method.student_teacher_pairs()) == 1 + ("localizability" in kept)
    terms, all_terms = method(batch, progress()), full(batch, progress())
    assert tuple(sorted(terms)) == tuple(sorted(kept))
    for name in kept:
        torch.testing.assert_close(terms[name], all_terms[name])
    method.after_step(progress())


def test_the_teacher_is_what_is_kept_and_follows_backbone_and_head() -> None:
    method = tiny_method()
    assert method.export_networks() == {
        "encoder": method.teacher["backbone"],
        "composition_head": method.composition_head,
        "decomposition_head": method.decomposition_head,
    }
    assert [student for student, _ in method.student_teacher_pairs()] == [method.backbone, method.localizability.head]
    for student, teacher in method.student_teacher_pairs():
        assert dict(student.named_parameters()).keys() == dict(teacher.named_parameters()).keys()


def test_misfits_are_refused() -> None:
    method, batch = tiny_method(), batch_of(tiny_views(), 2)
    with pytest.raises(KeyError, match=r"batch lacks \['view_2', 'local_views'\].*RandAdamV2Viewsd makes them"):
        method({"view_1": batch["view_1"]}, progress())
    with pytest.raises(ValueError, match=r"parts must be \(B, 4, C, H, W\).*got \(3, 3, 1, 16, 16\); .*parts_per_side"):
        method({**batch, "parts": batch["parts"][:, :3]}, progress())
    with pytest.raises(ValueError, match=r"of the size of view_1 \(3, 1, 16, 16\), got \(3, 4, 1, 8, 8\)"):
        method({**batch, "parts": batch["parts"][..., :8, :8]}, progress())
    with pytest.raises(ValueError, match=r"local_views must be \(B, V, C, h, w\[, d\]\), got \(3, 1, 8, 8\)"):
        method({**batch, "local_views": batch["local_views"][:, 0]}, progress())
    with pytest.raises(ValueError, match=r"without parts has only the term localizability.*of the kind \"LCD\" alone"):
        tiny_method(localizability_weight=0.0)(batch_of(tiny_views(), 0), progress())
    with pytest.raises(ValueError, match=r"2D only, got a backbone with spatial_dims=3; .*PEACMethod"):
        tiny_method(SwinBackbone(spatial_dims=3, embed_dim=8, depths=(1,), num_heads=(1,), window_size=2))
    with pytest.raises(ValueError, match=r"temperatures must be positive, got .*teacher_temperature=0"):
        tiny_method(teacher_temperature=0.0)
    with pytest.raises(ValueError, match=r'reduction must be "sum" or "mean"'):
        tiny_method(reduction="max")


def test_nine_parts_are_an_argument() -> None:
    method, batch = tiny_method(num_parts=9), batch_of(tiny_views(parts_per_side=3), 3)
    assert batch["parts"].shape[1] == 9
    assert set(method(batch, progress())) == TERMS


@pytest.mark.parametrize(
    "backbone",
    [
        lambda: ViTBackbone(image_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2),
        lambda: SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2),
        lambda: ResNetBackbone(depth=18),
    ],
    ids=["vit", "swin", "resnet"],
)
def test_any_backbone_trains(backbone: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    method = tiny_method(backbone()).train()
    for phase in (0, 2):
        batch = batch_of(tiny_views(image_size=32, local_size=16), phase)
        optimizer = torch.optim.SGD(method.param_groups(0.0), lr=1.0)
        losses = []
        for _ in range(2):
            optimizer.zero_grad()
            losses.append(sum(method(batch, progress()).values()))
            losses[-1].backward()
            torch.nn.utils.clip_grad_norm_(method.parameters(), 1e-3)  # a step as short for every network
            optimizer.step()
        assert torch.isfinite(losses[0])
        assert losses[1] < losses[0]
