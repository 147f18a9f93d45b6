"""Stand-in for mlflow that records every call of MONAI's ``MLFlowHandler``; for machines without mlflow.

A test copies this file as ``mlflow.py`` to a folder that a subprocess imports from. Every call becomes a line of
``$RECORDED_MLFLOW/calls.txt``, and every artifact a copy beside it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

__version__ = "3.0.0"


def _record(*call: Any) -> None:
    folder = Path(os.environ["RECORDED_MLFLOW"])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "calls.txt").open("a", encoding="utf-8") as handle:
        handle.write(repr(call) + "\n")


class MlflowClient:
    """A tracking client that remembers one experiment and one run."""

    def __init__(self, tracking_uri: str | None = None) -> None:
        self.tracking_uri = "recorded"
        self.run = SimpleNamespace(
            info=SimpleNamespace(run_id="run", run_name="run", status="RUNNING"),
            data=SimpleNamespace(params={}),
            inputs=SimpleNamespace(dataset_inputs=[]),
        )

    def get_experiment_by_name(self, name: str) -> SimpleNamespace:
        _record("experiment", name)
        return SimpleNamespace(experiment_id="1", lifecycle_stage="active")

    def search_runs(self, experiment_id: str) -> list[SimpleNamespace]:
        return []

    def create_run(self, experiment_id: str, run_name: str) -> SimpleNamespace:
        _record("run", run_name)
        return self.run

    def get_run(self, run_id: str) -> SimpleNamespace:
        return self.run

    def log_batch(self, run_id: str, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
        _record("batch", metrics, params, tags)
        for _, value, *_ in metrics:
            float(value)  # as mlflow demands

    def log_inputs(self, run_id: str, datasets: list[Any]) -> None:
        _record("inputs", datasets)

    def log_artifact(self, run_id: str, path: str) -> None:
        _record("artifact", Path(path).name)
        shutil.copy(path, os.environ["RECORDED_MLFLOW"])

    def set_terminated(self, run_id: str, status: str) -> None:
        _record("end", status)


entities = ModuleType("mlflow.entities")
vars(entities).update(
    RunStatus=SimpleNamespace(FINISHED=3, to_string=lambda status: "FINISHED"),
    LifecycleStage=SimpleNamespace(ACTIVE="active"),
    Param=lambda key, value: (key, value),
    Metric=lambda key, value, timestamp, step: (key, value, step),
    DatasetInput=lambda dataset: dataset,
)
exceptions = ModuleType("mlflow.exceptions")
vars(exceptions).update(MlflowException=RuntimeError)
if __name__ == "mlflow":
    sys.modules.update({"mlflow.entities": entities, "mlflow.exceptions": exceptions})
