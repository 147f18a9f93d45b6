"""Tiny settings of every pre-training method, for the contract tests and their worker processes.

Each concrete subclass of ``SSLMethod`` among the public names has a ``CASE`` in its test file,
``tests/unit/methods/test_<module>.py``: ``SimpleNamespace(method=..., views=..., image=...)`` with factories of a tiny
method, of its views transform, and (by seed) of an image. ``MORE_CASES`` in the same file names further settings of the
method, such as its stages. Optional entries: ``keeps_batch=False`` where the terms depend on which samples share a
batch (variance, queues), ``joint_batch=False`` where several processes cannot equal one (BatchNorm), ``teacher=False``
where these settings of a ``TeacherStudentMethod`` have none, ``phase`` of the samples and stage of the progress,
``progress`` (step, steps) instead of one epoch of one stage, ``base_lr``, and ``without_gradient`` with the names of
trainable parameters that no term moves.
"""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from monai.data import list_data_collate

from monai_anat import methods
from monai_anat.keys import PHASE
from monai_anat.methods import SSLMethod
from monai_anat.schedules import Progress

CLASSES = {
    name: cls
    for name in methods.__all__
    if inspect.isclass(cls := getattr(methods, name)) and issubclass(cls, SSLMethod) and not inspect.isabstract(cls)
}
FOLDER = Path(__file__).parents[1] / "unit" / "methods"
BATCH = 8
DEFAULTS = {
    "keeps_batch": True,
    "joint_batch": True,
    "teacher": True,
    "without_gradient": (),
    "phase": None,
    "progress": None,
    "base_lr": 3e-3,
}


def load_cases(name: str) -> dict[str, SimpleNamespace]:
    """Load the cases of a class by name, with defaults."""
    path = FOLDER / f"test_{CLASSES[name].__module__.rpartition('.')[2]}.py"
    assert path.exists(), f"{name} needs a test file {path.name} with a CASE"
    spec = importlib.util.spec_from_file_location(f"case_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cases = {name: module.CASE} | {f"{name}-{label}": c for label, c in getattr(module, "MORE_CASES", {}).items()}
    return {label: SimpleNamespace(**{**DEFAULTS, **vars(case), "name": name}) for label, case in cases.items()}


CASES = {label: case for name in sorted(CLASSES) for label, case in load_cases(name).items()}


def batch_of(case: SimpleNamespace, first_seed: int = 0) -> dict[str, Any]:
    views = case.views()
    seeds = range(first_seed, first_seed + BATCH)
    phase = {} if case.phase is None else {PHASE: case.phase}
    return list_data_collate([views.set_random_state(seed)({"image": case.image(seed), **phase}) for seed in seeds])


def progress_of(case: SimpleNamespace, step: int = 0, steps: int = 20) -> Progress:
    if case.progress is not None:
        progress: Progress = case.progress(step, steps)
        return progress
    return Progress(0, 1, step, steps, stage=case.phase or 0, stage_step=step, stage_steps=steps)
