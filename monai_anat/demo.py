"""Demonstration on the shipped radiographs: pre-train, segment lungs from few labels, write a report."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from monai_anat.data.lists.samples import segmentation_datalist
from monai_anat.evaluation.reports.demo import demo_report, few_shot_table
from monai_anat.resources import bundle_command

__all__ = ["run_demo"]

logger = logging.getLogger(__name__)

_NEEDED_MB = 500
#: lines of a log that are shown if a command fails
_LAST_LINES = 20
#: fine-tuning from three labels per draw; the numbers were chosen on validation patients
_FEW_SHOT = {"shots": "3", "seeds": "[0,1,2,3]", "steps": "300", "learning_rates": "[0.001,0.003]"}


def run_demo(out: str | os.PathLike[str]) -> str:
    """Run two bundles with their real commands, and write ``report.html``.

    POPAR pre-trains a small Swin on the 200 shipped radiographs without labels. The encoder and the same network from
    scratch are then fine-tuned on few labeled images and compared on test patients. A finished demonstration in the
    same folder is replaced; other files in the folder stay. An interrupted one resumes from its last checkpoint.

    Args:
        out: output folder.

    Returns:
        The table of Dice scores per arm and draw, with the path of the report.

    Raises:
        OSError: if there is too little disk space.
        RuntimeError: if a command fails.
    """
    started = time.monotonic()
    folder = Path(out).resolve()
    parts = training, encoder, few_shot = tuple(folder / name for name in ("pretraining", "encoder", "few_shot"))
    page = folder / "report.html"
    if page.exists():
        for part in parts:
            shutil.rmtree(part, ignore_errors=True)
        page.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free / 2**20
    if free < _NEEDED_MB:
        raise OSError(
            f"the demonstration needs {_NEEDED_MB} MB in {folder}, {free:.0f} MB are free; use another folder"
        )
    outputs = {"output_dir": str(training), "encoder_dir": str(encoder)}
    command = bundle_command("cxr_popar_pretraining", "train", "cpu_demo", "small_swin", **outputs)
    _run("1/2 Pre-training without labels (POPAR)", command, folder / "pretraining.log")
    segmentation = {"finetune_model_path": str(encoder), "output_dir": str(few_shot), **_FEW_SHOT}
    command = bundle_command("cxr_lung_segmentation", "few_shot", **segmentation)
    # for batches of three small images, one thread is faster than two
    _run("2/2 Lung segmentation from 3 labels", command, folder / "few_shot.log", OMP_NUM_THREADS="1")
    test = segmentation_datalist("test")
    report = demo_report(page, few_shot_dir=few_shot, encoder_dir=encoder, training_dir=training, test=test)
    table = few_shot_table(json.loads((few_shot / "few_shot.json").read_text()))
    return f"\n{table}\n\n{report} ({(time.monotonic() - started) / 60:.1f} minutes)"


def _run(title: str, command: list[str], log: Path, **variables: str) -> None:
    """Run a command: with its progress bars on a terminal, else with one line and its output in a log file."""
    environment = {
        **os.environ,
        "PYTHONWARNINGS": "ignore",  # warnings of MONAI and torch on import do not help a newcomer
        "OMP_WAIT_POLICY": "passive",  # spinning threads slow each other down beside other work
        "GOMP_SPINCOUNT": "0",
        **variables,
    }
    started = time.monotonic()
    if sys.stdout.isatty():
        logger.info(f"\n{title}\n$ {shlex.join(command)}\n")
        code = subprocess.run(command, env=environment, check=False).returncode
        said = "the lines above say why"
    else:
        logger.info(f"{title}, output in {log}")
        with log.open("w") as file:
            code = subprocess.run(command, env=environment, check=False, stdout=file, stderr=file).returncode
        lines = log.read_text(errors="replace").replace("\r", "\n").splitlines()
        said = "\n".join(["the last lines of its output are:", *lines[-_LAST_LINES:]])
    if code != 0:
        raise RuntimeError(f"{title} failed; run the same command to resume from the last checkpoint; {said}")
    logger.info(f"    finished in {(time.monotonic() - started) / 60:.1f} minutes")
