from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Events
from torch import nn

from monai_anat.data import SeededDataset, resumable_loader
from monai_anat.engines import SSLEvents, SSLTrainer, build_optimizers
from monai_anat.methods.base import SSLMethod
from monai_anat.schedules import ConstantSchedule, CosineSchedule

CPU = torch.device("cpu")


class ToyMethod(SSLMethod):
    """A linear map with dropout; "fit" is a mean over samples, "masked" a mean over marked values only."""

    def __init__(self, dropout: float = 0.0, weights: tuple[float, float] = (1.0, 0.5)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(4, 3), nn.Dropout(dropout), nn.Linear(3, 4))
        self.loss_weights = {"fit": weights[0], "masked": weights[1]}
        self.steps: list[int] = []

    def export_networks(self):
        return {"encoder": self.encoder}

    def loss_denominators(self, batch):
        return {"marked": batch["mask"].sum()}

    def forward(self, batch, progress):
        error = (self.encoder(batch["image"]) - batch["image"]).square()
        marked = batch.get("marked", batch["mask"].sum())
        return {"fit": error.mean(), "masked": (error * batch["mask"]).sum() / marked}

    def after_step(self, progress):
        self.steps.append(progress.step)


def images(count: int = 12) -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    return [
        {"image": torch.randn(4, generator=generator), "mask": (torch.rand(4, generator=generator) > 0.7).float()}
        for _ in range(count)
    ]


def trainer_of(method=None, data=None, batch_size=4, epochs=2, optimizer="adamw", **options) -> SSLTrainer:
    method = method or ToyMethod()
    return SSLTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=resumable_loader(SeededDataset(data or images()), batch_size=batch_size),
        method=method,
        optimizers=build_optimizers(method, optimizer, lr=0.01, weight_decay=0.05),
        **{"precision": "fp32", **options},
    )


def losses_of(trainer: SSLTrainer) -> list[float]:
    losses: list[float] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output[0]["loss"])))
    trainer.run()
    return losses


def test_loss_is_the_weighted_sum_and_falls():
    trainer = trainer_of(epochs=20)
    losses = losses_of(trainer)
    (output,) = trainer.state.output
    assert output["loss"].item() == pytest.approx(output["fit"].item() + 0.5 * output["masked"].item(), rel=1e-6)
    assert len(losses) == 60
    assert losses[-1] < 0.7 * losses[0]


def test_after_step_and_event_come_once_per_optimizer_step():
    trainer = trainer_of(micro_batch_size=1)
    events: list[int] = []
    trainer.add_event_handler(SSLEvents.OPTIMIZER_STEPPED, lambda e: events.append(e.progress.step))
    trainer.run()
    assert events == trainer.method.steps == list(range(6))


@pytest.mark.parametrize("micro", [1, 2])
def test_micro_batches_equal_the_joint_batch(micro):
    def weights(micro_batch_size):
        trainer = trainer_of(micro_batch_size=micro_batch_size, optimizer="sgd", clip_norm=None)
        losses = losses_of(trainer)
        return losses, trainer.method.encoder[0].weight.detach()

    (joint_losses, joint), (losses, cut) = weights(None), weights(micro)
    assert losses == pytest.approx(joint_losses, rel=1e-5)
    torch.testing.assert_close(cut, joint, rtol=1e-5, atol=1e-7)


def test_schedules_set_the_groups_that_allow_it():
    method = ToyMethod()
    optimizers = build_optimizers(method, lr=9.0, weight_decay=0.05)
    decayed, undecayed = optimizers["main"].param_groups
    undecayed["lr_scale"] = 0.1
    trainer = SSLTrainer(
        device=CPU,
        max_epochs=1,
        train_data_loader=resumable_loader(SeededDataset(images()), batch_size=4),
        method=method,
        optimizers=optimizers,
        schedules={"lr": CosineSchedule(1.0), "weight_decay": ConstantSchedule(0.3)},
    )
    trainer.run()
    assert decayed["lr"] == pytest.approx(10 * undecayed["lr"]) == pytest.approx(0.25)
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.3, 0.0)


def test_a_shortened_warm_up_is_logged_once(caplog):
    schedules = {"lr": CosineSchedule(1.0, warmup_epochs=3), "weight_decay": CosineSchedule(0.04, 0.4)}
    with caplog.at_level(logging.INFO):
        trainer_of(epochs=10, schedules=schedules).run()
    found = [record.message for record in caplog.records if "warm-up" in record.message]
    assert found == ["The warm-up of lr is shortened from 3 to 1 epochs, 10% of this run."]


def test_schedules_must_name_an_optimizer():
    with pytest.raises(ValueError, match=r"schedules must be among .*'lr'.*got 'learning_rate'"):
        trainer_of(schedules={"learning_rate": ConstantSchedule(1.0)})


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "lars"])
def test_a_step_with_a_non_finite_gradient_is_skipped(optimizer):
    data = images(8)
    data[3]["image"] = torch.full((4,), float("nan"))
    trainer = trainer_of(data=data, epochs=1, optimizer=optimizer)
    seen = []

    def look(engine):
        seen.append((bool(engine.state.skipped), 3 in engine.state.sample_ids, method.encoder[0].weight.clone()))

    method = trainer.method
    start = method.encoder[0].weight.clone()
    trainer.add_event_handler(Events.ITERATION_COMPLETED, look)
    trainer.run()
    assert sorted(skipped for skipped, _, _ in seen) == [False, True]
    before = start
    for skipped, has_sample, after in seen:
        assert skipped == has_sample
        assert torch.equal(after, before) == skipped
        assert torch.isfinite(after).all()
        before = after


def test_clipping_each_tensor_bounds_every_gradient():
    trainer = trainer_of(clip_norm=1e-3, clip_each=True, optimizer="sgd", epochs=1)
    trainer.schedules["lr"] = ConstantSchedule(1.0)
    trainer.schedules["weight_decay"] = ConstantSchedule(0.0)
    before = [p.detach().clone() for p in trainer.method.parameters()]
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.terminate())
    trainer.run()
    for old, new in zip(before, trainer.method.parameters(), strict=True):
        assert (new - old).norm() <= 1e-3 * 1.001


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_and_its_scaler_is_saved(precision):
    trainer = trainer_of(precision=precision, epochs=10)
    losses = losses_of(trainer)
    assert losses[-1] < losses[0]
    assert bool(trainer.training_state()["grad_scaler"]) == (precision == "fp16")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_resuming_at_any_step_repeats_losses_and_weights_bit_for_bit(precision):
    straight = trainer_of(ToyMethod(dropout=0.5), epochs=4, precision=precision)
    losses = losses_of(straight)
    for stop in (1, 3, 7):
        first = trainer_of(ToyMethod(dropout=0.5), epochs=4, precision=precision)
        first.add_event_handler(Events.ITERATION_COMPLETED(once=stop), lambda e: e.terminate())
        first.run()
        state = first.training_state()
        second = trainer_of(ToyMethod(dropout=0.5), epochs=4, precision=precision)
        second.load_training_state(state)
        torch.rand(13)  # whatever the random state is
        assert losses_of(second) == losses[stop:]
        for a, b in zip(straight.method.parameters(), second.method.parameters(), strict=True):
            assert torch.equal(a, b)


def test_resuming_another_run_is_refused():
    state = trainer_of().training_state() | {"step": 2, "consumed": 8}
    with pytest.raises(ValueError, match=r"differ in seed: 0 in the checkpoint, 1 in this run"):
        trainer_of(seed=1).load_training_state(state)
    with pytest.raises(ValueError, match=r"differ in the number of consumed samples \(batch_size\)"):
        trainer_of(batch_size=3).load_training_state(state)
    with pytest.raises(ValueError, match=r"differ in epoch_length"):
        trainer_of(data=images(8)).load_training_state(state)


def test_a_complete_run_is_logged_and_returns(caplog):
    trainer = trainer_of()
    trainer.run()
    with caplog.at_level(logging.INFO):
        trainer.run()
    assert "The run is complete (6 of 6 steps); raise max_epochs" in caplog.text
    assert trainer.method.steps == list(range(6))


def test_micro_batch_must_divide_the_batch(caplog):
    with pytest.raises(ValueError, match=r"micro_batch_size=3 for 4 samples; nearest is 2"):
        trainer_of(micro_batch_size=3).run()


class GreedyMethod(ToyMethod):
    """Runs out of memory with more than two samples."""

    def forward(self, batch, progress):
        if len(batch["image"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate a lot")
        return super().forward(batch, progress)


def test_out_of_memory_names_the_size_that_fits():
    with pytest.raises(MemoryError, match=r"micro-batch of 8 samples does not fit .* 2 fit: set micro_batch_size=2"):
        trainer_of(GreedyMethod(), batch_size=8).run()
    trainer_of(GreedyMethod(), batch_size=8, micro_batch_size=2).run()


class TwoPlayers(ToyMethod):
    """A second player with an optimizer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Linear(4, 1)
        self.loss_weights = {"fit": 1.0, "critic": 1.0}

    def loss_denominators(self, batch):
        return {}

    def forward(self, batch, progress):
        fit = (self.encoder(batch["image"]) - batch["image"]).square().mean()
        return {"fit": fit, "critic": self.critic(batch["image"]).square().mean()}

    def param_groups(self, weight_decay):
        critic = list(self.critic.parameters())
        return [
            {"params": list(self.encoder.parameters()), "weight_decay": weight_decay},
            {"params": critic, "weight_decay": 0.0, "optimizer": "critic"},
        ]


def test_two_optimizers_step_by_their_own_schedules():
    method = TwoPlayers()
    schedules = {"lr": ConstantSchedule(0.0), "critic.lr": ConstantSchedule(0.1)}
    trainer = trainer_of(method, schedules=schedules)
    encoder, critic = method.encoder[0].weight.clone(), method.critic.weight.clone()
    trainer.run()
    assert set(trainer.optimizers) == {"main", "critic"}
    assert torch.equal(method.encoder[0].weight, encoder)
    assert not torch.equal(method.critic.weight, critic)


def test_the_norm_of_one_optimizer_does_not_clip_another():
    """One step of SGD with rate 1 moves each player by its own clipped gradient."""

    def moved(weight):
        method = TwoPlayers()
        method.loss_weights["critic"] = weight
        trainer = trainer_of(method, optimizer="sgd", epochs=1, clip_norm=0.1, epoch_length=1)
        for optimizer in trainer.optimizers.values():
            optimizer.param_groups[0].update(lr=1.0, momentum=0.0, weight_decay=0.0)
        before = [[p.detach().clone() for p in part.parameters()] for part in (method.encoder, method.critic)]
        trainer.run()
        moves = [
            torch.cat([(p - b).flatten() for p, b in zip(part.parameters(), old, strict=True)])
            for part, old in zip((method.encoder, method.critic), before, strict=True)
        ]
        return moves, trainer.state.grad_norm

    (encoder, _), norm = moved(1.0)
    (encoder_beside_large, critic_large), large_norm = moved(1e6)
    assert encoder.norm().item() == pytest.approx(0.1, rel=1e-4)
    assert torch.equal(encoder, encoder_beside_large)
    assert critic_large.norm().item() == pytest.approx(0.1, rel=1e-4)
    assert large_norm > 1e4 * norm


def test_an_optimizer_without_gradients_does_nothing():
    method = TwoPlayers()
    method.loss_weights = {"fit": 1.0, "critic": 0.0}
    method.forward = lambda batch, progress: {"fit": TwoPlayers.forward(method, batch, progress)["fit"]}
    critic = method.critic.weight.clone()
    trainer = trainer_of(method)
    trainer.run()
    assert torch.equal(method.critic.weight, critic)
    assert torch.isfinite(trainer.state.grad_norm)


def test_another_loader_trains_and_warns_that_resuming_is_not_exact(caplog):
    loader = torch.utils.data.DataLoader(images(), batch_size=4)
    method = ToyMethod()
    trainer = SSLTrainer(
        device=CPU, max_epochs=1, train_data_loader=loader, method=method, optimizers=build_optimizers(method, lr=0.01)
    )
    assert trainer.batch_size is None
    trainer.state.iteration = 1
    trainer.run()
    assert "no ResumableSampler" in caplog.text


def test_method_and_schedules_get_the_stage():
    seen = []

    class StagedMethod(ToyMethod):
        def forward(self, batch, progress):
            seen.append((progress.stage, progress.stage_step, progress.stage_steps, progress.epoch, progress.step))
            return super().forward(batch, progress)

    method = StagedMethod()
    schedules = {"lr": CosineSchedule(1.0, per_stage=True)}
    trainer = trainer_of(method, epochs=3, stage_epochs=[1, 2], schedules=schedules)
    rates = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: rates.append(engine.optimizers["main"].param_groups[0]["lr"])
    )
    trainer.run()
    assert seen == [
        *[(0, step, 3, 0, step) for step in range(3)],
        *[(1, step, 6, 1 + step // 3, 3 + step) for step in range(6)],
    ]
    assert rates[0] == rates[3] == 1.0
    assert rates[2] < 0.5
    assert rates[8] < 0.1


@pytest.mark.parametrize("stages", [[1, 1], [4, -1]])
def test_stages_that_do_not_add_up_are_refused(stages):
    with pytest.raises(ValueError, match=r"stage_epochs must be positive and add up to max_epochs.*max_epochs=3"):
        trainer_of(epochs=3, stage_epochs=stages)


class NormedMethod(ToyMethod):
    """Keeps running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 4))


def test_a_skipped_step_does_not_change_running_statistics():
    data = images(8)
    data[3]["image"] = torch.full((4,), float("nan"))
    trainer = trainer_of(NormedMethod(), data=data, epochs=2)
    norm = trainer.method.encoder[1]
    seen = [[buffer.clone() for buffer in norm.buffers()]]
    skipped = []

    def look(engine):
        skipped.append(bool(engine.state.skipped))
        seen.append([buffer.clone() for buffer in norm.buffers()])

    trainer.add_event_handler(Events.ITERATION_COMPLETED, look)
    trainer.run()
    assert sorted(skipped) == [False, False, True, True]
    for left_out, before, after in zip(skipped, seen, seen[1:], strict=False):
        assert all(torch.isfinite(buffer).all() for buffer in after)
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)) == left_out


@pytest.mark.parametrize("micro", [0, -1, 2.5])
def test_a_micro_batch_has_samples(micro):
    with pytest.raises(ValueError, match=f"micro_batch_size must be a positive integer or None .*, got {micro}"):
        trainer_of(micro_batch_size=micro)


def test_resuming_with_other_images_or_another_optimizer_is_refused():
    state = trainer_of().training_state()
    with pytest.raises(ValueError, match=r"differ in the number of images: 12 in the checkpoint, 13 in this run"):
        trainer_of(data=images(13)).load_training_state(state)
    with pytest.raises(ValueError, match=r"differ in the kind of optimizer: \{'main': 'AdamW'\} in the checkpoint"):
        trainer_of(optimizer="sgd").load_training_state(state)
    older = {key: value for key, value in state.items() if key not in ("images", "optimizer_kinds")}
    trainer_of().load_training_state(older)


def test_a_run_goes_on_in_another_precision():
    for before, after in (("fp32", "fp16"), ("fp16", "fp32")):
        trainer = trainer_of(precision=after)
        trainer.load_training_state(trainer_of(precision=before).training_state())
        assert bool(trainer.training_state()["grad_scaler"]) == (after == "fp16")


def test_a_handler_that_fails_while_the_run_stops_does_not_hide_why(caplog):
    trainer = trainer_of()

    def fail(engine, error):
        raise OSError("disk full")

    trainer.add_event_handler(Events.EXCEPTION_RAISED, fail)
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda e: (_ for _ in ()).throw(RuntimeError("worker died")))
    with pytest.raises(RuntimeError, match="worker died"):
        trainer.run()
    assert "disk full" in caplog.text


def test_out_of_memory_on_several_processes_makes_no_trial():
    trainer = trainer_of(GreedyMethod(), batch_size=8)
    trainer.world_size = 2  # a trial would wait for the other process
    batch = next(iter(trainer.data_loader))
    assert "set micro_batch_size=4" in trainer._out_of_memory(batch, trainer.progress)
