"""Learning rates of all bundles and benchmark presets over a whole run, without training."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from monai_anat.resources import bundle_names, bundle_path
from monai_anat.schedules import ConstantSchedule, Progress, Schedule, stage_of

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import evidence

BUNDLES = [name for name in bundle_names() if name.endswith("_pretraining")]
#: files of configs/ that are no variant of training
NO_VARIANTS = ("inference", "metadata", "train", "multi_gpu_train")
STEPS_PER_EPOCH = 7


def variants(name: str) -> Iterator[list[str]]:
    yield ["train"]
    for file in sorted((bundle_path(name) / "configs").glob("*.json")):
        if file.stem not in NO_VARIANTS:
            yield ["train", file.stem]


def configuration(name: str, files: list[str], changes: Mapping[str, Any]) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(bundle_path(name) / "configs" / f"{file}.json") for file in files])
    parser.update({key.replace("#", "::"): value for key, value in changes.items()})
    return parser


def positions(parser: ConfigParser) -> Iterator[Progress]:
    """Every step of the run."""
    epochs = parser.get_parsed_content("max_epochs")
    stages = parser.get_parsed_content("stage_epochs") if "stage_epochs" in parser else ()
    for step in range(epochs * STEPS_PER_EPOCH):
        stage, first = stage_of(step // STEPS_PER_EPOCH, stages)
        yield Progress(
            step // STEPS_PER_EPOCH,
            epochs,
            step,
            epochs * STEPS_PER_EPOCH,
            stage=stage,
            stage_step=step - first * STEPS_PER_EPOCH if stages else 0,
            stage_steps=stages[stage] * STEPS_PER_EPOCH if stages else 0,
        )


def check_rates(parser: ConfigParser) -> None:
    schedules: dict[str, Schedule] = parser.get_parsed_content("train#trainer#schedules")
    steps = list(positions(parser))
    for name, schedule in schedules.items():
        if not name.endswith("lr"):
            continue
        nominal = schedule.value if isinstance(schedule, ConstantSchedule) else schedule.base
        rates = [schedule(progress) for progress in steps]
        assert sum(rates) / len(rates) >= 0.4 * nominal, name
        assert rates[-1] > 0, name
        assert max(rates) >= 0.9 * nominal, name
        zero = [step.step for step, rate in zip(steps, rates, strict=True) if rate == 0 and step.step]
        assert len(zero) <= 1, f"{name} stands still in steps {zero}"  # a warm-up by step begins at 0


@pytest.mark.parametrize(
    ("name", "files"),
    [pytest.param(name, files, id=f"{name}-{files[-1]}") for name in BUNDLES for files in variants(name)],
)
@pytest.mark.parametrize("short", [False, True])
def test_a_bundle_trains_at_its_rate(name, files, short):
    parser = configuration(name, files, {})
    if short and "stage_epochs" in parser:
        parser["stage_epochs"] = [1] * len(parser["stage_epochs"])
    elif short:
        parser["max_epochs"] = 3
    check_rates(parser)


@pytest.mark.parametrize("preset", ["mini", "full"])
@pytest.mark.parametrize("arm", [name for name, arm in evidence.ARMS.items() if arm.bundle])
def test_an_arm_of_the_evidence_benchmark_trains_at_its_rate(arm, preset):
    changes = evidence.overrides(arm, evidence.PRESETS[preset], 0, Path("data"), Path("out"), 1630)
    changes = {key: json.loads(json.dumps(value)) for key, value in changes.items() if key != "datalist"}
    check_rates(configuration(f"cxr_{evidence.ARMS[arm].bundle}_pretraining", ["train", "cpu_demo"], changes))


def test_the_warm_up_of_moco_v3_is_the_published_one():
    parser = configuration("cxr_moco_v3_pretraining", ["train"], {})
    schedule = parser.get_parsed_content("train#trainer#schedules#lr")
    assert schedule.warmup(next(positions(parser))) == 40
