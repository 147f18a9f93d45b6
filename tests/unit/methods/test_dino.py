"""DINO: crops, temperatures, and pairs of views."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import list_data_collate
from torch import Tensor, nn

from monai_anat.methods import DINOMethod, RandDINOViewsd
from monai_anat.networks import ResNetBackbone, SwinBackbone, ViTBackbone
from monai_anat.schedules import Progress
from monai_anat.transforms import RandDistort, resized_crop
from monai_anat.transforms.appearance import change_appearance
from monai_anat.transforms.distortions import distort

START = Progress(0, 1, 0, 1)


def tiny_method(backbone: Any = None, **options: Any) -> DINOMethod:
    if backbone is None:
        backbone = ViTBackbone(image_size=16, patch_size=4, embed_dim=24, depth=1, num_heads=2)
    tiny = {"num_prototypes": 24, "head_features": 16, "bottleneck_features": 8, "frozen_prototype_epochs": 0}
    return DINOMethod(backbone, **{**tiny, **options})


def tiny_views(**options: Any) -> RandDINOViewsd:
    return RandDINOViewsd(**{"image_size": 16, "local_size": 8, "local_crops": 3, **options})


def patterned(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A coarse pattern per image, so that images differ clearly."""
    coarse = np.random.RandomState(seed).randint(0, 256, (1, 6, 5))
    return coarse.repeat(8, 1).repeat(8, 2).astype(np.uint8)


#: used by the contract tests
CASE = SimpleNamespace(method=tiny_method, views=tiny_views, image=patterned)
MORE_CASES = {
    "frozen": SimpleNamespace(  # the center moves the targets; a slow one, so that twenty steps have one target
        method=lambda: tiny_method(frozen_prototype_epochs=1, center_momentum=0.999),
        views=tiny_views,
        image=patterned,
    ),
    "distorted": SimpleNamespace(
        method=tiny_method, views=lambda: tiny_views(distorter=RandDistort()), image=patterned
    ),
    "resnet": SimpleNamespace(
        method=lambda: tiny_method(ResNetBackbone(depth=18)),
        views=lambda: tiny_views(image_size=64, local_size=32),
        image=patterned,
        joint_batch=False,  # batch normalization of the student uses the images of one process
    ),
}


def batch_of(count: int = 3, **options: Any) -> dict[str, Any]:
    views = tiny_views(**options)
    return list_data_collate([views.set_random_state(seed)({"image": patterned(seed)}) for seed in range(count)])


# ---------------------------------------------------------------------- views


def test_every_crop_is_what_its_draw_says() -> None:
    image = torch.rand(1, 60, 50, generator=torch.Generator().manual_seed(0))
    views = tiny_views(flip_prob=0.5, distorter=RandDistort(), mean=0.5, std=0.25)
    flips = set()
    for seed in range(8):
        sample = views.set_random_state(seed)({"image": image})
        assert set(sample) == {"view_1", "view_2", "local_views"}
        made = [sample["view_1"], sample["view_2"], *sample["local_views"]]
        draws = [*views.draws, *views.local_draws]
        assert len(made) == len(draws) == 5
        for view, draw, size in zip(made, draws, (16, 16, 8, 8, 8), strict=True):
            crop = resized_crop(image, draw.box, size, "bicubic")
            crop = crop.flip(2) if draw.flipped else crop
            expected = distort(change_appearance(crop, draw.appearance), draw.distortion)
            torch.testing.assert_close(view, (expected - 0.5) / 0.25)
            flips.add(draw.flipped)
        assert len({draw.box.tobytes() for draw in draws}) == 5
        assert len({draw.appearance for draw in draws}) > 2
    assert flips == {True, False}


def test_large_crops_show_much_and_small_ones_little_each_with_its_own_blur() -> None:
    views, shares, blurred, solarized = RandDINOViewsd(area=(0.4, 1.0), local_area=(0.05, 0.4)), [], [], []
    views.set_random_state(0)
    for _ in range(200):
        views.randomize((256, 256))
        draws = [*views.draws, *views.local_draws]
        shares.append([draw.box[1].prod() / 256**2 for draw in draws])
        blurred.append([draw.appearance.blur_sigma > 0 for draw in draws])
        solarized.append([draw.appearance.solarized for draw in draws])
        assert not any(draw.flipped for draw in draws)
    large, small = np.array(shares)[:, :2], np.array(shares)[:, 2:]
    assert small.shape[1] == 8
    assert (large.min(), large.max(), small.min(), small.max()) == pytest.approx((0.4, 1.0, 0.05, 0.4), abs=0.02)
    assert np.mean(blurred, 0) == pytest.approx([1.0, 0.1, *[0.5] * 8], abs=0.12)
    assert np.mean(solarized, 0) == pytest.approx([0.0, 0.2, *[0.0] * 8], abs=0.08)


def test_a_distorter_changes_every_crop_and_the_heart_stays_on_the_left() -> None:
    image = torch.zeros(1, 64, 64)
    image[:, :, :16] = 1
    for seed in range(10):
        plain = tiny_views(area=(1.0, 1.0)).set_random_state(seed)({"image": image})
        assert plain["view_1"][..., :2].mean() > plain["view_1"][..., -8:].mean()
    crops = batch_of(20), batch_of(20, distorter=RandDistort(bezier_prob=1.0))
    for name in ("view_1", "view_2", "local_views"):
        assert (crops[0][name] - crops[1][name]).abs().flatten(1).amax(1).min() > 0.05, name


def test_same_seed_same_crops_also_after_pickling_and_of_volumes() -> None:
    views = tiny_views(distorter=RandDistort())
    copy = pickle.loads(pickle.dumps(views))
    first, second = (v.set_random_state(3)({"image": patterned(0)}) for v in (views, copy))
    assert all(torch.equal(first[name], second[name]) for name in first)
    volume = tiny_views(mode="bilinear").set_random_state(0)({"image": torch.rand(1, 20, 24, 28)})
    assert volume["view_1"].shape == (1, 16, 16, 16)
    assert volume["local_views"].shape == (3, 1, 8, 8, 8)


# ---------------------------------------------------------------------- wiring


def moved_teacher(method: DINOMethod) -> DINOMethod:
    """The method in evaluation mode with heads that distinguish views, and another teacher and center."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for head in (method.distillation.head, method.distillation.teacher_head):
            for parameter in head.parameters():
                parameter.mul_(20)
        for parameter in (p for _, teacher in method.student_teacher_pairs() for p in teacher.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        method.distillation.center.center.copy_(0.1 * torch.randn(24, generator=generator))
    return method.eval()


def slow_term(method: DINOMethod, batch: dict[str, Any], temperature: float) -> Tensor:
    """Equation 3 of the paper, with one forward pass per network, view and sample."""
    losses = []
    for first, second, local in zip(batch["view_1"], batch["view_2"], batch["local_views"], strict=True):
        views = [first, second, *local]
        for t in (0, 1):
            embedding = method.teacher["backbone"](views[t][None]).flatten(2).mean(2)
            target = F.softmax(
                (method.distillation.teacher_head(embedding) - method.distillation.center.center) / temperature, 1
            )
            for s, view in enumerate(views):
                if s != t:
                    logits = method.distillation.head(method.backbone(view[None]).flatten(2).mean(2))
                    losses.append(-(target * F.log_softmax(logits / 0.1, 1)).sum())
    assert len(losses) == len(batch["view_1"]) * 8
    return torch.stack(losses).mean()


def test_the_term_equals_slow_separate_formulas() -> None:
    torch.manual_seed(0)
    method, batch = moved_teacher(tiny_method()), batch_of()
    slow = slow_term(method, batch, 0.04)
    torch.testing.assert_close(method(batch, START)["distillation"], slow, rtol=1e-5, atol=1e-5)
    later = method(batch, Progress(29, 100, 29, 100))["distillation"]
    torch.testing.assert_close(later, slow_term(method, batch, 0.07), rtol=1e-5, atol=1e-5)
    # the formula distinguishes the views
    turned = {**batch, "local_views": batch["local_views"].flip(0)}
    swapped = {**batch, "view_1": batch["local_views"][:, 0].repeat(1, 1, 2, 2)}
    for other in (turned, swapped):
        assert abs(slow_term(method, other, 0.04) - slow) > 1e-4


class Passes(nn.Module):
    """A head that returns the embedding as scores."""

    def forward(self, embeddings: Tensor, frozen_prototypes: bool = False) -> Tensor:
        return embeddings


def test_an_encoder_that_sees_cells_costs_the_entropy_only_for_crops_of_one_image(
    cell_backbone: Callable[..., Any],
) -> None:
    """All cells of an image are equal, so that all its crops have the same embedding."""
    method = tiny_method(cell_backbone(4), num_prototypes=16, warmup_teacher_temperature=0.1).eval()
    method.distillation.head, method.distillation.teacher_head = Passes(), Passes()
    cells = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    view, local = cells.repeat(1, 1, 4, 4), cells.repeat(1, 1, 2, 2)[:, None].repeat(1, 3, 1, 1, 1)
    batch = {"view_1": view, "view_2": view, "local_views": local}
    entropy = torch.distributions.Categorical(logits=cells.flatten(1) / 0.1).entropy().mean()
    torch.testing.assert_close(method(batch, START)["distillation"], entropy)
    for name in batch:
        assert method({**batch, name: batch[name].roll(1, 0)}, START)["distillation"] > entropy + 0.1, name


def test_the_teachers_temperature_rises_by_equal_steps_over_the_first_epochs() -> None:
    method = tiny_method()
    temperatures = [method.teacher_temperature_at(Progress(epoch, 100, 10 * epoch, 1000)) for epoch in range(40)]
    assert temperatures[:30] == pytest.approx(np.linspace(0.04, 0.07, 30).tolist())
    assert temperatures[30:] == pytest.approx([0.07] * 10)
    assert method.teacher_temperature_at(Progress(3, 100, 39, 1000)) == temperatures[3]
    for epochs in (0, 1):
        assert tiny_method(warmup_temperature_epochs=epochs).teacher_temperature_at(START) == 0.07


def test_prototypes_stand_still_in_the_first_epoch_only() -> None:
    method, batch = tiny_method(frozen_prototype_epochs=1), batch_of()
    assert method.find_unused_parameters
    assert not tiny_method().find_unused_parameters
    for epoch, frozen in ((0, True), (1, False)):
        method.zero_grad()
        method(batch, Progress(epoch, 2, epoch, 2))["distillation"].backward()
        assert (method.distillation.head.last_layer.weight_v.grad is None) == frozen
        assert method.distillation.head.mlp[0].weight.grad is not None


def test_the_center_moves_after_the_step_by_what_the_teacher_saw_in_all_micro_batches() -> None:
    torch.manual_seed(0)
    method, batch = moved_teacher(tiny_method()).train(), batch_of(4)
    before = method.distillation.center.center.clone()
    for part in (slice(0, 2), slice(2, 4)):
        method({name: value[part] for name, value in batch.items() if name != "image"}, START)
    assert torch.equal(method.distillation.center.center, before)
    method.after_step(START)
    large = torch.cat([batch["view_1"], batch["view_2"]])
    logits = method.distillation.teacher_head(method.teacher["backbone"](large).mean((2, 3)))
    torch.testing.assert_close(method.distillation.center.center, 0.9 * before + 0.1 * logits.mean(0))


@pytest.mark.parametrize("dims", [2, 3])
def test_any_backbone_trains(dims: int) -> None:
    torch.manual_seed(0)
    sizes = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 2, "patch_size": 2}
    method = tiny_method(SwinBackbone(spatial_dims=dims, **sizes)).train()
    view, local = torch.randn(2, 1, *[16] * dims), torch.randn(2, 2, 1, *[8] * dims)
    method({"view_1": view, "view_2": view + 0.1, "local_views": local}, START)["distillation"].backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.requires_grad)


def test_the_published_settings_are_the_defaults_and_the_teacher_is_kept() -> None:
    with torch.device("meta"):
        method = DINOMethod(ViTBackbone(embed_dim=384, num_heads=6))
    assert [tuple(p.shape) for p in method.distillation.head.mlp.parameters() if p.ndim == 2] == [
        (2048, 384),
        (2048, 2048),
        (256, 2048),
    ]
    assert method.distillation.head.last_layer.weight_v.shape == (65536, 256)
    part = method.distillation
    assert (part.student_temperature, part.center.momentum, part.frozen_epochs) == (0.1, 0.9, 1)
    assert method.export_networks() == {"encoder": method.teacher["backbone"]}
    assert [student for student, _ in method.student_teacher_pairs()] == [method.backbone, method.distillation.head]


def test_misfits_are_refused() -> None:
    method, batch = tiny_method(), batch_of()
    with pytest.raises(KeyError, match=r"batch lacks \['local_views'\].*RandDINOViewsd makes them"):
        method({name: batch[name] for name in ("view_1", "view_2")}, START)
    with pytest.raises(ValueError, match=r"local_views must be \(B, V, C, h, w\[, d\]\), got \(3, 1, 8, 8\)"):
        method({**batch, "local_views": batch["local_views"][:, 0]}, START)
    with pytest.raises(ValueError, match=r"temperatures must be positive, got .*teacher_temperature=0.*DINO uses"):
        tiny_method(teacher_temperature=0)
    with pytest.raises(ValueError, match=r"warmup_temperature_epochs and .* at least 0, got -1 and 0"):
        tiny_method(warmup_temperature_epochs=-1)
    with pytest.raises(ValueError, match=r"local_crops must be at least 1, got 0"):
        tiny_views(local_crops=0)
    with pytest.raises(ValueError, match=r"local_area must be two shares of the image in \(0, 1\].*got \(0.5, 0.1\)"):
        tiny_views(local_area=(0.5, 0.1))
