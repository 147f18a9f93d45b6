"""Pre-train several methods on the same images, steps and backbone, and ask their encoders the same questions.

    python benchmarks/evidence.py --preset mini --arms scratch popar peac --seeds 0 1 2 --out out/evidence [--jobs 2]

A cell is one (arm, seed): pre-training on the training patients of DATA/cxr_pretrain, then the protocols on the test
patients of DATA/cxr_seg. It writes OUT/<arm>-<seed>.json; a cell that has its file is not run again, and one that was
stopped goes on at its last checkpoint. The table, and OUT/comparison.html, are made of the files that are there
(--table makes them without running anything). DATA is --data or MONAI_ANAT_DATA; without either, the shipped sample.

In the table, each number is the mean over the seeds and, in brackets, their range; +2/3 says that in 2 of 3 seeds the
paired 95 % interval over test patients puts the arm ahead of scratch with the same seed, -1/3 that it is behind in one.
Dice has its difference to scratch over draws (the same in every seed, whose mean counts) and patients.

Presets: "mini" for 2 cores (a ViT of half a million parameters, 112 px, 3 epochs of 102 steps of 16), "full" for a GPU
(ViT-S, 224 px), whose arms differ from their demonstrations by the size, a longer warm-up, queue and memory of the
teacher; nobody has run it to its end.
The protocols' choices (learning rates) are made on validation patients. An arm is compared with untrained weights of
its own kind: DiRA needs a backbone that halves its maps (ResNet-18, 128 px), MAE fixes its positions to sines and
cosines, so they have a scratch arm each.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai_anat import networks

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Preset:
    """What all arms share."""

    image_size: int
    cell_size: int
    batch_size: int
    steps: int
    network: dict[str, Any]
    few_shot: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    by_arm: dict[str, dict[str, Any]] = field(default_factory=dict)


PRESETS = {
    "mini": Preset(
        image_size=112,
        cell_size=8,
        batch_size=16,
        steps=306,
        network={
            "_target_": "monai_anat.networks.ViTBackbone",
            "image_size": 112,
            "patch_size": 8,
            "embed_dim": 96,
            "depth": 4,
            "num_heads": 2,
        },
        few_shot={"steps": 100, "seeds": (0, 1, 2, 3, 4), "selection_seeds": 2, "learning_rates": (3e-4, 1e-3)},
        options={"num_workers": 0, "log_every": 20, "checkpoint_every_steps": 100},
        by_arm={  # their demonstrations take more than three epochs
            "lamps": {"alternate": "step", "order_weight": 0.1},
            "ace": {"warmup_epochs": 1, "learning_rate": 3e-4},
            "simmim": {"warmup_epochs": 2, "learning_rate": 3e-4},
            "mae": {"warmup_epochs": 2},
            "beit": {"warmup_epochs": 2, "learning_rate": 3e-4},
        },
    ),
    "full": Preset(
        image_size=224,
        cell_size=16,
        batch_size=256,
        steps=40000,
        network={
            "_target_": "monai_anat.networks.ViTBackbone",
            "image_size": 224,
            "patch_size": 16,
            "embed_dim": 384,
            "depth": 12,
            "num_heads": 6,
        },
        few_shot={"steps": 300, "seeds": tuple(range(10)), "selection_seeds": 3},
        options={
            "num_workers": 8,
            "log_every": 50,
            "checkpoint_every_steps": 1000,
            "warmup_epochs": 40,
            "teacher_momentum": 0.996,
            "queue_size": 4096,
        },
        by_arm={"beit": {"tokenizer_strides": [2, 2, 2, 2]}},
    ),
}


@dataclass(frozen=True)
class Arm:
    """One method, or a variant of one: its bundle, what it changes there, and how many stages share the steps.

    ``source`` is the side to which images are loaded, as a multiple of the views' (0: the bundle works it out);
    ``scratch`` the arm of untrained weights that it is compared with. Those have no bundle; ``fixed_positions`` puts
    sines and cosines into them.
    """

    bundle: str | None
    changes: dict[str, Any] = field(default_factory=dict)
    stages: int = 0
    source: int = 0
    scratch: str = "scratch"
    fixed_positions: bool = False


DIRA = {"image_size": 128, "network_def": {"_target_": "monai_anat.networks.ResNetBackbone", "depth": 18}}
ARMS: dict[str, Arm] = {
    "scratch": Arm(None),
    "scratch_positions": Arm(None, fixed_positions=True),
    "scratch_resnet": Arm(None, DIRA),
    "popar": Arm("popar"),
    "peac": Arm("peac"),
    "peac_no_local": Arm("peac", {"method#local_weight": 0.0}),
    "peac_transposed": Arm("peac", {"train#preprocessing#_target_": "transposed_matching.TransposedPEACViewsd"}),
    "lamps": Arm("lamps", {"kept": 11}),
    "ace": Arm("ace", {"num_prototypes": 1024}),
    "adam": Arm("adam", stages=3, source=4),
    "adam_v2": Arm("adam_v2", stages=3, source=2),
    "mlvicx": Arm("mlvicx", source=2),
    "dira": Arm("dira", DIRA, stages=2, source=2, scratch="scratch_resnet"),
    "moco_v2": Arm("moco_v2", source=2),
    "simsiam": Arm("simsiam", source=2),
    "vicreg": Arm("vicreg", source=2),
    "barlow_twins": Arm("barlow_twins", source=2),
    "moco_v3": Arm("moco_v3", source=2),
    "dino": Arm("dino", {"local_size": 56}, source=2),
    "simmim": Arm("simmim", source=2),
    "mae": Arm("mae", {"cell_size": "@network_def#patch_size"}, source=2, scratch="scratch_positions"),
    "beit": Arm("beit", {"cell_size": "@network_def#patch_size"}, stages=2, source=2),
}
#: labelled images of the segmentations
SHOTS = (1, 3)
#: protocol -> its metric in the table, and the column's name
HEADLINES = {
    "landmarks": ("error", "landmark error (thorax widths)"),
    "localizability": ("knn_accuracy", "localizability, k-NN"),
    "co-segmentation": ("iou", "co-segmentation, IoU"),
    "collapse": ("effective_rank", "effective rank"),
}


def overrides(name: str, preset: Preset, seed: int, source: Path, folder: Path, images: int) -> dict[str, Any]:
    """What this cell changes in the bundle's cpu_demo."""
    arm = ARMS[name]
    epochs = max(1, round(preset.steps * preset.batch_size / images))
    changes: dict[str, Any] = {
        "bundle_root": str(folder),
        "output_dir": str(folder / "run"),
        "encoder_dir": str(folder / "encoder"),
        "dataset_dir": str(source),
        "datalist": "$monai_anat.data.load_datalist(@dataset_dir, 'training')",
        "seed": seed,
        "image_size": preset.image_size,
        "batch_size": preset.batch_size,
        "network_def": preset.network,
        "train#dataset#data#progress": False,
        **preset.options,
        **preset.by_arm.get(name, {}),
        **arm.changes,
    }
    if arm.stages:
        shares = [epochs // arm.stages + (number < epochs % arm.stages) for number in range(arm.stages)]
        changes["stage_epochs"] = [max(1, share) for share in shares]
    else:
        changes["max_epochs"] = epochs
    if arm.source:
        changes["source_size"] = arm.source * int(changes["image_size"])
    else:
        changes["cell_size"] = preset.cell_size
    return changes


def pretrain(name: str, arm: Arm, preset: Preset, seed: int, data_folder: Path | None, folder: Path) -> dict[str, Any]:
    """Make FOLDER/encoder; returns the settings and the curve."""
    import torch
    from monai.bundle import ConfigWorkflow

    from monai_anat import data, networks, resources

    if arm.bundle is None:
        torch.manual_seed(seed)
        options = {"image_size": arm.changes.get("image_size", preset.image_size), "mean": 0.5056, "std": 0.252}
        networks.save_encoder(untrained(arm, preset), folder / "encoder", provenance={"method": name}, **options)
        return {"seconds": 0.0}
    source = data_folder / "cxr_pretrain" if data_folder else data.sample_folder()
    images = len(data.load_datalist(source, "training") if data_folder else data.pretraining_datalist())
    configs = resources.bundle_path(f"cxr_{arm.bundle}_pretraining") / "configs"
    changes = overrides(name, preset, seed, source, folder, images)
    if not data_folder:
        changes["datalist"] = "$monai_anat.data.pretraining_datalist()"
    start = time.perf_counter()
    workflow = ConfigWorkflow(
        config_file=[str(configs / "train.json"), str(configs / "cpu_demo.json")],
        logging_file=None,
        workflow_type="train",
        **changes,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return {
        "seconds": time.perf_counter() - start,
        "images": images,
        "curve": [line for line in lines if "loss" in line],
    }


def untrained(arm: Arm, preset: Preset) -> networks.Backbone:
    """The network of an arm without a bundle, with weights drawn now."""
    from monai.bundle import ConfigParser

    parser = ConfigParser({"image_size": preset.image_size, "network_def": preset.network, **arm.changes})
    encoder: networks.Backbone = parser.get_parsed_content("network_def")
    if arm.fixed_positions:
        encoder.fix_positions()
    return encoder


def few_shot(encoder_dir: Path, labelled: Path, shots: int, arm: Arm, preset: Preset) -> dict[str, Any]:
    """Segmentation by one arm from so many labels; the draws, and so the pairs with other arms, are the seeds'."""
    import copy

    from monai_anat import data, evaluation, networks

    record = networks.read_encoder_record(encoder_dir)
    encoder = networks.load_encoder(encoder_dir)
    options = {"image_size": record.image_size[0], "mean": record.mean, "std": record.std}
    protocol = evaluation.FewShotSegmentation(shots=shots, progress=False, **options, **preset.few_shot)

    def fresh() -> networks.Backbone:
        return copy.deepcopy(encoder) if arm.bundle else untrained(arm, preset)

    splits = [data.load_datalist(labelled, split) for split in ("training", "validation", "test")]
    result = protocol.compare({"arm": fresh}, *splits)
    return {**result, "test_patients": [item["patient"] for item in splits[2]]}


def run_cell(name: str, seed: int, preset_name: str, data_folder: Path | None, out: Path) -> None:
    """Pre-train, measure, and write OUT/<arm>-<seed>.json."""
    warnings.filterwarnings("ignore")
    from monai_anat import data, evaluation

    preset, folder = PRESETS[preset_name], out / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    pretraining = pretrain(name, ARMS[name], preset, seed, data_folder, folder)
    start = time.perf_counter()
    labelled = data_folder / "cxr_seg" if data_folder else data.sample_folder()
    results = evaluation.evaluate_encoder(folder / "encoder", labelled, folder / "evaluation", tuple(HEADLINES))
    for shots in SHOTS:
        results[f"few-shot-{shots}"] = few_shot(folder / "encoder", labelled, shots, ARMS[name], preset)
    for result in results.values():
        for group in (result.get("metrics", {}), *result.get("baselines", {}).values()):
            for metric in group.values():
                metric.pop("replicates", None)
    cell = {
        "arm": name,
        "seed": seed,
        "preset": preset_name,
        "pretraining": pretraining,
        "evaluation_seconds": time.perf_counter() - start,
        "results": results,
    }
    path = out / f"{name}-{seed}.json"
    path.with_suffix(".part").write_text(json.dumps(cell, indent=1))
    path.with_suffix(".part").rename(path)


def run_all(arguments: argparse.Namespace) -> None:
    """Run the cells that have no file yet, --jobs at a time, each in a process of its own."""
    wanted = [(name, seed) for seed in arguments.seeds for name in arguments.arms]
    waiting = [(name, seed) for name, seed in wanted if not (arguments.out / f"{name}-{seed}.json").exists()]
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    running: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
    while waiting or running:
        while waiting and len(running) < arguments.jobs:
            name, seed = waiting.pop(0)
            command = [sys.executable, __file__, "--cell", name, str(seed), "--preset", arguments.preset]
            command += ["--out", str(arguments.out)] + (["--data", str(arguments.data)] if arguments.data else [])
            log = (arguments.out / f"{name}-{seed}.log").open("wb")
            running[name, seed] = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=HERE)
        time.sleep(1)
        for cell, process in list(running.items()):
            if process.poll() is not None:
                del running[cell]
                outcome = (
                    "done" if process.returncode == 0 else f"failed, see {arguments.out / '-'.join(map(str, cell))}.log"
                )
                print(f"{cell[0]}, seed {cell[1]}: {outcome}", flush=True)


def table(out: Path) -> str:
    """One row per arm: each metric over the seeds, and whether it is ahead of scratch."""
    cells = {(cell["arm"], cell["seed"]): cell for cell in map(_read, sorted(out.glob("*-*.json")))}
    columns = ["arm", "seeds", *(title for _, title in HEADLINES.values())]
    for shots in SHOTS:
        columns += [f"Dice, {shots} label{'s' * (shots > 1)}", "minus scratch"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for arm in [name for name in ARMS if any(name == done for done, _ in cells)]:
        seeds = [seed for name, seed in cells if name == arm]
        values = [spread([_value(cells[arm, seed], protocol) for seed in seeds]) for protocol in HEADLINES]
        if ARMS[arm].bundle:
            values = [
                f"{text} {verdict(out, arm, seeds, protocol)}".strip()
                for text, protocol in zip(values, HEADLINES, strict=True)
            ]
        for shots in SHOTS:
            dice = [cells[arm, seed]["results"][f"few-shot-{shots}"]["arms"]["arm"]["mean"] for seed in seeds]
            values += [spread(dice), dice_gain(cells, arm, seeds, shots)]
        lines.append(f"| {' | '.join([arm, str(len(seeds)), *values])} |")
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    cell: dict[str, Any] = json.loads(path.read_text())
    return cell


def _value(cell: dict[str, Any], protocol: str) -> float | None:
    value: float | None = cell["results"][protocol]["metrics"].get(HEADLINES[protocol][0], {}).get("value")
    return value


@functools.cache
def _results(folder: Path) -> dict[str, Any]:
    from monai_anat import evaluation

    return evaluation.load_results(folder)


def spread(values: list[float | None]) -> str:
    """Mean and range of what has a value."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{sum(known) / len(known):.3f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.3f} to {max(known):.3f})"


def verdict(out: Path, arm: str, seeds: list[int], protocol: str) -> str:
    """In how many of the seeds the paired interval puts the arm ahead of scratch, and behind."""
    from monai_anat import evaluation

    outcomes, metric = [], HEADLINES[protocol][0]
    for seed in seeds:
        one, scratch = (out / f"{name}-{seed}" / "evaluation" for name in (arm, ARMS[arm].scratch))
        if one.is_dir() and scratch.is_dir():
            results = [_results(folder)[protocol] for folder in (one, scratch)]
            outcomes.append(evaluation.compare_results(*results).get(metric, {}).get("ahead"))
    counts = [f"{sign}{outcomes.count(who)}/{len(outcomes)}" for sign, who in (("+", "first"), ("-", "second"))]
    return " ".join(count for count in counts if count[1] != "0")


def dice_gain(cells: dict[tuple[str, int], dict[str, Any]], arm: str, seeds: list[int], shots: int) -> str:
    """Dice minus that of scratch, paired by draw and patient, with its 95 % interval.

    Every seed sees the same draws of labelled images, so each draw counts once, by its mean over the seeds.
    """
    import numpy as np

    from monai_anat.evaluation import paired_difference

    scratch = ARMS[arm].scratch
    pairs = [(cells[arm, seed], cells[scratch, seed]) for seed in seeds if (scratch, seed) in cells]
    if not ARMS[arm].bundle or not pairs:
        return ""
    runs = [[cell["results"][f"few-shot-{shots}"] for cell in side] for side in zip(*pairs, strict=True)]
    dice = [[[draw["dice_by_image"] for draw in run["arms"]["arm"]["draws"]] for run in side] for side in runs]
    result = paired_difference(*np.mean(dice, axis=1), runs[0][0]["test_patients"])
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(result["mean"], *result["interval"])


def write_page(out: Path) -> None:
    """OUT/comparison.html: the first seed of every arm, with paired intervals over the test patients."""
    from monai_anat import evaluation

    folders = [(name, sorted(out.glob(f"{name}-*/evaluation"))) for name in ARMS]
    evaluations = {name: evaluation.load_results(found[0]) for name, found in folders if found}
    if len(evaluations) > 1:
        title = "The same images, steps and network; different objectives"
        evaluation.write_comparison(evaluations, out / "comparison.html", title)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="mini")
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("MONAI_ANAT_DATA"))
    parser.add_argument("--out", type=Path, default=Path("out/evidence"))
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time; the threads are divided among them")
    parser.add_argument("--table", action="store_true", help="run nothing, make table and page of the files there are")
    parser.add_argument("--cell", nargs=2, metavar=("ARM", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out = arguments.out.absolute()
    arguments.data = Path(arguments.data).absolute() if arguments.data else None
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.cell:
        name, seed = arguments.cell
        run_cell(name, int(seed), arguments.preset, arguments.data, arguments.out)
        return
    if not arguments.table:
        run_all(arguments)
    print(table(arguments.out))
    write_page(arguments.out)


if __name__ == "__main__":
    main()
