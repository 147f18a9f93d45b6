"""Two processes give what one gives with the joint batch; a killed or stopped elastic run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).with_name("distributed_worker.py")


def launch(processes: int, folder: Path, *options: str) -> dict:
    """Run the worker under torchrun (or alone), and read what its first process wrote."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [sys.executable, "-W", "ignore", *torchrun, str(WORKER), str(folder), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return torch.load(folder / "result.pt", weights_only=True)


@pytest.mark.parametrize("method", ["PEACMethod", "POPARMethod"])
def test_two_processes_equal_one_with_the_joint_batch(method, tmp_path):
    """Gradients over three steps; samples are shuffled or distorted at random, so the pairs per process differ."""
    one = launch(1, tmp_path / "one", "--method", method)
    two = launch(2, tmp_path / "two", "--method", method)
    assert json.dumps(one["samples"]) == json.dumps(two["samples"])
    assert len(one["gradients"]) == len(two["gradients"]) == 3
    for alone, together in zip(one["gradients"], two["gradients"], strict=True):
        assert alone.keys() == together.keys()
        for name in alone:
            scale = alone[name].abs().max().clamp_min(1e-6)
            assert (alone[name] - together[name]).abs().max() <= 1e-5 * max(1.0, float(scale)), name
    torch.testing.assert_close(torch.tensor(two["losses"]), torch.tensor(one["losses"]), rtol=1e-5, atol=1e-6)
    assert two["ranks_agree"]
