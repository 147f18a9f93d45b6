"""A trainer small enough to run hundreds of steps per second, with a teacher."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from monai_anat.data import SeededDataset, resumable_loader
from monai_anat.engines import SSLTrainer, build_optimizers
from monai_anat.methods.base import TeacherStudentMethod
from monai_anat.methods.parts import frozen_copy


class Encoder(nn.Module):
    """(B, 1, 4, 4) -> (B, 5, 2, 2), with running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 5, 2, 2)
        self.norm = nn.BatchNorm2d(5)

    def forward(self, x):
        return self.norm(self.conv(x))


class ToyTeacherMethod(TeacherStudentMethod):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.student = Encoder()
        self.teacher = frozen_copy(self.student)
        self.loss_weights = {"match": 1.0}

    def student_teacher_pairs(self):
        return [(self.student, self.teacher)]

    def export_networks(self):
        return {"encoder": self.student}

    def forward(self, batch, progress):
        with torch.no_grad():
            target = self.teacher(batch["view_2"])
        return {"match": (self.student(batch["view_1"]) - target).square().mean()}


def toy_items(count: int = 12) -> list[dict]:
    generator = torch.Generator().manual_seed(3)
    return [{f"view_{v}": torch.randn(1, 4, 4, generator=generator) for v in (1, 2)} for _ in range(count)]


@pytest.fixture
def make_trainer() -> Callable[..., SSLTrainer]:
    """Builds a trainer: 12 items, batches of 4, so 3 steps per epoch."""

    def make(handlers=(), items=None, epochs=2, seed=0, **options) -> SSLTrainer:
        method = ToyTeacherMethod()
        return SSLTrainer(
            device="cpu",
            max_epochs=epochs,
            train_data_loader=resumable_loader(SeededDataset(items or toy_items()), batch_size=4, seed=seed),
            method=method,
            optimizers=build_optimizers(method, lr=0.05),
            seed=seed,
            precision="fp32",
            train_handlers=list(handlers),
            **options,
        )

    return make


@pytest.fixture
def items() -> list[dict]:
    return toy_items()
