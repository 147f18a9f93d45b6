from __future__ import annotations

import torch
import torch.distributed as dist

from monai_anat import engines


def test_one_process_joins_nothing():
    assert engines.join_processes() == torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    assert not dist.is_initialized()
    assert engines.is_main_process()
    engines.leave_processes()


def test_a_group_of_torchrun_is_joined_once_and_left(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29617"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    engines.join_processes()
    engines.join_processes()
    assert dist.is_initialized()
    assert dist.get_world_size() == 1
    engines.leave_processes()
    assert not dist.is_initialized()
