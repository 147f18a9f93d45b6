"""Two processes give the results of one process with the joint batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from method_cases import CASES

WORKER = Path(__file__).with_name("distributed_worker.py")


def launch(processes: int, folder: Path) -> dict[str, Any]:
    """Run the worker under torchrun (or alone), and read the results of its first process."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [sys.executable, "-W", "ignore", *torchrun, str(WORKER), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=500)
    assert result.returncode == 0, result.stderr[-3000:]
    results: dict[str, Any] = torch.load(folder / "results.pt", weights_only=True)
    return results


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Three steps of every method, by one process and by two."""
    folder = tmp_path_factory.mktemp("processes")
    return launch(1, folder / "one"), launch(2, folder / "two")


@pytest.mark.parametrize("label", CASES)
def test_two_processes_end_with_the_same_weights(label, runs):
    _, two = (run[label] for run in runs)
    assert two.get("error") is None
    assert two["ranks_agree"]


@pytest.mark.parametrize("label", [label for label, case in CASES.items() if case.joint_batch])
def test_two_processes_equal_one_with_the_joint_batch(label, runs):
    """Gradients over three steps; the samples that contribute to a term differ between processes."""
    one, two = (run[label] for run in runs)
    assert not (one.get("error") or two.get("error")), (one.get("error"), two.get("error"))
    assert one["samples"] == two["samples"]
    assert len(one["gradients"]) == len(two["gradients"]) == 3
    for alone, together in zip(one["gradients"], two["gradients"], strict=True):
        assert alone.keys() == together.keys()
        for name in alone:
            scale = alone[name].abs().max().clamp_min(1e-6)
            assert (alone[name] - together[name]).abs().max() <= 1e-5 * max(1.0, float(scale)), name
    torch.testing.assert_close(torch.tensor(two["losses"]), torch.tensor(one["losses"]), rtol=1e-5, atol=1e-6)
