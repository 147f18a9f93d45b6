"""Joint batch normalization is torch's own with one process, and that of the joint batch with two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from monai_anat.networks import GlobalBatchNorm


def filled(norm: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    return norm


def maps_of(seed: int, rows: int = 8) -> Tensor:
    return 3 + 2 * torch.randn(rows, 5, 2, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("training", [True, False])
def test_one_process_has_torchs_own(training: bool) -> None:
    ours, theirs = filled(GlobalBatchNorm(5)).train(training), filled(nn.BatchNorm2d(5)).train(training)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for seed in range(2):
        assert torch.equal(ours(maps_of(seed)), theirs(maps_of(seed)))
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_embeddings_and_volumes_too() -> None:
    norm = GlobalBatchNorm(5)
    for shape in ((8, 5), (4, 5, 3), (2, 5, 2, 2, 2)):
        out = norm(torch.randn(shape)).movedim(1, 0).flatten(1)
        torch.testing.assert_close(out.mean(1), torch.zeros(5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_without_running_statistics_it_is_always_the_batch(training: bool) -> None:
    norm = filled(GlobalBatchNorm(5, track_running_stats=False)).train(training)
    theirs = filled(nn.BatchNorm2d(5, track_running_stats=False)).train(training)
    assert norm.state_dict().keys() == {"weight", "bias"}
    assert torch.equal(norm(maps_of(0)), theirs(maps_of(0)))


def test_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"input must be \(B, 5, \.\.\.\), got \[2, 4, 3, 3\]"):
        GlobalBatchNorm(5)(torch.zeros(2, 4, 3, 3))


#: the gradients that two processes have on average; argv is rank, meeting place, rows of each process, output
WORKER = """
import sys, torch, torch.distributed as dist
from monai_anat.networks import GlobalBatchNorm
rank, place, shares, output = int(sys.argv[1]), sys.argv[2], torch.load(sys.argv[3]), sys.argv[4]
dist.init_process_group("gloo", init_method="file://" + place, rank=rank, world_size=2)
norm = GlobalBatchNorm(5)
norm.load_state_dict(shares["state"])
rows = shares["rows"][rank::2].requires_grad_()
out = norm(rows)
(out * shares["weights"][rank::2]).square().mean().backward()
untracked = GlobalBatchNorm(5, track_running_stats=False).eval()(rows.detach())
for parameter in norm.parameters():
    dist.all_reduce(parameter.grad)
    parameter.grad /= 2
torch.save({"out": out.detach(), "rows": rows.grad / 2, "weight": norm.weight.grad, "bias": norm.bias.grad,
            "state": norm.state_dict(), "untracked": untracked}, output)
dist.destroy_process_group()
"""


def test_two_processes_equal_the_joint_batch(tmp_path: Path) -> None:
    """Without running statistics also in evaluation."""
    joint, untracked = filled(GlobalBatchNorm(5)), GlobalBatchNorm(5, track_running_stats=False).eval()
    rows, weights = maps_of(0).requires_grad_(), maps_of(1)
    torch.save({"state": joint.state_dict(), "rows": rows.detach(), "weights": weights}, tmp_path / "shares.pt")
    command = [sys.executable, "-W", "ignore", "-c", WORKER]
    place, shares = str(tmp_path / "place"), str(tmp_path / "shares.pt")
    workers = [
        subprocess.Popen(
            [*command, str(rank), place, shares, str(tmp_path / f"{rank}.pt")],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors[-2000:]
    out = joint(rows)
    (out * weights).square().mean().backward()
    assert rows.grad is not None
    for rank in range(2):
        share = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(share["out"], out[rank::2])
        torch.testing.assert_close(share["untracked"], untracked(rows.detach())[rank::2])
        torch.testing.assert_close(share["rows"], rows.grad[rank::2], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(share["weight"], joint.weight.grad)
        torch.testing.assert_close(share["bias"], joint.bias.grad)
        for name, value in joint.state_dict().items():
            torch.testing.assert_close(share["state"][name], value)
