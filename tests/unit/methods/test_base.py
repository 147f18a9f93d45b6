"""Base classes of methods: parameter groups, frozen teacher, joint forward passes, error messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_anat.methods import SSLMethod, TeacherStudentMethod
from monai_anat.methods.base import check_view, mean_token, split_groups, token_grid, used_terms, uses_batch_statistics
from monai_anat.methods.parts import frozen_copy
from monai_anat.networks import SwinBackbone
from monai_anat.schedules import Progress

START = Progress(0, 1, 0, 1)


class Regression(SSLMethod):
    """One Linear, a norm, a learned token and a frozen parameter."""

    loss_weights: dict[str, float]

    def __init__(self) -> None:
        super().__init__()
        self.loss_weights = {"error": 1.0}
        self.linear = nn.Linear(3, 3)
        self.norm = nn.LayerNorm(3)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 3))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(5, 2))
        self.frozen = nn.Parameter(torch.zeros(3, 3), requires_grad=False)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        (x,) = self.get_tensors(batch, "x")
        return {"error": self.norm(self.linear(x)).square().mean()}

    def export_networks(self) -> dict[str, nn.Module]:
        return {"encoder": self.linear}


class Averaged(TeacherStudentMethod):
    """A student with dropout and its teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.loss_weights = {"difference": 1.0}
        self.student = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
        self.teacher = frozen_copy(self.student)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        return {"difference": (self.student(batch["x"]) - self.teacher(batch["x"])).square().mean()}

    def export_networks(self) -> dict[str, nn.Module]:
        return {"encoder": self.student}

    def student_teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.student, self.teacher)]


def by_name(method: SSLMethod) -> dict[str, set[str]]:
    """Names of the parameters in each group."""
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    return {group["name"]: {names[id(p)] for p in group["params"]} for group in method.param_groups(0.05)}


def test_what_decays_and_what_does_not() -> None:
    assert by_name(Regression()) == {
        "decayed": {"linear.weight"},
        "undecayed": {
            "linear.bias",
            "norm.weight",
            "norm.bias",
            "mask_token",
            "relative_position_bias_table",
        },
    }
    groups = {group["name"]: group for group in Regression().param_groups(0.05)}
    assert (groups["decayed"]["weight_decay"], groups["undecayed"]["weight_decay"]) == (0.05, 0.0)
    assert all(group["optimizer"] == "main" for group in groups.values())
    torch.optim.AdamW(list(groups.values()), lr=1.0)


def test_empty_groups_are_left_out() -> None:
    method = Regression()
    method.linear.weight.requires_grad_(False)
    assert set(by_name(method)) == {"undecayed"}


def test_the_teacher_is_frozen_equal_and_no_part_of_the_groups() -> None:
    method = Averaged()
    assert all(not p.requires_grad for p in method.teacher.parameters())
    assert not any(module.training for module in method.teacher.modules())  # from the start
    assert all(p.requires_grad for p in method.student.parameters())
    for student, teacher in zip(method.student.parameters(), method.teacher.parameters(), strict=True):
        assert torch.equal(student, teacher)
        assert student.data_ptr() != teacher.data_ptr()
    assert all(name.startswith("student.") for names in by_name(method).values() for name in names)


@pytest.mark.parametrize("mode", [True, False])
def test_the_teacher_stays_in_evaluation(mode: bool) -> None:
    method = Averaged().train(mode)
    assert all(module.training is mode for module in method.student.modules())
    assert not any(module.training for module in method.teacher.modules())
    assert not any(module.training for module in method.eval().teacher.modules())


def test_defaults() -> None:
    method = Regression()
    assert method.loss_denominators({}) == {}
    method.after_step(START)
    assert not method.find_unused_parameters


def test_a_missing_key_is_named_with_what_is_there_and_what_makes_it() -> None:
    with pytest.raises(KeyError, match=r"batch lacks \['x'\]; it holds \['view_1', 'y'\].*views transform makes them"):
        Regression()({"y": 1, "view_1": 2}, START)


def test_views_go_together_only_where_that_is_exact() -> None:
    views = torch.randn(3, 4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    calls: list[int] = []
    for norm, together in ((nn.GroupNorm(1, 2), True), (nn.BatchNorm2d(2), False), (nn.SyncBatchNorm(2), False)):
        network = nn.Sequential(nn.Conv2d(2, 2, 3), norm)
        handle = network[0].register_forward_hook(lambda *_: calls.append(1))
        if not isinstance(norm, nn.SyncBatchNorm):  # which does not run on a CPU in training
            joint = SSLMethod.forward_together(network, *views)
            assert len(calls) == (1 if together else 3)
            for one, view in zip(joint, views, strict=True):
                torch.testing.assert_close(one, network(view))
        calls.clear()
        SSLMethod.forward_together(network.eval(), *views)
        assert len(calls) == 1
        calls.clear()
        handle.remove()
    stateless = nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)).eval()
    for one, view in zip(SSLMethod.forward_together(stateless, *views), views, strict=True):
        torch.testing.assert_close(one, stateless(view))


def test_compiling_takes_the_networks_and_keeps_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compiled.append(type(self).__name__))
    method = Averaged()
    method.heads = nn.ModuleDict({"local": nn.Linear(3, 3)})
    names = set(method.state_dict())
    method.compile_networks(dynamic=False)
    assert compiled == ["Sequential", "Sequential", "Linear"]
    assert set(method.state_dict()) == names


@pytest.mark.parametrize(("size", "grid"), [(32, (4, 4)), ((32, 48), (4, 6))])
def test_token_grid(size: int | tuple[int, ...], grid: tuple[int, ...]) -> None:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, patch_size=4)
    assert token_grid(backbone, size) == grid
    assert backbone(torch.zeros(1, 1, *(side * 8 for side in grid))).shape[2:] == grid


@pytest.mark.parametrize(("size", "nearest"), [(450, "448"), (3, "8"), ((32, 50), r"\(32, 48\)")])
def test_a_view_that_the_cells_do_not_tile(size: int | tuple[int, ...], nearest: str) -> None:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, patch_size=4)
    with pytest.raises(ValueError, match=rf"image_size must be a multiple .*strides\[-1\]=8; nearest is {nearest}"):
        token_grid(backbone, size)


def test_checks_name_the_key_and_the_way_out() -> None:
    check_view("view_1", torch.zeros(2, 1, 8, 12), (8, 12), "Makes")
    method, order = Regression(), torch.zeros(2, 6)
    assert method.get_cells({"order": order}, "order", (2, 3)) is order
    with pytest.raises(
        ValueError, match=r"view_1 must be \(B, C, 8, 12\), got \(2, 1, 8, 8\).*Makes .*cell_size = 8 x 12"
    ):
        check_view("view_1", torch.zeros(2, 1, 8, 8), (8, 12), "Makes")
    with pytest.raises(ValueError, match=r"order must be \(B, 6\), .* 2 x 3 tokens, got \(2, 9\); give the method"):
        method.get_cells({"order": torch.zeros(2, 9)}, "order", (2, 3))


def test_used_terms() -> None:
    assert used_terms(a=1, b=0.0, c=2.0) == {"a": 1.0, "c": 2.0}
    for weights in ({"a": 0.0}, {"a": 1.0, "b": -1.0}, {"a": float("nan")}, {"a": float("inf")}):
        with pytest.raises(ValueError, match="loss weights must be at least 0 and one must be positive"):
            used_terms(**weights)


def test_a_pair_of_views_is_of_one_shape_and_of_two_images() -> None:
    method = Regression()
    one, two = torch.zeros(1, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    assert method.get_view_pair({"view_1": one, "view_2": one}) == (one, one)
    assert method.get_view_pair({"view_1": two, "view_2": two}, at_least=2) == (two, two)
    with pytest.raises(ValueError, match=r"at least 2 images.*got 1; set batch_size"):
        method.get_view_pair({"view_1": one, "view_2": one}, at_least=2)
    with pytest.raises(ValueError, match=r"one shape, got \(2, 1, 4, 4\) and \(2, 1, 4, 5\)"):
        method.get_view_pair({"view_1": two, "view_2": torch.zeros(2, 1, 4, 5)})


def test_which_networks_see_the_batch() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    assert not uses_batch_statistics(network)
    network.append(nn.BatchNorm1d(3))
    assert uses_batch_statistics(network)
    assert not uses_batch_statistics(network.eval())
    assert uses_batch_statistics(nn.BatchNorm1d(3, track_running_stats=False).eval())


def test_groups_of_a_module_are_set_apart_with_their_entries():
    body, head = nn.Linear(2, 2), nn.Linear(2, 1)
    groups = [
        {"name": "decayed", "params": [body.weight, head.weight], "weight_decay": 0.1},
        {"name": "undecayed", "params": [body.bias, head.bias], "weight_decay": 0.0},
        {"name": "other", "params": [nn.Parameter(torch.ones(1))], "weight_decay": 0.0},
    ]
    split = split_groups(groups, head, "head", scheduled=False)
    names = {group["name"]: group for group in split}
    assert list(names) == ["decayed", "head_decayed", "undecayed", "head_undecayed", "other"]
    assert [id(p) for g in split for p in g["params"]].count(id(head.weight)) == 1
    assert names["head_decayed"]["params"] == [head.weight]
    assert (names["head_decayed"]["weight_decay"], names["head_decayed"]["scheduled"]) == (0.1, False)
    assert "scheduled" not in names["decayed"]
    assert groups[0]["params"] == [body.weight, head.weight]


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4, 5, 6)])
def test_the_mean_token_is_the_mean_over_all_positions_in_float32(shape: tuple[int, ...]) -> None:
    feature_map = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    mean = mean_token(feature_map)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean, feature_map.float().mean(tuple(range(2, len(shape)))))
    assert mean_token(feature_map.double()).dtype == torch.float64
