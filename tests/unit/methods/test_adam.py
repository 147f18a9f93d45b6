"""Adam: views of one cell at the level of the stage, wiring of the term, and pruning."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Events
from monai.data import list_data_collate
from torch import Tensor, nn

from monai_anat.data import SeededDataset, resumable_loader
from monai_anat.engines import SSLTrainer, build_optimizers
from monai_anat.handlers import TeacherEMA
from monai_anat.handlers.teacher_ema import move_teacher
from monai_anat.methods import AdamMethod, RandAdamViewsd
from monai_anat.networks import ResNetBackbone, SwinBackbone, ViTBackbone
from monai_anat.schedules import CosineSchedule, Progress, StagePhase
from monai_anat.transforms import RandAppearance
from monai_anat.transforms.anatomy_cells import anatomy_cell_boxes

NO_CHANGE = RandAppearance(jitter_prob=0.0, blur_prob=0.0)


def at(stage: int = 0, step: int = 0) -> Progress:
    """A step of a stage of 20 steps, one epoch each."""
    return Progress(stage, 3, 20 * stage + step, 60, stage=stage, stage_step=step, stage_steps=20)


def tiny_method(**options: Any) -> AdamMethod:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    return AdamMethod(backbone, **{"embedding_dim": 16, "hidden_dim": 32, "queue_size": 32, **options})


def patterned(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A coarse pattern per image, so that images differ clearly."""
    coarse = np.random.RandomState(seed).randint(0, 256, (1, 8, 8))
    return coarse.repeat(8, 1).repeat(8, 2).astype(np.uint8)


def batch_at(stage: int = 0, image_size: int = 16, seeds: range = range(8)) -> dict[str, Any]:
    views = RandAdamViewsd(image_size=image_size)
    return list_data_collate(
        [views.set_random_state(seed)({"image": patterned(seed), "phase": stage}) for seed in seeds]
    )


@torch.no_grad()
def spread(method: AdamMethod, stage: int = 0, image_size: int = 16) -> AdamMethod:
    """Scale embeddings to all directions, and fill the queue with them.

    Those of a random network all point one way. And where the contract suite takes twenty steps on one batch, its keys
    fill the queue: only from there on does the loss fall.
    """
    method.eval()
    view = batch_at(stage, image_size)["view_2"]
    embeddings = method.contrast.projection(method.backbone(view).flatten(2).mean(2))
    for projection in (method.contrast.projection, method.contrast.teacher_projection):
        projection[-1].bias -= embeddings.mean(0)
    keys = F.normalize(embeddings - embeddings.mean(0), dim=1)
    method.contrast.queue.keys.copy_(keys.repeat(len(method.contrast.queue.keys) // 8, 1))
    return method.train()


def tiny_resnet() -> AdamMethod:
    backbone = ResNetBackbone(depth=18)
    return spread(AdamMethod(backbone, embedding_dim=16, hidden_dim=32, queue_size=8), image_size=32)


#: used by the contract tests
CASE = SimpleNamespace(
    method=lambda: spread(tiny_method(queue_size=8)), views=lambda: RandAdamViewsd(image_size=16), image=patterned
)
MORE_CASES = {
    "pruned": SimpleNamespace(
        method=lambda: spread(tiny_method(queue_size=8, reset_queue=False, prune_threshold=0.95), stage=2),
        views=lambda: RandAdamViewsd(image_size=16),
        image=patterned,
        phase=2,
        base_lr=3e-4,
    ),
    "resnet": SimpleNamespace(
        method=tiny_resnet,
        views=lambda: RandAdamViewsd(image_size=32),
        image=patterned,
        keeps_batch=False,  # batch normalization
        joint_batch=False,
    ),
}


# ---------------------------------------------------------------------- views


def places(*shape: int) -> Tensor:
    """An image with the position of each pixel along axis a, in [0, 1], as channel a."""
    axes = [(torch.arange(side) + 0.5) / side for side in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def plain_views(**options: Any) -> RandAdamViewsd:
    """Views that are plain crops, not normalized."""
    return RandAdamViewsd(**{"image_size": 8, "appearance": NO_CHANGE, "mean": 0.0, "std": 1.0, **options})


@pytest.mark.parametrize("shape", [(64, 64), (72, 66), (40, 48, 40)])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_both_views_show_one_cell_of_the_level_of_the_stage(shape: tuple[int, ...], stage: int) -> None:
    level = (0, 2, 4)[stage]
    views, image, seen = plain_views(), places(*shape), set()
    for seed in range(30):
        sample = views.set_random_state(seed)({"image": image, "phase": stage})
        inside = []
        for name in ("view_1", "view_2"):
            view = sample[name].flatten(1) * torch.tensor(shape)[:, None]
            low, high = view.min(1).values.numpy(), view.max(1).values.numpy()
            boxes = anatomy_cell_boxes(shape, level)
            inside.append([((low >= box[0]) & (high <= box.sum(0))).all() for box in boxes])
        assert inside[0] == inside[1]
        assert sum(inside[0]) == 1
        seen.add(inside[0].index(True))
        assert not torch.equal(sample["view_1"], sample["view_2"])
    assert len(seen) > 2**level * 0.6


def test_levels_may_be_any_grid() -> None:
    views, image = plain_views(levels=[(3, 1), (1, 2)]), places(36, 36)
    rows = {int(views.set_random_state(seed)({"image": image})["view_1"][0].mean() * 3) for seed in range(20)}
    assert rows == {0, 1, 2}
    cols = {
        int(views.set_random_state(seed)({"image": image, "phase": 1})["view_1"][1].mean() * 2) for seed in range(20)
    }
    assert cols == {0, 1}


def test_there_is_no_flip_and_a_mark_on_the_left_stays_there() -> None:
    views, image = plain_views(), places(64, 64)
    for seed in range(30):
        for name in ("view_1", "view_2"):
            view = views.set_random_state(seed)({"image": image})[name]
            assert (view[0].diff(dim=0) >= 0).all()
            assert (view[1].diff(dim=1) >= 0).all()


def test_views_have_appearances_of_their_own_and_the_paper_s_by_default() -> None:
    views = RandAdamViewsd(image_size=16).set_random_state(0)
    assert set(views({"image": torch.full((1, 32, 32), 0.5), "name": "x"})) == {"view_1", "view_2"}
    first, second = (draw.appearance for draw in views.draws)
    assert first != second
    chain = views.appearance
    assert (chain.brightness, chain.contrast, chain.jitter_prob) == (0.4, 0.4, 0.8)
    assert (chain.blur_sigma, chain.blur_prob, chain.angle, chain.solarize_prob) == ((0.1, 2.0), 0.5, 30.0, 0.0)
    assert views.area == (0.2, 1.0)


def test_views_are_a_function_of_the_seed_and_codes_become_gray_levels() -> None:
    views, image = RandAdamViewsd(image_size=16), patterned(0)
    first, again, other = (views.set_random_state(seed)({"image": image, "phase": 1}) for seed in (1, 1, 2))
    assert torch.equal(first["view_1"], again["view_1"])
    assert not torch.equal(first["view_1"], other["view_1"])
    assert first["view_1"].dtype == torch.float32
    floats = views.set_random_state(1)({"image": torch.from_numpy(image) / 255, "phase": 1})
    torch.testing.assert_close(first["view_1"], floats["view_1"])


def test_views_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"pixels of a view, \(16, 16\), got cells of \(15, 15\) at level 4 of .*60"):
        RandAdamViewsd(image_size=16)({"image": torch.zeros(1, 60, 60), "phase": 2})
    with pytest.raises(ValueError, match=r"got \[0, 2, 4\] and the sample is in stage 3 \(from 0 on\); stage_epochs"):
        RandAdamViewsd(image_size=4)({"image": torch.zeros(1, 60, 60), "phase": 3})
    with pytest.raises(ValueError, match=r"levels must name the level of each stage, got none"):
        RandAdamViewsd(levels=())
    with pytest.raises(ValueError, match=r"area must be two shares of the image in \(0, 1\]"):
        RandAdamViewsd(area=(0.0, 1.0))
    with pytest.raises(ValueError, match=r"level must be at least 0"):
        RandAdamViewsd(levels=(0, -2))
    with pytest.raises(ValueError, match=r"area must be two shares"):
        RandAdamViewsd(area=(0.0, 1.0), image_size=4)({"image": torch.zeros(1, 60, 60)})


# ---------------------------------------------------------------------- wiring


def slow_term(method: AdamMethod, batch: dict[str, Tensor], threshold: float) -> Tensor:
    """The formula, with one forward pass per network, view and sample."""
    losses = []
    for b in range(len(batch["view_1"])):
        tokens = method.backbone(batch["view_1"][b : b + 1])[0].flatten(1)  # (D, N)
        query = method.contrast.projection(tokens.mean(1))
        tokens = method.teacher["backbone"](batch["view_2"][b : b + 1])[0].flatten(1)
        key = method.contrast.teacher_projection(tokens.mean(1))
        query, key = query / query.norm(), key / key.norm()
        kept = [query @ n for n in method.contrast.queue.keys if query @ n < threshold]
        scores = torch.stack([query @ key, *kept]) / method.contrast.temperature
        losses.append(scores.logsumexp(0) - scores[0])
    return torch.stack(losses).mean()


@torch.no_grad()
def moved_teacher(method: AdamMethod) -> AdamMethod:
    for parameter in (p for _, teacher in method.student_teacher_pairs() for p in teacher.parameters()):
        parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    return method


@pytest.mark.parametrize(("stage", "threshold"), [(0, 9.0), (1, 0.4), (2, 0.4)])
def test_the_term_equals_slow_separate_forwards(stage: int, threshold: float) -> None:
    torch.manual_seed(0)
    method = moved_teacher(spread(tiny_method(prune_threshold=0.4, reset_queue=False), stage))
    batch = batch_at(stage)
    term, slow = method(batch, at(stage))["contrast"], slow_term(method, batch, threshold)
    torch.testing.assert_close(term, slow, rtol=1e-5, atol=1e-5)
    swapped = {**batch, "view_1": batch["view_2"], "view_2": batch["view_1"]}
    assert abs(slow_term(method, swapped, threshold) - slow) > 1e-4
    assert abs(slow_term(method, batch, 0.4 if stage == 0 else 9.0) - slow) > 1e-3


class Direction(nn.Module):
    """Direction of the position (row, column) from the center of the image."""

    def forward(self, mean: Tensor) -> Tensor:
        rows, cols = mean.chunk(2, 1)  # every pixel of a cell is a feature: (B, 16) each
        return torch.stack([rows.mean(1), cols.mean(1)], 1) - 0.5


def test_an_encoder_that_sees_places_has_nothing_to_tell_apart_among_one_place_of_all_patients(
    cell_backbone: Callable[..., Any],
) -> None:
    method = AdamMethod(
        cell_backbone(4, in_channels=2), levels=(2,), embedding_dim=2, queue_size=4, reset_queue=False
    ).eval()
    method.contrast.projection, method.contrast.teacher_projection = Direction(), Direction()
    views, cells = plain_views(levels=(2,), area=(0.9, 1.0)), {}
    for seed in range(80):  # the four quadrants of identical patients
        sample = views.set_random_state(seed)({"image": places(64, 64)})
        row, col = sample["view_1"].mean((1, 2)).tolist()
        cells.setdefault((row > 0.5, col > 0.5), []).append(sample)
    batches = {place: list_data_collate(samples[:4]) for place, samples in cells.items()}
    assert len(batches) == 4

    def contrast(anchors: tuple[bool, bool], patients: tuple[bool, bool]) -> float:
        directions = batches[patients]["view_2"].mean((2, 3)) - 0.5
        method.contrast.queue.keys.copy_(F.normalize(directions, dim=1))
        return method(batches[anchors], at())["contrast"].item()

    for here in batches:
        for there in batches:
            assert (contrast(here, there) == 0.0) == (here == there)
    method.prune_threshold = None
    assert contrast((True, False), (True, False)) > 1.5  # near log(1 + 4)


def test_the_positive_is_the_other_view_of_the_same_image() -> None:
    """The loss rises if the rows of view 2 are permuted and the encoder distinguishes the images."""
    method = spread(tiny_method())
    batch = batch_at(0)
    same = {**batch, "view_1": batch["view_2"]}
    wrong = {**same, "view_2": batch["view_2"].roll(1, 0)}
    assert method(same, at())["contrast"] + 0.5 < method(wrong, at())["contrast"]


def test_keys_enter_in_training_only_and_after_the_step() -> None:
    method, batch = spread(tiny_method(queue_size=16)), batch_at()
    before = method.contrast.queue.keys.clone()
    method.eval()(batch, at())
    method.after_step(at())
    assert torch.equal(method.contrast.queue.keys, before)
    method.train()(batch, at())
    assert torch.equal(method.contrast.queue.keys, before)
    method.after_step(at())
    with torch.no_grad():
        feature_map = method.teacher["backbone"](batch["view_2"])
        key = F.normalize(method.contrast.teacher_projection(feature_map.mean((2, 3))), dim=1)
    torch.testing.assert_close(method.contrast.queue.keys, torch.cat([key, before[8:]]))


def test_the_teacher_is_the_closed_form_of_its_average() -> None:
    method, batch = spread(tiny_method()), batch_at()
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=0.1)
    weight = method.contrast.projection[0].weight
    start, students = weight.detach().clone(), []
    for step in range(4):
        optimizer.zero_grad()
        method(batch, at(step=step))["contrast"].backward()
        optimizer.step()
        move_teacher(method.student_teacher_pairs(), 0.9)
        students.append(weight.detach().clone())
    expected = 0.9**4 * start + sum(0.1 * 0.9 ** (3 - s) * student for s, student in enumerate(students))
    torch.testing.assert_close(method.contrast.teacher_projection[0].weight, expected)
    assert [pair[0] for pair in method.student_teacher_pairs()] == [method.backbone, method.contrast.projection]


# ---------------------------------------------------------------------- stages


def prunes(method: AdamMethod, progress: Progress) -> bool:
    threshold = method._threshold(progress)
    return threshold is not None and float(threshold) < 1


def step_of(method: AdamMethod, progress: Progress) -> None:
    method.contrast.queue.observe(F.normalize(torch.randn(8, 16), dim=1))
    method.after_step(progress)


def test_a_stage_prunes_when_its_own_keys_fill_the_queue() -> None:
    method = tiny_method(queue_size=24)
    seen = []
    for stage in range(3):
        for step in range(5):
            seen.append(prunes(method, at(stage, step)))
            step_of(method, at(stage, step))
    own = [False, False, False, True, True]
    assert seen == [False] * 5 + own + own


def test_the_queue_may_be_carried_over_and_pruned_from_the_first_step() -> None:
    method = tiny_method(queue_size=24, reset_queue=False)
    assert [prunes(method, at(stage)) for stage in range(3)] == [False, True, True]
    assert not prunes(tiny_method(prune_threshold=None), at(2, 19))
    assert prunes(tiny_method(levels=[(1, 2)], reset_queue=False), at())
    assert not prunes(tiny_method(levels=[(1, 1)], reset_queue=False), at())


def test_a_run_without_stages_counts_from_its_first_step() -> None:
    method = tiny_method(queue_size=16, levels=(2,))
    seen = []
    for step in range(4):
        progress = Progress(0, 1, step, 4)
        seen.append(prunes(method, progress))
        step_of(method, progress)
    assert seen == [False, False, True, True]


def staged_trainer() -> SSLTrainer:
    torch.manual_seed(0)
    method = tiny_method(queue_size=4)  # full after one step of a stage, so each stage prunes from its second
    items = [{"image": patterned(seed)} for seed in range(8)]
    dataset = SeededDataset(items, RandAdamViewsd(image_size=16), seed=3, phase=StagePhase((1, 1, 1)))
    return SSLTrainer(
        device="cpu",
        max_epochs=3,
        stage_epochs=(1, 1, 1),
        train_data_loader=resumable_loader(dataset, batch_size=4, seed=3),
        method=method,
        optimizers=build_optimizers(method, "sgd", lr=0.05),
        schedules={"lr": CosineSchedule(0.05, by_epoch=True, first_epoch=0, per_stage=True)},
        precision="fp32",
        train_handlers=[TeacherEMA(0.9)],
    )


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_run_resumes_exactly_at_and_across_a_change_of_stage(stop: int) -> None:
    straight = staged_trainer()
    stages = []
    straight.add_event_handler(Events.ITERATION_STARTED, lambda engine: stages.append(engine.progress.stage))
    straight.run()
    assert stages == [0, 0, 1, 1, 2, 2]
    first = staged_trainer()
    first.add_event_handler(Events.ITERATION_COMPLETED(once=stop), lambda engine: engine.terminate())
    first.run()
    second = staged_trainer()
    second.load_training_state(first.training_state())
    second.run()
    one, two = straight.method.state_dict(), second.method.state_dict()
    for name in one:
        assert torch.equal(one[name], two[name]), name


# ---------------------------------------------------------------------- arguments


def test_defaults_are_the_published_ones() -> None:
    method = AdamMethod(ResNetBackbone(depth=18))
    assert (method.contrast.temperature, method.prune_threshold, method.levels) == (0.2, 0.8, (0, 2, 4))
    assert method.contrast.queue.keys.shape == (65536, 128)
    first, _, last = method.contrast.projection
    assert (first.in_features, first.out_features, last.out_features) == (512, 512, 128)


def test_misfits_are_refused() -> None:
    method, batch = tiny_method(), batch_at()
    with pytest.raises(KeyError, match=r"batch lacks \['view_2'\].*RandAdamViewsd makes them"):
        method({"view_1": batch["view_1"]}, at())
    with pytest.raises(ValueError, match=r"one shape, got \(8, 1, 16, 16\) and \(4, 1, 16, 16\)"):
        method({**batch, "view_2": batch["view_2"][:4]}, at())
    with pytest.raises(ValueError, match=r"got \[0, 2, 4\] and the run is in stage 3 .* stage_epochs must have one"):
        method(batch, at(3))
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0"):
        tiny_method(temperature=0)
    with pytest.raises(ValueError, match=r"got a queue of 12 for a batch of 8; the nearest size is 16"):
        method = tiny_method(queue_size=12)
        method(batch, at())
        method.after_step(at())


def test_the_teacher_gets_no_gradient_and_no_graph() -> None:
    method = spread(tiny_method())
    method(batch_at(), at())["contrast"].backward()
    assert all(p.grad is None for _, teacher in method.student_teacher_pairs() for p in teacher.parameters())
    assert not any(keys.requires_grad for keys in method.contrast.queue._seen)


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
    one_step(AdamMethod(backbone(), embedding_dim=16, hidden_dim=32, queue_size=32), batch_at(0, 32))


def volume_batch(volumes: list[Tensor]) -> dict[str, Any]:
    views = RandAdamViewsd(image_size=16, levels=(3,))
    return list_data_collate([views.set_random_state(i)({"image": v}) for i, v in enumerate(volumes)])


def volume_method() -> AdamMethod:
    backbone = SwinBackbone(spatial_dims=3, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, patch_size=4)
    return AdamMethod(backbone, levels=(3,), embedding_dim=16, hidden_dim=32, queue_size=32)


def test_a_volume_trains(one_step: Callable[..., None]) -> None:
    generator = torch.Generator().manual_seed(0)
    one_step(volume_method(), volume_batch([torch.rand(1, 32, 36, 33, generator=generator) for _ in range(4)]))


@pytest.mark.real_data
def test_a_ct_trains(ct: Callable[[int], Tensor], one_step: Callable[..., None]) -> None:
    one_step(volume_method(), volume_batch([ct(48)] * 4))
