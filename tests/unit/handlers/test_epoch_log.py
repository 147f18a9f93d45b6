from __future__ import annotations

import json
from types import SimpleNamespace

import torch
from torch import nn

from monai_anat.data import SeededDataset, resumable_loader
from monai_anat.engines import FineTuneTrainer
from monai_anat.handlers import EpochLog


def test_a_line_per_epoch_with_the_mean_loss(tmp_path):
    network = nn.Linear(2, 1)
    data = SeededDataset([{"image": torch.ones(2), "label": torch.full((1,), float(i))} for i in range(4)])
    trainer = FineTuneTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=resumable_loader(data, batch_size=2),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.0),
        loss_function=nn.MSELoss(),
        train_handlers=[EpochLog(tmp_path)],
    )
    trainer.state.metrics = {"dice": torch.tensor(0.5), "per_class": torch.ones(3)}
    trainer.validator = SimpleNamespace(state=SimpleNamespace(epoch=2, metrics={"val_dice": 0.25}))
    trainer.run()
    first, second = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first.keys() == {"step", "epoch", "loss", "lr", "dice"}
    assert (second["val_dice"], second["step"], second["epoch"]) == (0.25, 4, 2)
    prediction = network(torch.ones(1, 2)).item()
    expected = sum((prediction - i) ** 2 for i in range(4)) / 4
    assert abs(first["loss"] - expected) < 1e-5
