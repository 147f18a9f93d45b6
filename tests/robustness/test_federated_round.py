"""Federated pre-training: two sites, MONAI's own client, averages of student and teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from torch import Tensor

from monai_anat.resources import bundle_path

# MONAI warns that a configuration can run code
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

BUNDLE = bundle_path("cxr_peac_pretraining")
ROUNDS, LOCAL_EPOCHS, STEPS_PER_EPOCH = 2, 1, 3
SMALL: dict[str, Any] = {
    "image_size": 56,
    "margin": 2,
    "batch_size": 4,
    "log_every": 1,
    "probe_every": 99,
    "train#trainer#schedule_epochs": ROUNDS * LOCAL_EPOCHS,
    "train#trainer#schedules#lr#by_epoch": False,
    "network_def": {
        "_target_": "monai_anat.networks.SwinBackbone",
        "patch_size": 4,
        "embed_dim": 16,
        "depths": [2, 2],
        "num_heads": [2, 4],
    },
}


def site(name: str, images: str, folder: Path) -> MonaiAlgo:
    """A client with images of its own."""
    datalist = f"$monai_anat.data.pretraining_datalist(){images}"
    overrides = {**SMALL, "datalist": datalist, "output_dir": str(folder), "encoder_dir": str(folder / "encoder")}
    client = MonaiAlgo(
        bundle_root=str(BUNDLE),
        local_epochs=LOCAL_EPOCHS,
        send_weight_diff=False,
        config_train_filename=["configs/train.json", "configs/cpu_demo.json"],
        train_kwargs=overrides,
        config_evaluate_filename=None,
    )
    client.initialize({ExtraItems.CLIENT_NAME: name})
    return client


def average(sites: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Average the weights of all sites (FedAvg), which have the same number of images."""
    return {
        name: torch.stack([weights[name].float() for weights in sites]).mean(0).to(value.dtype)
        for name, value in sites[0].items()
    }


def test_two_sites_train_one_model(tmp_path):
    clients = [site("first", "[:14]", tmp_path / "first"), site("second", "[14:28]", tmp_path / "second")]
    weights = {name: value.clone() for name, value in clients[0].get_weights().weights.items()}
    assert any("teacher" in name for name in weights)
    before = {name: value.clone() for name, value in weights.items()}
    rates: list[float] = []
    for number in range(1, ROUNDS + 1):
        sent = []
        for client in clients:
            client.train(ExchangeObject(weights={name: value.clone() for name, value in weights.items()}))
            result = client.get_weights()
            assert result.statistics["num_executed_iterations"] == LOCAL_EPOCHS * STEPS_PER_EPOCH
            sent.append({name: value.clone() for name, value in result.weights.items()})
        assert clients[0].trainer.state.epoch == number * LOCAL_EPOCHS
        rates.append(clients[0].trainer.optimizers["main"].param_groups[0]["lr"])
        moved = {name for name in sent[0] if not torch.equal(sent[0][name], sent[1][name])}
        assert any("teacher" in name for name in moved)
        weights = average(sent)
    assert rates[0] > 2 * rates[1] > 0, "the schedule extends over all rounds"
    changed = {name for name, value in weights.items() if not torch.equal(value, before[name])}
    assert {"teacher" in name for name in changed} == {True, False}, "both networks train"
    clients[0].train(ExchangeObject(weights=weights))  # a further round begins with the averages
    clients[0].finalize()
    assert list((tmp_path / "first" / "checkpoints").glob("checkpoint_*.pt"))
