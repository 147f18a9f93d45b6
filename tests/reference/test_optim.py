"""Recorded updates of LARS and of clipping each tensor by itself."""

from __future__ import annotations

import torch
from torch import nn

from monai_anat.engines import LARS
from monai_anat.engines.optimizers import clip_each_tensor


def test_lars_three_steps(reference, recipes, assert_agrees):
    entry = reference("optim")["lars_3steps"]
    tensors, inputs = recipes.build(entry["inputs"]), entry["inputs"]
    weight, bias = nn.Parameter(tensors["weight"]), nn.Parameter(tensors["bias"])
    optimizer = LARS(
        [weight, bias],
        lr=inputs["lr"],
        weight_decay=inputs["weight_decay"],
        momentum=inputs["momentum"],
        eta=inputs["eta"],
    )
    for step in range(3):
        weight.grad, bias.grad = tensors[f"grad_weight_step{step}"], tensors[f"grad_bias_step{step}"]
        optimizer.step()
    assert_agrees(weight.detach(), entry["expected"]["weight"], entry["tolerance"])
    assert_agrees(bias.detach(), entry["expected"]["bias"], entry["tolerance"])


def test_clip_each_tensor(reference, recipes, assert_agrees):
    entry = reference("optim")["clip_per_tensor_0.8"]
    grads = list(recipes.build(entry["inputs"]).values())
    parameters = [nn.Parameter(torch.zeros_like(grad)) for grad in grads]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad
    norms = entry["expected"]["norms_before"]
    assert_agrees(
        clip_each_tensor(parameters, entry["inputs"]["clip"]), sum(n**2 for n in norms) ** 0.5, entry["tolerance"]
    )
    after = torch.stack([parameter.grad.norm() for parameter in parameters])
    assert_agrees(after, entry["expected"]["norms_after"], entry["tolerance"])
