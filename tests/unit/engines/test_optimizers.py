from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_anat.engines import LARS, build_optimizers
from monai_anat.engines.optimizers import clip_each_tensor
from monai_anat.methods.base import SSLMethod


class OneLayer(SSLMethod):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.loss_weights = {"loss": 1.0}

    def forward(self, batch, progress):
        return {"loss": self.layer(batch["image"]).mean()}

    def export_networks(self):
        return {"encoder": self.layer}


def test_a_tensor_with_zero_norm_or_gradient_is_scaled_by_one():
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.ones(2, 2)
    LARS([weight], lr=0.5, momentum=0.0).step()
    assert torch.equal(weight.detach(), torch.full((2, 2), -0.5))
    weight.grad = torch.zeros(2, 2)
    before = weight.detach().clone()
    LARS([weight], lr=0.5, momentum=0.0).step()
    assert torch.equal(weight.detach(), before)


def test_lars_step_returns_the_closure_value_and_resumes():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 4))
    twin = nn.Parameter(weight.detach().clone())
    first, second = LARS([weight]), LARS([twin])

    def closure(parameter):
        parameter.grad = None
        loss = parameter.square().sum()
        loss.backward()
        return loss.item()

    assert first.step(lambda: closure(weight)) == pytest.approx(float(twin.detach().square().sum()))
    second.step(lambda: closure(twin))
    third = LARS([twin])
    third.load_state_dict(second.state_dict())
    first.step(lambda: closure(weight))
    third.step(lambda: closure(twin))
    assert torch.equal(weight, twin)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "lars"])
def test_every_trainable_parameter_is_optimized_once(name):
    method = OneLayer()
    (optimizer,) = build_optimizers(method, name, lr=0.1, weight_decay=0.2).values()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in parameters} == {id(p) for p in method.parameters()}
    assert len(parameters) == 2
    decay = {tuple(p.shape): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {(2, 3): 0.2, (2,): 0.0}


def test_unknown_names_and_options_are_refused():
    with pytest.raises(ValueError, match=r"name must be one of \['adam', 'adamw', 'lars', 'sgd'\], got 'lion'"):
        build_optimizers(OneLayer(), "lion", lr=0.1)
    with pytest.raises(ValueError, match=r"'sgd' does not take these options: .*'betas'"):
        build_optimizers(OneLayer(), "sgd", lr=0.1, betas=(0.9, 0.99))


class TwoLayers(OneLayer):
    """The bias has an optimizer of its own."""

    def param_groups(self, weight_decay):
        first, second = super().param_groups(weight_decay)
        return [first, {**second, "optimizer": "adversary"}]


def test_another_optimizer_has_settings_of_its_own():
    others = {"adversary": {"name": "adam", "lr": 2e-4, "betas": (0.5, 0.999)}}
    built = build_optimizers(TwoLayers(), "sgd", lr=0.03, weight_decay=1e-4, others=others)
    assert {key: type(optimizer) for key, optimizer in built.items()} == {
        "main": torch.optim.SGD,
        "adversary": torch.optim.Adam,
    }
    group = built["adversary"].param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (2e-4, (0.5, 0.999), 0.0)
    assert built["main"].param_groups[0]["lr"] == 0.03
    same = build_optimizers(TwoLayers(), "sgd", lr=0.03, others={"adversary": {"lr": 0.1}})["adversary"]
    assert (type(same), same.param_groups[0]["lr"]) == (torch.optim.SGD, 0.1)
    assert build_optimizers(TwoLayers(), "sgd", lr=0.03)["adversary"].param_groups[0]["lr"] == 0.03
    with pytest.raises(ValueError, match=r"parameter groups, \['main'\], got 'adversary'"):
        build_optimizers(OneLayer(), "sgd", lr=0.1, others=others)


def test_clipping_each_tensor_leaves_small_ones_alone():
    small, large, none = (nn.Parameter(torch.zeros(4)) for _ in range(3))
    small.grad, large.grad = torch.full((4,), 0.1), torch.full((4,), 10.0)
    total = clip_each_tensor([small, large, none], 1.0)
    assert total.item() == pytest.approx((0.04 + 400) ** 0.5)
    assert torch.equal(small.grad, torch.full((4,), 0.1))
    assert large.grad.norm().item() == pytest.approx(1.0, abs=1e-5)
    assert clip_each_tensor([none], 1.0).item() == 0.0
