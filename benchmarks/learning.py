"""Measure what a method learns in a few steps: its demonstration on the shipped radiographs, before and after.

    python benchmarks/learning.py METHOD [...] [--steps N] [--seed N] [--data DATA] [--set KEY=VALUE ...] [--out OUT]

The cpu_demo of the bundle runs for N optimizer steps. Before and after, the encoder is measured on training and
validation patients: landmark error between patients by dense features (in thorax widths); accuracy of nearest neighbors
in other patients for windows around landmarks (chance 1/6) and for whole images (macro AUROC, chance 0.5); effective
rank of the embeddings (1 is collapse). After minus before has a paired 95 % interval over patients. Masks and findings
are those of DATA/cxr_seg and DATA/cxr_cls (Kermany's three classes; --data or MONAI_ANAT_DATA), else of the shipped
sample, whose whole images are classified by projection, AP or PA. It writes one JSON per method and prints a table.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.bundle import ConfigWorkflow

warnings.filterwarnings("ignore")

from monai_anat import data, evaluation, networks, resources  # noqa: E402

#: protocol -> its metric in the table, and the column's name
COLUMNS = {
    "landmarks": ("error", "landmark error"),
    "localizability": ("knn_accuracy", "windows, k-NN"),
    "k-nn": ("auroc", "whole images, k-NN"),
    "collapse": ("effective_rank", "rank"),
}


def load_items(folder: Path | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Images with masks, and images with findings, of training and validation patients."""
    masks = folder / "cxr_seg" if folder else data.sample_folder()
    findings = folder / "cxr_cls" / "kermany_datalist.json" if folder else data.sample_folder() / "classification.csv"
    both = ("training", "validation")
    lists = [
        [item for split in both for item in data.load_datalist(source, split, outside="always")]
        for source in (masks, findings)
    ]
    return lists[0], lists[1]


def measure(
    encoder: networks.Backbone, settings: dict[str, Any], masks: list[dict[str, Any]], findings: list[dict[str, Any]]
) -> dict[str, evaluation.Result]:
    """Measure a copy of the encoder by each protocol."""
    names = None if "label" in findings[0] else ("AP view",)
    frozen = evaluation.FrozenEncoder(copy.deepcopy(encoder), **settings)
    return {
        "landmarks": evaluation.LandmarkProbe(random_seed=None).run(frozen, masks),
        "localizability": evaluation.LocalizabilityProbe(random_seed=None, picture_points=0).run(frozen, masks),
        "k-nn": evaluation.NearestNeighborProbe(random_seed=None, class_names=names).run_within(frozen, findings),
        "collapse": evaluation.CollapseProbe(random_seed=None).run(frozen, masks),
    }


def coarsest_level(encoder: networks.Backbone, size: int) -> int:
    """Return the last feature map with at least 4 x 4 cells, for the landmarks."""
    fine = [level for level, stride in enumerate(encoder.strides) if size // stride >= 4]
    return fine[-1] - len(encoder.strides) if fine else -1


def learn(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the demonstration for some steps and compare the encoder before and after."""
    configs = resources.bundle_path(f"cxr_{name}_pretraining") / "configs"
    with tempfile.TemporaryDirectory() as folder:
        workflow = ConfigWorkflow(
            config_file=[str(configs / "train.json"), str(configs / "cpu_demo.json")],
            logging_file=None,
            workflow_type="train",
            output_dir=f"{folder}/out",
            encoder_dir=f"{folder}/models",
            seed=arguments.seed,
            run=["$@train#trainer.run()"],
            **arguments.set,
        )
        workflow.initialize()
        parser = workflow.parser
        trainer, method = parser.get_parsed_content("train#trainer"), parser.get_parsed_content("method")
        settings = {key: parser.get_parsed_content(key) for key in ("image_size", "mean", "std")}
        settings["image_size"] = arguments.image_size or settings["image_size"]
        encoder = method.export_networks()["encoder"]
        settings["level"] = coarsest_level(encoder, settings["image_size"])
        masks, findings = load_items(arguments.data)
        before = measure(encoder, settings, masks, findings)
        curve: list[dict[str, float]] = []

        def record(engine: Any) -> None:
            terms = {key: float(value) for key, value in engine.state.output[0].items()}
            curve.append({"step": engine.state.iteration, **terms})
            if engine.state.iteration >= arguments.steps:
                engine.terminate()

        trainer.add_event_handler(Events.ITERATION_COMPLETED, record)
        start = time.perf_counter()
        workflow.run()
        seconds = time.perf_counter() - start
        after = measure(method.export_networks()["encoder"], settings, masks, findings)
        workflow.finalize()
    return {
        "method": name,
        "steps": len(curve),
        "seconds": seconds,
        "settings": settings | {"seed": arguments.seed, "set": arguments.set, "masks": len(masks)},
        "before": {key: _value(result, key) for key, result in before.items()},
        "after": {key: _value(result, key) for key, result in after.items()},
        "difference": {
            key: evaluation.compare_results(after[key], before[key])[COLUMNS[key][0]].to_json() for key in COLUMNS
        },
        "same_position": after["landmarks"].baselines["same position"]["error"].value,
        "curve": curve,
    }


def _value(result: evaluation.Result, protocol: str) -> float | None:
    return result.metrics[COLUMNS[protocol][0]].value


def row(result: dict[str, Any]) -> str:
    """Format a row of the table; bold if the paired interval shows an improvement."""
    size = result["settings"]["image_size"]
    cells = [result["method"], str(size), str(result["steps"]), f"{result['seconds']:.0f}"]
    for key in COLUMNS:
        before, after, difference = result["before"][key], result["after"][key], result["difference"][key]
        if key == "collapse":
            cells.append(f"{before:.1f} -> {after:.1f}")
            continue
        text = "{difference:+.3f} ({low:+.3f} to {high:+.3f})".format(**difference)
        ahead = difference["ahead"] == "first"
        cells.append(f"{before:.3f} -> {after:.3f}, " + (f"**{text}**" if ahead else text))
    return f"| {' | '.join(cells)} |"


def setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as JSON where it is."""
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    bundles = [name for name in resources.bundle_names() if name.endswith("_pretraining")]
    known = [name.removeprefix("cxr_").removesuffix("_pretraining") for name in bundles]
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="one of " + ", ".join(known))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--image-size", type=int, help="side at which images and windows are measured; the bundle's")
    parser.add_argument("--data", type=Path, default=os.environ.get("MONAI_ANAT_DATA"))
    parser.add_argument("--set", nargs="+", type=setting, default=[], help="what differs from the demonstration")
    parser.add_argument("--out", type=Path, help="folder of one JSON per method")
    parser.add_argument("--table", action="store_true", help="run nothing, make the table of the files in --out")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.methods) - set(known))
    if unknown or not (arguments.methods or arguments.table):
        parser.error(f"METHOD must be of {', '.join(known)}, got {', '.join(unknown) or 'none'}")
    arguments.data, arguments.set = arguments.data and Path(arguments.data), dict(arguments.set)
    columns = ("method", "px", "steps", "s", *(name for _, name in COLUMNS.values()))
    print(f"| {' | '.join(columns)} |")
    print("|" + "---|" * len(columns))
    if arguments.table:
        for path in sorted(arguments.out.glob("*-seed*.json")):
            print(row(json.loads(path.read_text())))
        return
    for name in arguments.methods:
        result = learn(name, arguments)
        print(row(result), flush=True)
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            (arguments.out / f"{name}-seed{arguments.seed}.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
