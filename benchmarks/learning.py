"""Does a method learn anatomy in a few steps? Its demonstration on the shipped radiographs, before and after.

    python benchmarks/learning.py lamps [peac ...] [--steps N] [--seed N] [--image-size N] [--level N] [--out FOLDER]

The bundle's cpu_demo runs for N optimiser steps. Before and after, its encoder is asked three things on radiographs
with lung masks, of training and validation patients only: do its dense features find the same landmark in another
patient (error as a fraction of the image side, beside the same position and three random initialisations); do the
embeddings of windows around landmarks tell which landmark it is, by their nearest neighbours in other patients (k-NN,
chance 1/6, with the paired difference from random weights and its 95 % interval over patients); and how many directions
do its embeddings use (effective rank; a collapsed encoder has 1). One JSON per method, and a table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

warnings.filterwarnings("ignore")

from monai_anat import data, evaluation, metrics, networks, resources  # noqa: E402
from monai_anat.evaluation.cases import SegmentationCases, load_cases  # noqa: E402


def embeddings_of(encoder: networks.Backbone, cases: SegmentationCases, mean: float, std: float) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([encoder(images).flatten(2).mean(2) for images in ((cases.images - mean) / std).split(16)])


def measure(
    encoder: networks.Backbone,
    cases: SegmentationCases,
    probe: evaluation.CorrespondenceProbe,
    patients: list[dict[str, Any]],
) -> dict[str, Any]:
    training = encoder.training
    encoder.eval()
    result = probe.measure(encoder, cases)
    rank = metrics.effective_rank(embeddings_of(encoder, cases, probe.mean, probe.std))
    frozen = evaluation.FrozenEncoder(encoder, image_size=probe.image_size, mean=probe.mean, std=probe.std)
    windows = evaluation.LocalizabilityProbe(picture_points=0).run(frozen, patients)
    ahead = windows["comparisons"]["random initialisation"]["knn_accuracy"]
    encoder.train(training)
    return {
        "error": result["error"],
        "knn": windows["metrics"]["knn_accuracy"]["value"],
        "knn_ahead": ahead,
        "effective_rank": rank,
    } | {key: result[key] for key in ("error_same_position", "error_random") if key in result}


def learn(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
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
        )
        workflow.initialize()
        parser = workflow.parser
        trainer, method = parser.get_parsed_content("train#trainer"), parser.get_parsed_content("method")
        mean, std = parser.get_parsed_content("mean"), parser.get_parsed_content("std")
        size = arguments.image_size or parser.get_parsed_content("image_size")
        patients = data.segmentation_datalist("training") + data.segmentation_datalist("validation")
        cases = load_cases(patients, size)
        probe = evaluation.CorrespondenceProbe(
            image_size=size, level=arguments.level, mean=mean, std=std, random_seeds=(1, 2, 3)
        )
        encoder = method.exported()["encoder"]
        before = measure(encoder, cases, probe, patients)
        curve: list[dict[str, float]] = []

        def record(engine: Any) -> None:
            terms = {key: float(value) for key, value in engine.state.output.items()}
            curve.append({"step": engine.state.iteration, **terms})
            if engine.state.iteration >= arguments.steps:
                engine.terminate()

        trainer.add_event_handler(Events.ITERATION_COMPLETED, record)
        start = time.perf_counter()
        workflow.run()
        seconds = time.perf_counter() - start
        probe.random_seeds = ()
        after = measure(method.exported()["encoder"], cases, probe, patients)
        workflow.finalize()
    settings = {"image_size": size, "level": arguments.level, "seed": arguments.seed, "images": len(cases)}
    return {
        "method": name,
        "steps": len(curve),
        "seconds": seconds,
        "before": before,
        "after": after,
        **settings,
        "curve": curve,
    }


def row(result: dict[str, Any]) -> str:
    before, after = result["before"], result["after"]
    first, last = result["curve"][0]["loss"], result["curve"][-1]["loss"]
    cells = [
        result["method"],
        str(result["steps"]),
        f"{result['seconds']:.0f}",
        *(f"{value:.3f}" for value in (first, last, after["error"], before["error"], before["error_random"])),
        *(f"{value:.3f}" for value in (before["error_same_position"], after["knn"], before["knn"])),
        "{difference:+.3f} ({low:+.3f} to {high:+.3f})".format(**after["knn_ahead"]),
        *(f"{value:.1f}" for value in (after["effective_rank"], before["effective_rank"])),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name.removeprefix("cxr_").removesuffix("_pretraining") for name in resources.bundle_names()]
    parser.add_argument("methods", nargs="+", choices=[name for name in known if "cxr" not in name])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--image-size", type=int, help="side of the probe's images; the bundle's image_size if not given"
    )
    parser.add_argument("--level", type=int, default=-1, help="feature map of the probe; the last if not given")
    parser.add_argument("--out", type=Path, help="folder of one JSON per method")
    arguments = parser.parse_args()
    columns = ("method", "steps", "s", "first loss", "last loss", "error", "before", "random", "same place")
    columns += ("k-NN", "before", "k-NN, minus random", "rank", "before")
    print(f"| {' | '.join(columns)} |")
    print("|" + "---|" * len(columns))
    for name in arguments.methods:
        result = learn(name, arguments)
        print(row(result), flush=True)
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            (arguments.out / f"{name}-seed{arguments.seed}.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
