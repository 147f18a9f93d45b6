"""Comparison of pre-training methods on the same images, steps and backbone.

    python benchmarks/evidence.py --preset mini --arms scratch popar peac --seeds 0 1 2 --out out/evidence [--jobs 2]

A cell is one (arm, seed): pre-training on the training patients of DATA/cxr_pretrain, then the protocols on the test
patients of DATA/cxr_seg. It writes OUT/<arm>-<seed>.json. A cell with a file is not run again; an interrupted one
resumes from its last checkpoint. The table and OUT/comparison.html are made from these files alone (--table makes
only them). DATA is --data or MONAI_ANAT_DATA, or else the shipped sample. One OUT holds cells of one preset and one
DATA. The exit code is 1 if a cell failed.

Each number of the table is the mean over the seeds, with their range in parentheses. +2/3: in 2 of 3 seeds the paired
95 % interval over test patients puts the arm ahead of scratch with the same seed. -1/3: it is behind in one. Neither:
the interval contains 0 in all. ?: a file is missing. The difference of Dice to scratch is over draws (the same in
every seed) and patients.

Presets: "mini" for 2 cores (a ViT of half a million parameters, 112 px, 3 epochs of 101 steps of 16 for 1,630
images), "full" for a GPU (ViT-S, 224 px; longer warm-up, queue and teacher memory than the demonstrations), which has
not been run to its end. The protocols choose learning rates on validation patients. An arm is compared with untrained
weights of its own kind: DiRA needs a backbone that halves its maps (ResNet-18, 128 px) and MAE fixed sine-cosine
positions, so each has a scratch arm.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evidence_table import HEADLINES, NOTE_NAME, SHOTS, read_cells, refuse_mixture, table, write_page

if TYPE_CHECKING:
    from monai_anat import networks

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Preset:
    """Settings that all arms share."""

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
    """One method or a variant of it: its bundle, overrides, and the number of stages that share the steps.

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
    "peac_transposed": Arm("peac", {"train#preprocessing#_target_": "transposed_matching.RandTransposedPEACViewsd"}),
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
#: arm -> the untrained one that it is compared with
SCRATCH_OF = {name: arm.scratch if arm.bundle else None for name, arm in ARMS.items()}


class Stopwatch:
    """Timer of a ``with`` block that adds to the seconds of earlier processes in a JSON file.

    The file is kept up to date meanwhile, so that it has the seconds of a process that was killed, too.

    Args:
        path: what else it says stays there.
        every: seconds between two writings.
    """

    def __init__(self, path: Path, every: float = 5.0) -> None:
        self.path = path
        self.every = every
        self._stopped = threading.Event()

    def __enter__(self) -> Stopwatch:
        self._note = read_note(self.path)
        self._started = time.perf_counter()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self.seconds = self._write()

    def _keep(self) -> None:
        while not self._stopped.wait(self.every):
            self._write()

    def _write(self) -> float:
        seconds: float = self._note.get("seconds", 0.0) + time.perf_counter() - self._started
        write_whole(self.path, {**self._note, "seconds": seconds})
        return seconds


def read_note(path: Path) -> dict[str, Any]:
    """Read a JSON file; an empty dict if it does not exist."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically."""
    path.with_suffix(".part").write_text(json.dumps(content))
    path.with_suffix(".part").replace(path)


def overrides(name: str, preset: Preset, seed: int, source: Path, folder: Path, images: int) -> dict[str, Any]:
    """Return the overrides of the bundle's cpu_demo for this cell."""
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
    """Pre-train and write FOLDER/encoder. Return the settings and the loss curve."""
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
    with Stopwatch(folder / NOTE_NAME) as watch:
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
        "seconds": watch.seconds,
        "images": images,
        "curve": [line for line in lines if "loss" in line],
    }


def untrained(arm: Arm, preset: Preset) -> networks.Backbone:
    """Build the network of an arm without a bundle, with random weights."""
    from monai.bundle import ConfigParser

    parser = ConfigParser({"image_size": preset.image_size, "network_def": preset.network, **arm.changes})
    encoder: networks.Backbone = parser.get_parsed_content("network_def")
    if arm.fixed_positions:
        encoder.fix_positions()
    return encoder


def device() -> str:
    """Return the device of the protocols, which is that of the bundles."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def few_shot(encoder_dir: Path, labeled: Path, shots: int, arm: Arm, preset: Preset) -> dict[str, Any]:
    """Measure the segmentation of one arm. Draws follow the seeds, so arms are paired."""
    import copy

    from monai_anat import data, evaluation, networks

    record = networks.read_encoder_record(encoder_dir)
    encoder = networks.load_encoder(encoder_dir)
    options = {"image_size": record.image_size[0], "mean": record.mean, "std": record.std, "device": device()}
    protocol = evaluation.FewShotSegmentation(shots=shots, progress=False, **options, **preset.few_shot)

    def fresh() -> networks.Backbone:
        return copy.deepcopy(encoder) if arm.bundle else untrained(arm, preset)

    splits = [data.load_datalist(labeled, split) for split in ("training", "validation", "test")]
    result = protocol.compare({"arm": fresh}, *splits)
    return {**result, "test_patients": [item["patient"] for item in splits[2]]}


def run_cell(name: str, seed: int, preset_name: str, data_folder: Path | None, out: Path) -> None:
    """Pre-train, evaluate, and write OUT/<arm>-<seed>.json."""
    warnings.filterwarnings("ignore")
    from monai_anat import data, evaluation

    preset, folder = PRESETS[preset_name], out / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    belongs = {"preset": preset_name, "data": data_name(data_folder)}
    write_whole(folder / NOTE_NAME, {**read_note(folder / NOTE_NAME), **belongs})
    pretraining = pretrain(name, ARMS[name], preset, seed, data_folder, folder)
    start = time.perf_counter()
    labeled = data_folder / "cxr_seg" if data_folder else data.sample_folder()
    results = evaluation.evaluate_encoder(
        folder / "encoder", labeled, folder / "evaluation", tuple(HEADLINES), device=device()
    )
    for shots in SHOTS:
        results[f"few-shot-{shots}"] = few_shot(folder / "encoder", labeled, shots, ARMS[name], preset)
    cell = {
        "arm": name,
        "seed": seed,
        **belongs,
        "pretraining": pretraining,
        "evaluation_seconds": time.perf_counter() - start,
        "results": without_baseline_replicates(results),
    }
    write_whole(out / f"{name}-{seed}.json", cell)


def without_baseline_replicates(results: dict[str, Any]) -> dict[str, Any]:
    """Return the results with the replicates that comparisons with other cells need (0.3 MB)."""
    return {
        protocol: {
            **result,
            "baselines": {
                baseline: {
                    metric: {key: value for key, value in entry.items() if key != "replicates"}
                    for metric, entry in metrics.items()
                }
                for baseline, metrics in result["baselines"].items()
            },
        }
        if "baselines" in result
        else result
        for protocol, result in results.items()
    }


def data_name(data_folder: Path | None) -> str:
    """Return the name of the data in the files of the cells."""
    return data_folder.name if data_folder else "sample"


def check_data(data_folder: Path | None) -> None:
    """Read the datalists of the cells.

    Raises:
        ValueError: if one is missing, empty or damaged.
    """
    from monai_anat.data import DatalistError, load_datalist

    if data_folder is None:
        return
    try:
        load_datalist(data_folder / "cxr_pretrain", "training")
        for split in ("training", "validation", "test"):
            load_datalist(data_folder / "cxr_seg", split)
    except DatalistError as error:
        raise ValueError(f"--data must hold cxr_pretrain and cxr_seg, got {data_folder}: {error}") from error


def waiting_cells(arguments: argparse.Namespace) -> list[tuple[str, int]]:
    """List the cells without a file."""
    wanted = [(name, seed) for seed in arguments.seeds for name in arguments.arms]
    return [(name, seed) for name, seed in wanted if not (arguments.out / f"{name}-{seed}.json").exists()]


def run_all(arguments: argparse.Namespace, waiting: list[tuple[str, int]]) -> list[str]:
    """Run cells in separate processes, --jobs at a time. Return those that failed."""
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    running: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
    failed = []
    while waiting or running:
        while waiting and len(running) < arguments.jobs:
            name, seed = waiting.pop(0)
            command = [sys.executable, __file__, "--cell", name, str(seed), "--preset", arguments.preset]
            command += ["--out", str(arguments.out)] + (["--data", str(arguments.data)] if arguments.data else [])
            with (arguments.out / f"{name}-{seed}.log").open("wb") as log:
                running[name, seed] = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=HERE)
        time.sleep(1)
        for (name, seed), process in list(running.items()):
            if process.poll() is not None:
                del running[name, seed]
                outcome = "done"
                if process.returncode:
                    failed.append(f"{name}-{seed}")
                    outcome = f"failed, see {arguments.out / failed[-1]}.log"
                print(f"{name}, seed {seed}: {outcome}", flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), help="default: mini")
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("MONAI_ANAT_DATA"))
    parser.add_argument("--out", type=Path, default=Path("out/evidence"))
    parser.add_argument(
        "--jobs",
        type=int,
        help="number of cells that run at once; default: 2 for mini, 1 for full",
    )
    parser.add_argument("--table", action="store_true", help="make table and page from the existing files only")
    parser.add_argument("--cell", nargs=2, metavar=("ARM", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out = arguments.out.absolute()
    arguments.data = Path(arguments.data).absolute() if arguments.data else None
    arguments.out.mkdir(parents=True, exist_ok=True)
    preset, arguments.preset = arguments.preset, arguments.preset or "mini"
    arguments.jobs = arguments.jobs or (1 if arguments.preset == "full" else 2)
    if arguments.cell:
        name, seed = arguments.cell
        run_cell(name, int(seed), arguments.preset, arguments.data, arguments.out)
        return
    waiting = [] if arguments.table else waiting_cells(arguments)
    wanted = (preset, None) if arguments.table else (arguments.preset, data_name(arguments.data))
    try:
        refuse_mixture(arguments.out, *wanted)
        if waiting:
            check_data(arguments.data)
    except ValueError as error:
        parser.exit(1, f"error: {error}\n")
    failed = run_all(arguments, waiting)
    cells = read_cells(arguments.out)
    print(table(cells, SCRATCH_OF))
    remark = write_page(cells, list(ARMS), arguments.out / "comparison.html")
    if remark:
        print(remark)
    if failed:
        parser.exit(1, f"error: {', '.join(failed)} failed\n")


if __name__ == "__main__":
    main()
