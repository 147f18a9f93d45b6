from __future__ import annotations

import copy

import pytest
import torch
from monai.networks.utils import copy_model_state

from monai_anat.networks import EncoderClassifier, SwinBackbone


def network(classes: int) -> EncoderClassifier:
    return EncoderClassifier(SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2)), classes)


def test_a_head_of_other_classes_does_not_stay_random_without_a_message() -> None:
    with pytest.raises(ValueError, match=r"2 of \d+ tensors would keep random values \(head.weight, head.bias\)"):
        copy_model_state(dst=network(14), src=network(4).state_dict())


def test_whole_states_are_copied() -> None:
    target, source = network(4), network(4)
    copy_model_state(dst=target, src=source.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), source.parameters(), strict=True))


def test_load_state_dict_and_scripting_are_not_affected() -> None:
    target, source = copy.deepcopy(network(14)), network(4)
    state = target.state_dict()
    state.update({name: value for name, value in source.state_dict().items() if name.startswith("backbone.")})
    target.load_state_dict(state)
    scripted = torch.jit.script(target.eval())
    image = torch.rand(1, 1, 56, 56)
    torch.testing.assert_close(scripted(image), target(image))
