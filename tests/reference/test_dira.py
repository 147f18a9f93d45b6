"""DiRA against recorded numbers: contrast, restoration, terms of both players, their sum, and the discriminator."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_anat.losses import discriminator_loss, generator_loss, pruned_info_nce, restoration_mse
from monai_anat.methods import DiRAMethod
from monai_anat.networks import ResNetBackbone

NAMES = ["dira_losses_n3", "dira_losses_n2_96px"]
#: recorded name -> ours
LAYERS = {
    "model.0": "initial_conv.conv",
    "model.2": "0.conv",
    "model.5": "1.conv",
    "model.8": "2.conv",
    "model.11": "final_conv.conv",
}


@pytest.fixture(scope="module")
def method() -> DiRAMethod:
    return DiRAMethod(ResNetBackbone(depth=18), queue_size=8)


def load(discriminator: torch.nn.Module, recorded: dict[str, Tensor]) -> None:
    """A bias before a normalization has no effect, so the discriminator has none there."""
    named = {f"{LAYERS[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": v for name, v in recorded.items()}
    own = discriminator.state_dict()
    inert = {f"{layer}.conv.bias" for layer in ("0", "1", "2")}
    assert set(named) - set(own) == inert
    discriminator.load_state_dict({name: v for name, v in named.items() if name not in inert}, strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_dira(
    name: str,
    method: DiRAMethod,
    recipes: SimpleNamespace,
    reference: Callable[..., Any],
    assert_agrees: Callable[..., None],
) -> None:
    entry = reference("dira")[name]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    t = recipes.build(inputs)
    load(method.discriminator, t["discriminator"])
    fake, real = (method.discriminator(t[image])[-1] for image in ("reconstruction", "target"))
    terms = {
        "discrimination": pruned_info_nce(t["query"], t["key"], t["bank_rows"], inputs["temperature"]),
        "restoration": restoration_mse(t["reconstruction"], t["target"]),
        "adversarial": generator_loss(fake),
    }
    assert list(real.shape[1:]) == expected["disc_shape"]
    for image, scores in (("fake", fake), ("real", real)):
        entries = torch.stack([scores[tuple(place)] for place in inputs["disc_entries"]])
        assert_agrees(entries, expected[f"disc_{image}_entries"], tolerance)
    assert_agrees(terms["discrimination"], expected["nce"], tolerance)
    assert_agrees(terms["restoration"], expected["mse"], tolerance)
    assert_agrees(terms["adversarial"], expected["g_adv"], tolerance)
    assert_agrees(discriminator_loss(real, fake), expected["d_loss"], tolerance)
    assert_agrees(sum(method.loss_weights[n] * term for n, term in terms.items()), expected["g_total"], tolerance)


def test_another_player_or_order_does_not_agree(
    method: DiRAMethod, recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    entry = reference("dira")["dira_losses_n3"]
    t, expected, tolerance = recipes.build(entry["inputs"]), entry["expected"], entry["tolerance"]
    load(method.discriminator, t["discriminator"])
    fake, real = (method.discriminator(t[image])[-1] for image in ("reconstruction", "target"))
    for wrong, right in (
        (discriminator_loss(fake, real), "d_loss"),
        (generator_loss(real), "g_adv"),
        (generator_loss(fake, "bce"), "g_adv"),
    ):
        with pytest.raises(AssertionError):
            assert_agrees(wrong, expected[right], tolerance)
