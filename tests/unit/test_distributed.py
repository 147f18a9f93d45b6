"""One process alone, and two that gather rows: in the order of the joint batch, with its exact gradient."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from monai_anat import distributed
from monai_anat.distributed import (
    from_first_process,
    gather_rows,
    get_rank_and_world_size,
    init_distributed,
    is_main_process,
    shutdown_distributed,
    sum_over_processes,
)

#: run by each of two processes; the file is loaded alone, since the package takes longer to import than this to run
WORKER = """
import runpy, sys
import torch
import torch.distributed as dist
source, folder, rank = sys.argv[1:]
rank = int(rank)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
processes = runpy.run_path(source)
weight = torch.eye(3).mul(0.5).requires_grad_()
rows = torch.load(f"{folder}/rows.pt")[rank::2]
gathered = processes["gather_rows"](rows @ weight)
place = torch.arange(1.0, 1 + len(gathered))
loss = (place * (gathered @ gathered.T).logsumexp(1)).mean()
loss.backward()
dist.all_reduce(weight.grad)
total = torch.full((2,), rank + 1.0)
result = {
    "get_rank_and_world_size": processes["get_rank_and_world_size"](),
    "gathered": gathered.detach(),
    "loss": loss.detach(),
    "gradient": weight.grad / 2,
    "sum": processes["sum_over_processes"](total),
    "own": total,
    "first": processes["from_first_process"](f"said by {rank}"),
}
torch.save(result, f"{folder}/result_{rank}.pt")
dist.destroy_process_group()
"""


def joint_loss(rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """A loss in which every row meets every other, and each has a weight by its place."""
    projected = rows @ weight
    place = torch.arange(1.0, 1 + len(rows))
    return projected, (place * (projected @ projected.T).logsumexp(1)).mean()


def test_alone_everything_is_the_identity() -> None:
    rows = torch.rand(4, 3, requires_grad=True)
    assert get_rank_and_world_size() == (0, 1)
    assert gather_rows(rows) is rows
    assert sum_over_processes(rows) is rows
    assert from_first_process(rows) is rows


def test_two_processes_gather_the_joint_batch_and_its_gradient(tmp_path: Path) -> None:
    rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    torch.save(rows, tmp_path / "rows.pt")
    command = [sys.executable, "-c", WORKER, str(distributed.__file__), str(tmp_path)]
    workers = [subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors[-2000:]
    weight = torch.eye(3).mul(0.5).requires_grad_()
    projected, loss = joint_loss(rows, weight)
    loss.backward()
    for rank in (0, 1):
        result = torch.load(tmp_path / f"result_{rank}.pt", weights_only=True)
        assert result["get_rank_and_world_size"] == (rank, 2)
        torch.testing.assert_close(result["gathered"], projected.detach())
        torch.testing.assert_close(result["loss"], loss.detach())
        torch.testing.assert_close(result["gradient"], weight.grad)
        assert result["first"] == "said by 0"
        assert result["sum"].tolist() == [3.0, 3.0]
        assert result["own"].tolist() == [rank + 1.0] * 2  # the sum is a new tensor


def test_one_process_joins_nothing():
    assert init_distributed() == torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    assert not dist.is_initialized()
    assert is_main_process()
    shutdown_distributed()


def test_a_group_of_torchrun_is_joined_once_and_left(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29617"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    init_distributed()
    init_distributed()
    assert dist.is_initialized()
    assert dist.get_world_size() == 1
    shutdown_distributed()
    assert not dist.is_initialized()
