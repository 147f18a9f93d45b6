"""Module forms of losses: equal to their functions, and usable by MONAI's trainers."""

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn

from monai_anat import losses

SHAPES = {
    "CompositionLoss": ((4, 8), "composition_distance"),
    "DecompositionLoss": ((4, 2, 8), "decomposition_distance"),
    "GlobalConsistencyLoss": ((4, 8), "global_consistency"),
    "RedundancyReductionLoss": ((4, 8), "redundancy_reduction"),
    "RestorationLoss": ((4, 1, 8, 8), "restoration_mse"),
    "VarianceCovarianceLoss": ((4, 8), "variance_covariance"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_module_gives_the_value_of_its_function(name):
    shape, function = SHAPES[name]
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    assert torch.equal(getattr(losses, name)()(first, second), getattr(losses, function)(first, second))


def test_arguments_reach_the_functions():
    logits, targets = torch.randn(1, 2, 3), torch.rand(1, 2, 3)
    assert torch.equal(losses.MatchingLoss(0.9)(logits, targets), losses.matching_cross_entropy(logits, targets, 0.9))
    order = torch.tensor([[1, 0, 2]])
    assert torch.equal(
        losses.OrderLoss()(logits[:, [0, 1, 0]], order), losses.order_cross_entropy(logits[:, [0, 1, 0]], order)
    )
    first, second = torch.randn(4, 8), torch.randn(4, 8)
    weighted = losses.VarianceCovarianceLoss(1.0, 2.0, 3.0)(first, second)
    assert torch.equal(weighted, losses.variance_covariance(first, second, 1.0, 2.0, 3.0))


def test_a_monai_trainer_takes_a_module():
    network = nn.Conv2d(1, 1, 1)
    before = network.weight.detach().clone()
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": torch.ones(1, 1, 4, 4), "label": torch.zeros(1, 1, 4, 4)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=losses.RestorationLoss(),
    )
    trainer.run()
    assert not torch.equal(network.weight, before)
