"""MLVICX against recorded numbers: the terms, the gates, the fusion and the heads."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_anat.losses import variance_covariance, vicreg_covariance, vicreg_invariance, vicreg_variance
from monai_anat.networks import ContextGate
from monai_anat.networks.heads.expander import ExpanderHead
from monai_anat.networks.heads.fusion import FusionHead

TERMS = ["vicreg_n16_d256", "vicreg_n16_d256_correlated_std_above_1", "vicreg_n32_d24"]


def load_in_order(module: nn.Module, state: dict[str, Tensor], names: list[str]) -> None:
    """Load published layers, named in the order of ours: weight and bias of each."""
    own = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for layer, name in zip(own, names, strict=True):
            layer.weight.copy_(state[f"{name}.weight"])
            layer.bias.copy_(state[f"{name}.bias"])


@pytest.mark.parametrize("name", TERMS)
def test_terms(
    name: str, recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    entry = reference("mlvicx")[name]
    expected, tolerance = entry["expected"], entry["tolerance"]
    t = recipes.build(entry["inputs"])
    z_1, z_2 = t["z1"].requires_grad_(), t["z2"].detach()
    total = variance_covariance(z_1, z_2)
    total.backward()
    assert_agrees(vicreg_invariance(z_1, z_2), expected["invariance"], tolerance)
    assert_agrees(vicreg_variance(z_1, z_2), expected["variance"], tolerance)
    assert_agrees(vicreg_covariance(z_1, z_2), expected["covariance"], tolerance)
    assert_agrees(total, expected["total"], tolerance)
    assert_agrees(z_1.grad.norm(), expected["grad_z1_norm"], tolerance)


@pytest.mark.parametrize("name", ["cbam_c64_14", "cbam_c32_7"])
def test_gate(
    name: str, recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    entry = reference("mlvicx")[name]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    t = recipes.build(inputs)
    gate = ContextGate(t["map"].shape[1], reduction=inputs["reduction"])
    ours = ("channel_mlp.0.weight", "channel_mlp.2.weight", "position_conv.weight")
    theirs = ("cam.fc.0.weight", "cam.fc.2.weight", "sam.conv1.weight")
    gate.load_state_dict({a: t["weights"][b] for a, b in zip(ours, theirs, strict=True)})
    with torch.no_grad():
        channel = gate.channel_gate(t["map"])
        position, out = gate.position_gate(t["map"] * channel), gate(t["map"])
    assert_agrees(channel.mean(), expected["channel_gate_mean"], tolerance)
    assert_agrees(channel.std(), expected["channel_gate_std"], tolerance)
    assert_agrees(channel.flatten()[:6], expected["channel_gate_first6"], tolerance)
    assert_agrees(position.mean(), expected["spatial_gate_mean"], tolerance)
    assert_agrees(position.std(), expected["spatial_gate_std"], tolerance)
    assert_agrees(out.mean(), expected["out_mean"], tolerance)
    assert_agrees(out.std(), expected["out_std"], tolerance)
    assert_agrees(torch.stack([out[tuple(place)] for place in inputs["entries"]]), expected["entries"], tolerance)


def test_fusion(recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]) -> None:
    entry = reference("mlvicx")["fusion_reduced"]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    t = recipes.build(inputs)
    maps, state = [t[f"map{number}"] for number in range(1, 6)], t["weights"]
    head = FusionHead(
        [m.shape[1] for m in maps],
        inputs["dim"],
        fused_channels=inputs["common_channels"],
        fused_size=inputs["common_size"],
    )
    for number, projection in enumerate(head.projections):
        projection.load_state_dict({leaf: state[f"convs.{number}.{leaf}"] for leaf in ("weight", "bias")})
    load_in_order(head.expander, state, [f"conv_head.projection.{n}" for n in (2, 3, 5, 6, 8, 9)])
    with torch.no_grad():
        fused = head.fuse(maps)
        trained = head.train()(maps)
        evaluated = head.eval()(maps)
    assert_agrees(fused.flatten()[:8], expected["pooled_first8"], tolerance)
    assert_agrees(fused.flatten()[-4:], expected["pooled_last4"], tolerance)
    assert_agrees(fused.std(), expected["pooled_std"], tolerance)
    assert_agrees(trained.flatten()[:8], expected["out_train_first8"], tolerance)
    assert_agrees(trained.std(), expected["out_train_std"], tolerance)
    assert_agrees(evaluated.flatten()[:8], expected["out_eval_first8"], tolerance)


def test_global_head(
    recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    entry = reference("mlvicx")["global_head_reduced"]
    expected, tolerance = entry["expected"], entry["tolerance"]
    t = recipes.build(entry["inputs"])
    head = ExpanderHead(32, 40, (48, 48), final_norm=True)
    load_in_order(head, t["weights"], [f"l{layer}.{part}" for layer in (1, 2, 3) for part in (0, 1)])
    with torch.no_grad():
        out = head(t["x"])
    assert_agrees(out.flatten()[:8], expected["first8"], tolerance)
    assert_agrees(out.flatten()[-4:], expected["last4"], tolerance)
    assert_agrees(out.std(), expected["std"], tolerance)
