"""Collective operations in one process and in two, and processes without a launcher."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from monai_anat import distributed
from monai_anat.distributed import (
    explain_lost_process,
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


#: run by each process of ``torchrun``
ORPHAN = """
import os, pathlib, runpy, sys, time
source, folder = sys.argv[1:]
runpy.run_path(source)["init_distributed"]()
pathlib.Path(folder, os.environ["RANK"]).write_text(str(os.getpid()))
time.sleep(120)
"""


def is_alive(process: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the state of processes from /proc")
def test_processes_end_when_their_launcher_was_killed(tmp_path):
    (tmp_path / "orphan.py").write_text(ORPHAN)
    launcher = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
            *(str(tmp_path / "orphan.py"), distributed.__file__, str(tmp_path)),
        ]
    )
    files = [tmp_path / "0", tmp_path / "1"]
    try:
        wait_until(lambda: all(file.exists() and file.read_text() for file in files), 60)
        ranks = [int(file.read_text()) for file in files]
        assert all(map(is_alive, ranks))
    finally:
        launcher.kill()
        launcher.wait()
    wait_until(lambda: not any(map(is_alive, ranks)), 10)


def wait_until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


#: rank 0 waits for rank 1, which sleeps, then ends
SILENT = """
import os, runpy, sys, time
import torch
functions = runpy.run_path(sys.argv[1])
rank = int(sys.argv[2])
os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[3])
functions["init_distributed"](timeout_minutes=2 / 60)
if rank == 1:
    time.sleep(4 if sys.argv[4] == "silent" else 0.5)
    os._exit(0)
try:
    functions["sum_over_processes"](torch.ones(1))
except RuntimeError as error:
    print(functions["explain_lost_process"](error))
"""


@pytest.mark.parametrize(("kind", "sentence"), [("silent", "waited in vain for another"), ("gone", "lost another")])
def test_a_process_that_does_not_answer_is_named(tmp_path, kind, sentence):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    (tmp_path / "silent.py").write_text(SILENT)
    command = [sys.executable, str(tmp_path / "silent.py"), distributed.__file__]
    runs = [
        subprocess.Popen([*command, rank, port, kind], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for rank in ("0", "1")
    ]
    text = runs[0].communicate(timeout=60)[0]
    runs[1].communicate(timeout=60)
    assert f"process 0 of 2 {sentence} process" in text


def test_errors_of_one_process_alone_are_not_explained():
    assert explain_lost_process(RuntimeError("Timed out")) is None
