from __future__ import annotations

import json

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from monai.handlers import EarlyStopHandler, IgniteMetricHandler, ValidationHandler, from_engine
from monai.metrics import MSEMetric
from monai.optimizers import WarmupCosineSchedule
from monai.transforms import RandGaussianNoised
from torch import nn

from monai_anat.data import SeededDataset, resumable_loader
from monai_anat.engines import FineTuneTrainer
from monai_anat.handlers import BestModelSaver, Checkpointer, EpochLog

EPOCHS, STEPS_PER_EPOCH = 5, 3
#: MONAI calls Ignite's early stopping by the older names of its arguments
pytestmark = pytest.mark.filterwarnings("ignore:'(min_delta|cumulative_delta)':DeprecationWarning")


def items(count: int) -> list[dict]:
    generator = torch.Generator().manual_seed(count)
    return [
        {"image": (x := torch.randn(4, generator=generator)), "label": x.sum().reshape(1) ** 2} for _ in range(count)
    ]


def build(folder, workers: int = 0, patience: int = 50, lr: float = 0.1):
    """A run with dropout, random transforms, a rate schedule, validation every 2 epochs and early stopping."""
    torch.manual_seed(5)
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    scheduler = WarmupCosineSchedule(optimizer, warmup_steps=1, t_total=EPOCHS)
    saver = BestModelSaver(folder / "model.pt", network, metric="val_mse", smaller_is_better=True)
    early_stop = EarlyStopHandler(patience, lambda engine: -engine.state.metrics["val_mse"])

    def metric() -> IgniteMetricHandler:
        return IgniteMetricHandler(metric_fn=MSEMetric(), output_transform=from_engine(["pred", "label"]))

    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=torch.utils.data.DataLoader(items(5), batch_size=2),
        network=network,
        key_val_metric={"val_mse": metric()},
        metric_cmp_fn=lambda current, best: current < best,
        val_handlers=[saver, early_stop],
    )
    noise = RandGaussianNoised(keys="image", prob=0.8, std=0.3)
    trainer = FineTuneTrainer(
        device="cpu",
        max_epochs=EPOCHS,
        train_data_loader=resumable_loader(
            SeededDataset(items(13), noise, seed=2), batch_size=4, seed=2, num_workers=workers
        ),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        key_train_metric={"train_mse": metric()},
        seed=2,
        validator=evaluator,
        stateful={"lr_scheduler": scheduler, "best_model": saver, "early_stop": early_stop},
        train_handlers=[ValidationHandler(2, evaluator), EpochLog(folder)],
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: scheduler.step())
    early_stop.set_trainer(trainer)
    return trainer, saver


def run(folder, stop: int | None = None, **options):
    """Run or resume; ``stop`` raises an error after that many steps, as a kill would end the process."""
    trainer, saver = build(folder, **options)
    checkpointer = Checkpointer(folder / "checkpoints")
    checkpointer.resume(trainer)
    checkpointer.attach(trainer)
    if stop is not None:
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=stop), fail)
        with pytest.raises(ZeroDivisionError):
            trainer.run()
    else:
        trainer.run()
    return trainer, saver


def fail() -> None:
    raise ZeroDivisionError


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("workers", "stops"), [(0, [7]), (0, [2, 8, 13]), (2, [10])])
def test_a_killed_run_equals_an_uninterrupted_one(tmp_path, workers, stops):
    whole, whole_saver = run(tmp_path / "whole")
    for stop in stops:
        run(tmp_path / "cut", stop=stop, workers=workers)
    rest, rest_saver = run(tmp_path / "cut", workers=workers)
    for a, b in zip(whole.network.state_dict().values(), rest.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert [line["epoch"] for line in lines(tmp_path / "cut") if "val_mse" in line] == [2, 4]
    assert (rest_saver.best, rest_saver.best_epoch) == (whole_saver.best, whole_saver.best_epoch)
    assert rest.validator.state.best_metric == whole.validator.state.best_metric
    best = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "cut")]
    assert all(torch.equal(best[0][key], best[1][key]) for key in best[0])


def test_a_worse_model_does_not_replace_the_best_one_after_resuming(tmp_path):
    run(tmp_path, stop=7, lr=0.0)
    before = (tmp_path / "model.pt").stat().st_mtime_ns
    trainer, saver = run(tmp_path, lr=0.0)  # equal is not better
    assert (saver.best_epoch, trainer.state.epoch) == (2, EPOCHS)
    assert (tmp_path / "model.pt").stat().st_mtime_ns == before


def test_a_run_that_stopped_early_stays_stopped(tmp_path):
    trainer, _ = run(tmp_path, patience=1, lr=0.0)
    assert trainer.state.epoch == 4
    again, _ = run(tmp_path, patience=1, lr=0.0)
    assert again.is_complete
    assert len(lines(tmp_path)) == 4


def test_checkpoints_are_written_at_the_end_of_epochs_only(tmp_path):
    trainer, _ = build(tmp_path)
    saver = Checkpointer(tmp_path / "checkpoints", every_steps=1, keep_last=99)
    saver.attach(trainer)
    trainer.run()
    assert [int(path.stem[-8:]) for path in saver.files()] == [3, 6, 9, 12, 15]


def test_early_stopping_needs_its_trainer_first(tmp_path):
    trainer, _ = build(tmp_path)
    trainer._stateful["early_stop"]._handler = None
    with pytest.raises(RuntimeError, match="call set_trainer"):
        trainer.training_state()
