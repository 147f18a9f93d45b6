"""Layout of a family: prefixes, branches, general layouts, and files of the published size."""

from __future__ import annotations

import pytest
import torch

from monai_anat.networks import ConvNeXtBackbone, ResNetBackbone, SwinBackbone
from monai_anat.networks.pretrained.families import FAMILIES
from monai_anat.networks.pretrained.family import has_marks, key_names, select_backbone, tensors_in


def test_tensors_are_found_at_the_top_and_one_level_down():
    one = torch.ones(1)
    groups = tensors_in({"epoch": 3, "a": one, "model": {"b": one, "c": "text"}, "optimizer": {"state": {}}})
    assert {outer: set(tensors) for outer, tensors in groups.items()} == {"": {"a"}, "model": {"b"}}


def test_prefixes_are_stripped_as_prefixes_only():
    one = torch.ones(1)
    keys = ["module.module.backbone.swin_model.layers.0.backbone.weight", "backbone.norm.module.weight"]
    state, dropped = select_backbone(FAMILIES["popar"], "student", {"": dict.fromkeys(keys, one)})
    assert set(state) == {"layers.0.backbone.weight", "norm.module.weight"}
    assert dropped == []


def test_heads_beside_a_marked_backbone_never_collide_with_it():
    backbone, head = torch.ones(1), torch.zeros(1)
    groups = {"student": {"module.swin_model.norm.weight": backbone, "module.norm.weight": head, "module.bias": head}}
    state, dropped = select_backbone(FAMILIES["peac"], "student", groups)
    assert state == {"norm.weight": backbone}
    assert set(dropped) == {"module.norm.weight", "module.bias"}


def test_layers_keep_what_only_heads_lose():
    keys = ["layers.0.blocks.0.mlp.fc1.bias", "layers.0.downsample.norm.bias", "norm.bias"]
    extra = ["head.bias", "bias", "mlp.0.weight", "mlp_local.0.weight", "decoder.0.bias", "layers.0.blocks.1.attn_mask"]
    groups = {"model": {f"module.swin_model.{key}": torch.ones(1) for key in keys + extra}}
    state, dropped = select_backbone(FAMILIES["popar"], "student", groups)
    assert list(state) == keys
    assert len(dropped) == len(extra)


def test_a_branch_that_is_not_there():
    with pytest.raises(KeyError):
        select_backbone(FAMILIES["peac"], "teacher", {"model": {"a": torch.ones(1)}})


def test_a_student_is_never_taken_for_the_teacher():
    with pytest.raises(KeyError):
        select_backbone(FAMILIES["monai_anat"], "teacher", {"method": {"backbone.norm.weight": torch.ones(1)}})
    with pytest.raises(KeyError):
        select_backbone(FAMILIES["adam"], "teacher", {"state_dict": {"module.encoder_q.bn1.bias": torch.ones(1)}})


def _true_size(family):
    """A file of the published size, without values: outer key, content, and the network that is in it."""
    with torch.device("meta"):
        if family in ("lamps", "ace"):
            backbone = SwinBackbone(in_channels=3, norm_eps=1e-6)
            inner = dict(backbone.state_dict()) | {"mask_token": torch.ones(1, 1, 128)}
            for s, depth in enumerate((2, 2, 18, 2)):
                for b in range(depth):
                    inner[f"layers.{s}.blocks.{b}.attn.relative_position_index"] = torch.ones(49, 49)
            if family == "lamps":
                inner["absolute_pos_embed"] = torch.ones(1, 12544, 128)
            heads = ("composer.layer.6.weight",) if family == "lamps" else ("DenseHead.mlp.0.weight",)
            prefix, outer = "module.backbone.", "student"
        elif family == "adam":
            backbone, prefix, outer = ResNetBackbone(in_channels=3, depth=50), "module.encoder_q.", "state_dict"
            inner, heads = dict(backbone.state_dict()), ("encoder_q.fc.2.weight", "queue", "queue_ptr")
        else:
            backbone, prefix, outer = ConvNeXtBackbone(in_channels=3), "module.backbone.", "teacher"
            inner, heads = dict(backbone.state_dict()), ("head.mlp.0.weight", "head.last_layer.weight_g")
        tensors = {prefix + name: value for name, value in inner.items()}
        return outer, tensors | {f"module.{name}": torch.ones(2) for name in heads}, backbone


@pytest.mark.parametrize("family", ["lamps", "ace", "adam", "adam_v2"])
def test_files_of_the_published_size_fit_the_published_network(family):
    outer, tensors, backbone = _true_size(family)
    groups = {outer: tensors, **({"localizability_loss": {"center": torch.ones(1)}} if family == "adam_v2" else {})}
    assert has_marks(FAMILIES[family], [*key_names(groups), "number/best_loss"])
    branch = next(iter(FAMILIES[family].branches))
    state, dropped = select_backbone(FAMILIES[family], branch, {outer: tensors})
    expected = {name: value.shape for name, value in backbone.state_dict().items()}
    assert {name: value.shape for name, value in state.items()} == expected
    assert len(dropped) == len(tensors) - len(expected)


def test_a_general_layout_is_found_under_any_prefix():
    one = torch.ones(1)
    tensors = {
        "module.encoder.layer1.0.conv1.weight": one,
        "module.encoder.fc.0.weight": one,
        "module.predictor.0.weight": one,
    }
    state, dropped = select_backbone(FAMILIES["torchvision_resnet"], "student", {"state_dict": tensors})
    assert set(state) == {"layer1.0.conv1.weight"}
    assert set(dropped) == {"module.encoder.fc.0.weight", "module.predictor.0.weight"}
    state, _ = select_backbone(FAMILIES["torchvision_resnet"], "student", {"network": {"layer1.0.conv1.weight": one}})
    assert set(state) == {"layer1.0.conv1.weight"}
    two = {"a.layer1.0.conv1.weight": one, "b.layer1.0.conv1.weight": one}
    with pytest.raises(ValueError, match=r"several networks, under '[ab]\.', '[ab]\.'; save the state dict of one"):
        select_backbone(FAMILIES["torchvision_resnet"], "student", {"": two})
