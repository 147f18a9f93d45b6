"""Benchmark of a training step: seconds, images per second, model FLOPs, and share of the matrix peak.

    python benchmarks/throughput.py [--out FILE] [--batch-size N] [--steps N] [--device cpu] [--large]

The peak is measured here, as the best of several products of 2048 x 2048 matrices in the same precision. FLOPs are
those of all products of a step (forward of student and teacher, backward), counted by torch. Ratios within one run are
meaningful; absolute times depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

warnings.filterwarnings("ignore")

from monai_anat import engines, methods, networks  # noqa: E402
from monai_anat.precision import autocast_dtype  # noqa: E402
from monai_anat.schedules import Progress  # noqa: E402

SIDE = 2048


def peak_flops(dtype: torch.dtype, device: torch.device) -> float:
    """Measure the peak FLOP/s of a matrix product."""
    a, b = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        best = min(best, timed(lambda: a @ b, device))
    return 2 * SIDE**3 / best


def timed(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def backbones(large: bool) -> dict[str, tuple[Callable[[], nn.Module], int]]:
    """Return backbone factories with the side of their view."""
    small = {
        "vit 128x6 p8": (
            lambda: networks.ViTBackbone(image_size=112, patch_size=8, embed_dim=128, depth=6, num_heads=2),
            112,
        ),
        "swin p2 e48 d222": (
            lambda: networks.SwinBackbone(patch_size=2, embed_dim=48, depths=(2, 2, 2), num_heads=(3, 6, 12)),
            112,
        ),
        "resnet18": (lambda: networks.ResNetBackbone(depth=18), 224),
    }
    big = {
        "swin-t": (lambda: networks.SwinBackbone(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24)), 224),
        "swin-b": (lambda: networks.SwinBackbone(), 448),
    }
    return big if large else small


def batch_of(
    method: methods.SSLMethod, size: int, cell: int, count: int, device: torch.device
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    cells = (size // cell) ** 2
    views = {
        key: torch.randn(count, 1, size, size, generator=generator).to(device) for key in ("view_1", "view_2", "target")
    }
    order = torch.arange(cells, device=device).repeat(count, 1)
    return {**views, "order": order, "correspondence": order.clone()}


def measure(name: str, make: Callable[[], nn.Module], size: int, precision: str, arguments: argparse.Namespace) -> dict:
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    backbone = make()
    widths = {} if arguments.large else {"global_dim": 256, "local_dim": 64}
    method = (
        methods.PEACMethod(backbone, image_size=size, **widths)
        if name == "PEAC"
        else methods.POPARMethod(backbone, image_size=size)
    ).to(device)
    (optimizer,) = engines.build_optimizers(method, lr=1e-4).values()
    batch = batch_of(method, size, backbone.strides[-1], arguments.batch_size, device)
    dtype = autocast_dtype(precision, device)
    progress = Progress(0, 1, 0, 1)

    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            terms = method(batch, progress)
        torch.stack([method.loss_weights[key] * value.float() for key, value in terms.items()]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    with FlopCounterMode(display=False) as counter:
        step()
    seconds = min(timed(step, device) for _ in range(arguments.steps))
    return {"seconds": seconds, "images_per_second": arguments.batch_size / seconds, "flops": counter.get_total_flops()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--large", action="store_true", help="Swin-T 224 and Swin-B 448 instead of the small networks")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    peaks = {name: peak_flops(dtype, device) for name, dtype in dtypes.items()}
    print("matrix peak: " + ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in peaks.items()))
    heads = ("s/step", 9), ("images/s", 10), ("GFLOP/image", 13), ("of peak", 9)
    print(f"{'method':<8}{'backbone':<18}{'px':>5}{'precision':>11}" + "".join(f"{h:>{width}}" for h, width in heads))
    rows = []
    for (backbone, (make, size)), method, precision in itertools.product(
        backbones(arguments.large).items(), ("PEAC", "POPAR"), dtypes
    ):
        row = measure(method, make, size, precision, arguments)
        share = row["flops"] / row["seconds"] / peaks[precision]
        rows.append(
            {"method": method, "backbone": backbone, "size": size, "precision": precision, **row, "peak_share": share}
        )
        per_image = row["flops"] / arguments.batch_size / 1e9
        print(
            f"{method:<8}{backbone:<18}{size:>5}{precision:>11}{row['seconds']:>9.3f}{row['images_per_second']:>10.1f}"
            f"{per_image:>13.1f}{share:>9.1%}",
            flush=True,
        )
    if arguments.out:
        arguments.out.write_text(json.dumps({"peaks": peaks, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
