from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from torch import nn

from monai_anat.data import SeededDataset, resumable_loader
from monai_anat.engines import FineTuneTrainer
from monai_anat.files import FolderInUseError, FolderLock


def trainer_of(**options) -> FineTuneTrainer:
    network = nn.Linear(2, 1)
    data = SeededDataset([{"image": torch.ones(2), "label": torch.ones(1)} for _ in range(4)])
    return FineTuneTrainer(
        device="cpu",
        train_data_loader=resumable_loader(data, batch_size=2),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=nn.MSELoss(),
        **{"max_epochs": 2, **options},
    )


class Counter:
    def __init__(self, count: int = 0) -> None:
        self.count = count

    def state_dict(self) -> dict:
        return {"count": self.count}

    def load_state_dict(self, state: dict) -> None:
        self.count = state["count"]


def test_states_of_two_handlers_of_one_name_are_kept_apart():
    first, second = trainer_of(), trainer_of()
    counters = [Counter(3), Counter(5)]
    for counter in counters:
        first.add_state("counter", counter)
    restored = [Counter(), Counter(), Counter(7)]
    for counter in restored:
        second.add_state("counter", counter)
    second.load_training_state(first.training_state())
    assert [counter.count for counter in restored] == [3, 5, 7], "a new handler starts from its own state"


def test_all_output_folders_are_locked_while_the_trainer_runs(tmp_path):
    trainer = trainer_of()
    folders = [tmp_path, tmp_path / "checkpoints"]
    for folder in [*folders, tmp_path]:
        trainer.add_output_folder(folder)
    held = []

    def look() -> None:
        for folder in folders:
            with pytest.raises(FolderInUseError, match=r"training \(FineTuneTrainer\), process"):
                FolderLock(folder, "a test").acquire()
            held.append(folder)

    trainer.add_event_handler(Events.EPOCH_STARTED, look)
    trainer.run()
    assert held == folders * 2
    with FolderLock(tmp_path, "a test"):
        pass


def test_schedules_extend_over_all_rounds_of_federated_learning():
    trainer = trainer_of(max_epochs=1, schedule_epochs=10)
    trainer.run()
    assert (trainer.progress.max_epochs, trainer.progress.max_steps, trainer.progress.step) == (10, 20, 1)


def test_a_foreign_loader_has_no_batch_size():
    trainer = trainer_of()
    trainer.data_loader = SimpleNamespace()
    assert trainer.batch_size is None
