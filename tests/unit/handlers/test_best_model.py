from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from monai_anat.handlers import BestModelSaver


def epoch(number: int, **metrics: float) -> SimpleNamespace:
    return SimpleNamespace(state=SimpleNamespace(epoch=number, metrics=metrics))


@pytest.mark.parametrize(("smaller", "expected"), [(False, (0.7, 2)), (True, (0.2, 3))])
def test_the_best_value_is_kept(tmp_path, smaller, expected):
    network, saved = nn.Linear(2, 1), []
    path = tmp_path / "models" / "model.pt"
    saver = BestModelSaver(
        path, network, metric="x", smaller_is_better=smaller, on_save=lambda: saved.append(network.bias.item())
    )
    for number, value in enumerate((0.5, 0.7, 0.2, float("nan"), 0.7), 1):
        nn.init.constant_(network.bias, number)
        saver(epoch(number, x=value))
    assert (saver.best, saver.best_epoch) == expected
    assert torch.load(path, weights_only=True)["bias"].item() == saved[-1] == expected[1]
    resumed = BestModelSaver(path, network, metric="x", smaller_is_better=smaller)
    resumed.load_state_dict(saver.state_dict())
    resumed(epoch(6, x=0.5))
    assert (resumed.best, resumed.best_epoch) == expected


def test_an_unknown_metric_is_refused(tmp_path):
    with pytest.raises(KeyError, match=r"metric must be one of \['y'\], got 'x'"):
        BestModelSaver(tmp_path / "model.pt", nn.Linear(1, 1), metric="x")(epoch(1, y=1.0))
