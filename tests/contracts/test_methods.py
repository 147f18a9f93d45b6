"""Contract of pre-training methods; method_cases.py has the methods and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from method_cases import BATCH, CASES, CLASSES, batch_of, progress_of
from torch import Tensor

from monai_anat import methods
from monai_anat.methods import SSLMethod, TeacherStudentMethod
from monai_anat.networks import load_encoder, save_encoder


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> SimpleNamespace:
    torch.manual_seed(0)
    return CASES[request.param]


def total(case: SimpleNamespace, method: SSLMethod, batch: Mapping[str, Any], step: int = 0) -> Tensor:
    terms = method(batch, progress_of(case, step))
    return torch.stack([method.loss_weights[name] * term for name, term in terms.items()]).sum()


def trainable(method: SSLMethod) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in method.named_parameters() if p.requires_grad}


def test_there_are_methods() -> None:
    anatomy = ("PEAC", "POPAR", "Lamps", "ACE", "Adam", "AdamV2", "MLVICX", "DiRA")
    baselines = ("MoCoV2", "MoCoV3", "SimSiam", "BarlowTwins", "VICReg", "DINO", "SimMIM", "MAE", "BEiT")
    assert {f"{name}Method" for name in (*anatomy, *baselines)} <= set(CLASSES)
    assert not {"SSLMethod", "TeacherStudentMethod"} & set(CLASSES)


def test_the_case_is_of_this_method_and_its_views_are_public(case: SimpleNamespace) -> None:
    assert type(case.method()) is CLASSES[case.name]
    assert type(case.views()).__name__ in methods.__all__
    assert type(case.views()).__name__ in CLASSES[case.name].views_name


def test_terms_are_finite_scalars_that_have_weights(case: SimpleNamespace) -> None:
    method = case.method()
    terms = method(batch_of(case), progress_of(case))
    assert terms
    assert set(terms) <= set(method.loss_weights)
    if not method.find_unused_parameters:  # a method with phases gives some of its terms at a time
        assert set(terms) == set(method.loss_weights)
    for name, term in terms.items():
        assert term.shape == (), name
        assert term.dtype == torch.float32, name
        assert torch.isfinite(term), name
        assert term.requires_grad, name


def test_gradients_reach_the_student_and_never_the_teacher(case: SimpleNamespace) -> None:
    method = case.method()
    total(case, method, batch_of(case)).backward()
    for name, parameter in method.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
        elif name not in case.without_gradient and not method.find_unused_parameters:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name


def test_the_loss_falls_in_twenty_steps(case: SimpleNamespace) -> None:
    method, batch = case.method().train(), batch_of(case)
    optimizer = torch.optim.AdamW(method.param_groups(0.01), lr=case.base_lr)
    losses = []
    for step in range(20):
        optimizer.zero_grad()
        loss = total(case, method, batch, step)
        loss.backward()
        optimizer.step()
        method.after_step(progress_of(case, step))
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0], losses


def test_the_state_dict_holds_everything(case: SimpleNamespace) -> None:
    method, batch = case.method(), batch_of(case)
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=1e-2)
    total(case, method, batch).backward()
    optimizer.step()
    method.after_step(progress_of(case))
    other = case.method()
    other.load_state_dict(method.state_dict())
    expected, got = total(case, method.eval(), batch), total(case, other.eval(), batch)
    assert torch.equal(expected, got)


def test_it_runs_under_bf16_autocast(case: SimpleNamespace) -> None:
    method, batch = case.method().eval(), batch_of(case)
    exact = method(batch, progress_of(case))
    with torch.autocast("cpu", torch.bfloat16):
        terms = method(batch, progress_of(case))
    for name, term in terms.items():
        assert term.dtype == torch.float32, name
        torch.testing.assert_close(term, exact[name], rtol=0.1, atol=0.05, msg=name)
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in trainable(method).values() if p.grad is not None)


def test_the_encoder_can_be_kept_and_built_again(case: SimpleNamespace, tmp_path: Path) -> None:
    method, batch = case.method().eval(), batch_of(case)
    encoder = method.export_networks()["encoder"]
    size = batch["view_1"].shape[2:]
    save_encoder(encoder, tmp_path, image_size=tuple(size), mean=0.5, std=0.25, provenance={"method": case.name})
    again = load_encoder(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again(batch["view_1"]), encoder(batch["view_1"]))


def test_parameter_groups_hold_each_trainable_parameter_once(case: SimpleNamespace) -> None:
    method = case.method()
    grouped = [id(p) for group in method.param_groups(0.05) for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in trainable(method).values()}
    for group in method.param_groups(0.05):
        if group["weight_decay"] > 0:
            assert all(p.ndim > 1 for p in group["params"])


def test_micro_batches_with_counts_equal_the_joint_batch(case: SimpleNamespace) -> None:
    if not case.keeps_batch:
        pytest.skip("the terms depend on which samples share a batch")
    method = case.method().eval().double()
    batch = {name: v.double() if torch.is_floating_point(v) else v for name, v in batch_of(case).items()}
    total(case, method, batch).backward()
    joint = {name: p.grad.clone() for name, p in trainable(method).items() if p.grad is not None}
    method.zero_grad()
    counts = {name: count / 4 for name, count in method.loss_denominators(batch).items()}
    for start in range(0, BATCH, BATCH // 4):
        part = {name: v[start : start + BATCH // 4] for name, v in batch.items() if isinstance(v, Tensor)}
        (total(case, method, part | counts) / 4).backward()
    for name, gradient in joint.items():
        torch.testing.assert_close(trainable(method)[name].grad, gradient, rtol=1e-6, atol=1e-9, msg=name)


def test_the_teacher_is_a_frozen_copy_in_evaluation(case: SimpleNamespace) -> None:
    method = case.method().train()
    if not isinstance(method, TeacherStudentMethod):
        pytest.skip("no teacher")
    assert bool(method.student_teacher_pairs()) == case.teacher
    for student, teacher in method.student_teacher_pairs():
        assert not any(module.training for module in teacher.modules())
        assert all(not p.requires_grad for p in teacher.parameters())
        assert student.training
        for (name, one), (other_name, other) in zip(
            student.state_dict().items(), teacher.state_dict().items(), strict=True
        ):
            assert name == other_name
            assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of torch.compile's own
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("SimMIMMethod", "MAEMethod") else pytest.mark.slow) for n in CLASSES]
)
def test_compiling_takes_the_whole_encoder_and_changes_no_term(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    method, batch = case.method().eval(), batch_of(case)
    expected, compiled = method(batch, progress_of(case)), set()
    torch.stack(list(expected.values())).sum().backward()

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.update(id(value) for value in inputs)
        return graph.forward

    method.compile_networks(backend=backend)
    for term, value in method(batch, progress_of(case)).items():
        torch.testing.assert_close(value, expected[term], msg=term)
    used = {
        n: p for n, p in method.export_networks()["encoder"].named_parameters() if p.ndim > 1 and p.grad is not None
    }
    assert {n for n, p in used.items() if id(p) not in compiled and "patch_embed" not in n} == set()


def test_a_missing_key_is_named(case: SimpleNamespace) -> None:
    with pytest.raises(KeyError, match=rf"batch lacks .*it holds \['unrelated'\].*{case.method().views_name}"):
        case.method()({"unrelated": torch.zeros(1)}, progress_of(case))
