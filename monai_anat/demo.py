"""The demonstration: pre-train on the shipped radiographs, segment lungs from three labels, show what came of it."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

from monai_anat.data.lists.samples import pretraining_datalist, segmentation_datalist
from monai_anat.evaluation.reports.demo import demo_report, few_shot_table
from monai_anat.resources import bundle_command

__all__ = ["run_demo"]

logger = logging.getLogger(__name__)

_NEEDED_MB = 500


def run_demo(out: str | os.PathLike[str]) -> str:
    """Run both bundles through their real commands, and write ``report.html``.

    A finished earlier demonstration in the same folder is replaced (other files there stay); a stopped one goes on from
    its last checkpoint.

    Args:
        out: the folder for everything.

    Returns:
        The table of Dice per arm and seed, with the path of the report.

    Raises:
        OSError: if there is too little disk space.
        RuntimeError: if one of the commands failed.
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
            f"the demonstration needs {_NEEDED_MB} MB in {folder}, {free:.0f} MB are free; name another folder"
        )
    peac = {"output_dir": str(training), "encoder_dir": str(encoder)}
    _run("1/2 PEAC pre-training", bundle_command("cxr_peac_pretraining", "train", "cpu_demo", **peac))
    segmentation = {"finetune_model_path": str(encoder), "output_dir": str(few_shot)}
    command = bundle_command("cxr_lung_segmentation", "few_shot", **segmentation)
    # batches of three small images: more threads cost more than they bring (6.5 against 10 steps per second)
    _run("2/2 Lung segmentation from 3 labels", command, OMP_NUM_THREADS="1")
    report = demo_report(
        page,
        few_shot_dir=few_shot,
        encoder_dir=encoder,
        training_dir=training,
        pretraining=pretraining_datalist(),
        test=segmentation_datalist("test"),
    )
    table = few_shot_table(json.loads((few_shot / "few_shot.json").read_text()))
    return f"\n{table}\n\n{report} ({(time.monotonic() - started) / 60:.1f} minutes)"


def _run(title: str, command: list[str], **variables: str) -> None:
    """Run a command with its output shown; what MONAI and torch warn of on import says nothing to a newcomer."""
    logger.info(f"\n{title}\n$ {shlex.join(command)}\n")
    # threads that wait by spinning slow each other down many times over where other work runs beside
    environment = {
        **os.environ,
        "PYTHONWARNINGS": "ignore",
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "0",
        **variables,
    }
    result = subprocess.run(command, env=environment, check=False)
    if result.returncode != 0:
        raise RuntimeError(
            f"{title} failed; the lines above say why. The same command goes on from the last checkpoint"
        )
