"""Three optimiser steps of a method on the shipped sample, alone or under torchrun; run by test_distributed.py."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.distributed as dist
from ignite.engine import Events

from monai_anat import data, engines, handlers, methods, networks


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", default="PEACMethod")
    arguments = parser.parse_args()
    device = engines.join_processes()
    torch.manual_seed(0)
    backbone = networks.SwinBackbone(embed_dim=16, depths=(2, 2), num_heads=(2, 4), patch_size=4)
    views: torch.nn.Module | object
    if arguments.method == "PEACMethod":
        method = methods.PEACMethod(backbone, image_size=56, global_dim=32, local_dim=16)
        views, size = methods.PEACViewsd(grid_size=7, cell_size=8, margin=2), 72
    else:
        method = methods.POPARMethod(backbone, image_size=56)
        views, size = methods.POPARViewsd(grid_size=7, cell_size=8), 56
    loading = data.radiograph_preprocessing(size, as_uint8=True)
    items = [loading(item) for item in data.pretraining_datalist()[:16]]
    loader = data.resumable_loader(data.SeededDataset(items, views, seed=5), batch_size=4, seed=5)
    trainer = engines.SSLTrainer(
        device=device,
        max_epochs=1,
        train_data_loader=loader,
        method=method,
        optimizers=engines.build_optimizers(method, "sgd", lr=0.01),
        precision="fp32",
        clip_norm=1e9,
        epoch_length=3,
        train_handlers=[handlers.TeacherEMA(0.9)] if arguments.method == "PEACMethod" else [],
    )
    gradients: list[dict[str, torch.Tensor]] = []
    step = trainer._step

    def recorded_step():
        gradients.append({n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None})
        return step()

    trainer._step = recorded_step
    losses: list[float] = []
    samples: list[list[int]] = []

    def record(engine: engines.SSLTrainer) -> None:
        loss, ids = engine.state.output["loss"].clone(), engine.state.sample_ids
        if trainer.world_size > 1:
            dist.all_reduce(loss)
            shares = [torch.empty_like(ids) for _ in range(trainer.world_size)]
            dist.all_gather(shares, ids)
            ids = torch.cat(shares)
        losses.append(float(loss) / trainer.world_size)
        samples.append(sorted(ids.tolist()))

    trainer.add_event_handler(Events.ITERATION_COMPLETED, record)
    trainer.run()
    checksum = torch.stack([p.detach().double().sum() for p in method.parameters()])
    agree = True
    if trainer.world_size > 1:
        others = [torch.empty_like(checksum) for _ in range(trainer.world_size)]
        dist.all_gather(others, checksum)
        agree = all(torch.equal(others[0], other) for other in others)
    if engines.is_main_process():
        arguments.folder.mkdir(parents=True)
        result = {"gradients": gradients, "losses": losses, "samples": samples, "ranks_agree": agree}
        torch.save(result, arguments.folder / "result.pt")
    engines.leave_processes()


if __name__ == "__main__":
    main()
