"""One process or many: what ``torchrun`` started, as one line of a bundle."""

from __future__ import annotations

import os
import time

import torch
import torch.distributed as dist

from ..processes import rank_and_size

__all__ = ["is_main_process", "join_processes", "leave_processes"]

#: seconds; a thread that waits for one of two busy cores needs some hundredths
_REST = 0.2


def join_processes() -> torch.device:
    """Join the processes that ``torchrun`` started, and name this one's device.

    Without ``torchrun`` there is one process and nothing to join. Safe to call twice.

    Returns:
        The GPU of this process's local rank where CUDA is there (NCCL), else the CPU (gloo).

    >>> join_processes().type in ("cpu", "cuda")
    True
    """
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    return device


def leave_processes() -> None:
    """Leave the group again, all at once: no process ends while another still writes; nothing for a single process."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        # gloo's threads live on where DistributedDataParallel knew the group (torch 2.13); one that lets go of its last
        # tensor while the interpreter ends takes the process down: "terminate called without an active exception"
        time.sleep(_REST)


def is_main_process() -> bool:
    """Whether this process writes the files.

    >>> is_main_process()
    True
    """
    return rank_and_size()[0] == 0
