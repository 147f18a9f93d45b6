"""Three optimizer steps of every method, alone or under torchrun; run by test_distributed.py.

In double precision, since BatchNorm over a few rows magnifies the rounding of single precision from step to step.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Events
from method_cases import CASES, progress_of
from monai.transforms import Randomizable

from monai_anat import data, distributed, engines, handlers, methods


class DoubleViews(Randomizable):
    """Views in double precision."""

    def __init__(self, views: Any) -> None:
        self.views = views

    def set_random_state(self, seed: int | None = None, state: Any = None) -> DoubleViews:
        self.views.set_random_state(seed, state)
        return self

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        sample = self.views(data)
        floating = {key: v for key, v in sample.items() if isinstance(v, torch.Tensor) and v.is_floating_point()}
        return sample | {key: value.double() for key, value in floating.items()}


def train(case: SimpleNamespace, device: torch.device) -> dict[str, Any]:
    """Record gradients, joint losses and sample numbers of three steps, and compare the processes' final weights."""
    torch.manual_seed(0)
    method = case.method().double()
    items = [{"image": case.image(seed)} for seed in range(16)]
    phase = None if case.phase is None else lambda epoch: case.phase
    dataset = data.SeededDataset(items, DoubleViews(case.views()), seed=5, phase=phase)
    trainer = engines.SSLTrainer(
        device=device,
        max_epochs=1,
        train_data_loader=data.resumable_loader(dataset, batch_size=4, seed=5),
        method=method,
        optimizers=engines.build_optimizers(method, "sgd", lr=0.01),
        precision="fp32",
        clip_norm=1e9,
        epoch_length=3,
        train_handlers=[handlers.TeacherEMA(0.9)] if isinstance(method, methods.TeacherStudentMethod) else [],
    )
    result: dict[str, Any] = {"gradients": [], "losses": [], "samples": []}
    step = trainer._step

    def recorded_step() -> Any:
        gradients = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
        result["gradients"].append(gradients)
        return step()

    def record(engine: engines.SSLTrainer) -> None:
        ids = engine.state.sample_ids
        if trainer.world_size > 1:
            shares = [torch.empty_like(ids) for _ in range(trainer.world_size)]
            dist.all_gather(shares, ids)
            ids = torch.cat(shares)
        result["losses"].append(float(engine.state.output[0]["loss"]))
        result["samples"].append(sorted(ids.tolist()))

    trainer._step = recorded_step
    trainer.add_event_handler(Events.ITERATION_COMPLETED, record)
    trainer.run()
    state = [*method.parameters(), *method.buffers()]
    checksum = torch.stack([value.detach().double().sum() for value in state])
    result["ranks_agree"] = True
    if trainer.world_size > 1:
        others = [torch.empty_like(checksum) for _ in range(trainer.world_size)]
        dist.all_gather(others, checksum)
        result["ranks_agree"] = all(torch.equal(others[0], other) for other in others)
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", nargs="*", choices=sorted(CASES))
    arguments = parser.parse_args()
    device = distributed.init_distributed()
    results = {}
    original = engines.SSLTrainer.progress
    for label in arguments.cases or CASES:
        case = CASES[label]
        if case.phase is not None or case.progress is not None:  # a run of one epoch would not reach it
            engines.SSLTrainer.progress = property(
                lambda t, case=case: progress_of(case, max(0, t.state.iteration - 1), 3)
            )
        try:
            results[label] = train(case, device)
        except Exception as error:  # other methods continue; all processes fail in the same way
            results[label] = {"error": f"{type(error).__name__}: {error}"}
        engines.SSLTrainer.progress = original
    if distributed.is_main_process():
        arguments.folder.mkdir(parents=True)
        torch.save(results, arguments.folder / "results.pt")
    distributed.shutdown_distributed()


if __name__ == "__main__":
    main()
