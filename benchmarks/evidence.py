"""Pre-train several methods on the same images, steps and backbone, and evaluate their encoders by the same protocols.

    python benchmarks/evidence.py --preset mini --arms scratch popar peac --seeds 0 1 2 --out out/evidence [--jobs 2]

A cell is one (arm, seed): pre-training on the training patients of DATA/cxr_pretrain, then the protocols on the test
patients of DATA/cxr_seg. It writes OUT/<arm>-<seed>.json. A finished cell is not run again, and an interrupted one
resumes from its last checkpoint. A cell records a fingerprint of arm, preset, data and package version; another one in
the same OUT is refused, and an unreadable file is computed again. The table, and OUT/comparison.html, are made of these
files alone (--table makes them without running anything). DATA is --data or MONAI_ANAT_DATA; without either, the
shipped sample. One OUT holds cells of one preset and one DATA. Exit code 1: a cell failed.

In the table, each number is the mean over the seeds and, in brackets, their range. +2/3 means that in 2 of 3 seeds the
paired 95 % interval over test patients puts the arm ahead of scratch with the same seed, -1/3 that it is behind in one.
Neither means that the interval contains 0 in all of them, and ? that a file is missing. The difference in Dice to
scratch has an interval over draws (the same in every seed, whose mean counts) and patients.

Presets: "mini" for 2 cores (a ViT of half a million parameters, 112 px, 3 epochs of 101 steps of 16, as 1,630 images
give), "full" for a GPU (ViT-S, 224 px), whose arms differ from their demonstrations by the size, a longer warm-up,
queue and memory of the teacher; it has not been run to its end. The warm-up of "mini" is 5 % of the run.
Learning rates are chosen on validation patients. An arm is compared with untrained weights of its own kind: DiRA needs
a backbone that halves its maps (ResNet-18, 128 px), and MAE fixes its positions to sines and cosines, so each of them
has its own scratch arm.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evidence_table import HEADLINES, NOTE_NAME, SHOTS, read_cells, refuse_mixture, table, write_page

from monai_anat.files import FolderLock, write_text_atomically

if TYPE_CHECKING:
    from monai_anat import evaluation, networks

HERE = Path(__file__).parent
SPLITS = ("training", "validation", "test")


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


#: a learning rate that changes with every step instead of every epoch
BY_STEP = {"train#trainer#schedules#lr#by_epoch": False}
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
        # the demonstrations warm up for one to eight epochs; this run has three
        options={"num_workers": 0, "log_every": 20, "checkpoint_every_steps": 100, "warmup_epochs": 0.15},
        by_arm={  # a schedule by epoch would spend a third of the run at its last, lowest rate
            "popar": BY_STEP,
            "adam": BY_STEP,
            "dira": BY_STEP,
            "moco_v2": BY_STEP,
            "simsiam": BY_STEP,
            "lamps": {"alternate": "step", "order_weight": 0.1},
            "ace": {"learning_rate": 3e-4},
            "simmim": {"learning_rate": 3e-4},
            "beit": {"learning_rate": 3e-4},
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
    """A method or a variant of one.

    Attributes:
        bundle: the middle of the bundle's name; None for untrained weights.
        changes: overrides in the bundle.
        stages: number of stages that share the steps.
        source: side to which images are loaded, as a multiple of the views' (0: the bundle's default).
        scratch: arm of untrained weights for the comparison.
        fixed_positions: whether untrained weights get sine and cosine positions.
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
#: arm -> untrained arm for the comparison
SCRATCH_OF = {name: arm.scratch if arm.bundle else None for name, arm in ARMS.items()}


class Stopwatch:
    """Measure the seconds of a ``with`` block and add them to those of earlier processes in a JSON file.

    The file is updated meanwhile, so that it also holds the seconds of a killed process.

    Args:
        path: the JSON file; its other entries are kept.
        every: seconds between two updates.
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
    """Read a JSON file; an absent or unreadable one gives an empty dictionary."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_text_atomically(path, json.dumps(content))


def fingerprint(name: str, preset_name: str, data_folder: Path | None) -> str:
    """Hash what determines a cell: arm, preset, lists with the sizes of their images, and package version."""
    from monai_anat import __version__, data

    if data_folder is None:
        lists = [data.pretraining_datalist(), *(data.segmentation_datalist(split) for split in SPLITS)]
    else:
        lists = [data.load_datalist(data_folder / "cxr_pretrain", "training")]
        lists += [data.load_datalist(data_folder / "cxr_seg", split) for split in SPLITS]
    images = [
        [
            [Path(str(item["image"])).name, Path(str(item["image"])).stat().st_size, str(item.get("patient"))]
            for item in one
        ]
        for one in lists
    ]
    content = [__version__, name, asdict(ARMS[name]), asdict(PRESETS[preset_name]), images]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=12).hexdigest()


def check_cell(path: Path, wanted: str) -> bool:
    """Say whether a file holds the finished cell of this fingerprint.

    A file without a fingerprint, of an earlier version, counts as finished. An unreadable one does not.

    Raises:
        ValueError: if it holds another cell.
    """
    found = read_note(path).get("fingerprint", wanted)
    if found != wanted:
        raise ValueError(
            f"{path} was computed with another arm, preset, data or version; move it away, or choose another folder "
            "by --out"
        )
    return bool(read_note(path).get("results"))


def overrides(name: str, preset: Preset, seed: int, source: Path, folder: Path, images: int) -> dict[str, Any]:
    """Return the overrides of a cell in the cpu_demo of its bundle."""
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
    """Pre-train FOLDER/encoder; returns seconds, number of images and the curve."""
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
    """Create the network of an arm without a bundle, with random weights."""
    from monai.bundle import ConfigParser

    parser = ConfigParser({"image_size": preset.image_size, "network_def": preset.network, **arm.changes})
    encoder: networks.Backbone = parser.get_parsed_content("network_def")
    if arm.fixed_positions:
        encoder.fix_positions()
    return encoder


def device() -> str:
    """Return the device of the protocols, the same as that of the bundles."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def few_shot(encoder_dir: Path, labeled: Path, shots: int, arm: Arm, preset: Preset) -> dict[str, Any]:
    """Segment with one arm from a few labels. Draws depend on the seeds only, so arms are paired."""
    import copy

    from monai_anat import data, evaluation, networks

    record = networks.read_encoder_record(encoder_dir)
    encoder = networks.load_encoder(encoder_dir)
    options = {"image_size": record.image_size[0], "mean": record.mean, "std": record.std, "device": device()}
    protocol = evaluation.FewShotSegmentation(shots=shots, progress=False, **options, **preset.few_shot)

    def fresh() -> networks.Backbone:
        return copy.deepcopy(encoder) if arm.bundle else untrained(arm, preset)

    splits = [data.load_datalist(labeled, split) for split in SPLITS]
    result = protocol.compare({"arm": fresh}, *splits)
    names = list(dict.fromkeys(item["patient"] for item in splits[2]))
    return {**result, "test_patients": [f"patient {names.index(item['patient'])}" for item in splits[2]]}


def run_cell(name: str, seed: int, preset_name: str, data_folder: Path | None, out: Path) -> None:
    """Pre-train, evaluate, and write OUT/<arm>-<seed>.json. One process at a time runs a cell."""
    warnings.filterwarnings("ignore")
    with FolderLock(out / f"{name}-{seed}", "a benchmark cell"):
        _run_cell(name, seed, preset_name, data_folder, out)


def _run_cell(name: str, seed: int, preset_name: str, data_folder: Path | None, out: Path) -> None:
    from monai_anat import data, evaluation
    from monai_anat.evaluation.pseudonyms import Pseudonyms

    preset, folder = PRESETS[preset_name], out / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    belongs = {
        "preset": preset_name,
        "data": data_name(data_folder),
        "fingerprint": fingerprint(name, preset_name, data_folder),
    }
    check_cell(folder / NOTE_NAME, belongs["fingerprint"])
    if check_cell(out / f"{name}-{seed}.json", belongs["fingerprint"]):
        return
    write_whole(folder / NOTE_NAME, {**read_note(folder / NOTE_NAME), **belongs})
    pretraining = pretrain(name, ARMS[name], preset, seed, data_folder, folder)
    start = time.perf_counter()
    labeled = data_folder / "cxr_seg" if data_folder else data.sample_folder()
    evaluated = evaluation.evaluate_encoder(
        folder / "encoder", labeled, folder / "evaluation", tuple(HEADLINES), device=device()
    )
    sections = {split: data.load_datalist(labeled, split) for split in SPLITS}
    names = Pseudonyms(sections, labeled)
    results = {protocol: cell_content(result) for protocol, result in evaluated.items()}
    for shots in SHOTS:
        results[f"few-shot-{shots}"] = few_shot(folder / "encoder", labeled, shots, ARMS[name], preset)
    cell = {
        "arm": name,
        "seed": seed,
        **belongs,
        "pretraining": pretraining,
        "evaluation_seconds": time.perf_counter() - start,
        "results": names.hide(results),
    }
    write_whole(out / f"{name}-{seed}.json", cell)


def cell_content(result: evaluation.Result) -> dict[str, Any]:
    """Convert a result to JSON values. Metrics keep their replicates, for comparisons; baselines do not."""
    baselines = result.to_json(replicates=False)["baselines"]
    return {**result.to_json(), "baselines": baselines}


def data_name(data_folder: Path | None) -> str:
    """Return the name of the data in the files of the cells."""
    return data_folder.name if data_folder else "sample"


def check_data(data_folder: Path | None) -> None:
    """Check the lists that the cells will read.

    Raises:
        ValueError: if one is missing, empty or damaged.
    """
    from monai_anat.data import DatalistError, load_datalist

    if data_folder is None:
        return
    try:
        load_datalist(data_folder / "cxr_pretrain", "training")
        for split in SPLITS:
            load_datalist(data_folder / "cxr_seg", split)
    except DatalistError as error:
        raise ValueError(f"--data must hold cxr_pretrain and cxr_seg, got {data_folder}: {error}") from error


def waiting_cells(arguments: argparse.Namespace) -> list[tuple[str, int]]:
    """Return the cells that are not finished.

    Raises:
        ValueError: if a file holds another cell.
    """
    wanted = [(name, seed) for seed in arguments.seeds for name in arguments.arms]
    marks = {name: fingerprint(name, arguments.preset, arguments.data) for name in arguments.arms}
    return [(name, seed) for name, seed in wanted if not check_cell(arguments.out / f"{name}-{seed}.json", marks[name])]


def run_all(arguments: argparse.Namespace, waiting: list[tuple[str, int]]) -> list[str]:
    """Run cells, --jobs at a time, each in its own process; returns those that failed."""
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
    parser.add_argument("--preset", choices=sorted(PRESETS), help="mini by default")
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("MONAI_ANAT_DATA"))
    parser.add_argument("--out", type=Path, default=Path("out/evidence"))
    parser.add_argument(
        "--jobs", type=int, help="cells at a time, which share the threads; by default 2 of mini, 1 of full"
    )
    parser.add_argument("--table", action="store_true", help="run nothing, make table and page of the files there are")
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
    wanted = (preset, None) if arguments.table else (arguments.preset, data_name(arguments.data))
    waiting: list[tuple[str, int]] = []
    try:
        refuse_mixture(arguments.out, *wanted)
        if not arguments.table:
            check_data(arguments.data)
            waiting = waiting_cells(arguments)
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
