"""MONAI Label's own training task; prints the files of models/. Arguments: bundle, epochs, JSON list of items."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

from monailabel.tasks.train.bundle import BundleTrainTask  # noqa: E402


class Datastore:
    def __init__(self, items: list[dict[str, str]]) -> None:
        self.items = items

    def datalist(self) -> list[dict[str, Any]]:
        return self.items


def main(bundle: str, epochs: str, items: str) -> None:
    task = BundleTrainTask(bundle, {})
    request = {"model": Path(bundle).name, "max_epochs": int(epochs), "device": "cpu", "val_split": 0.25}
    task({**request, "multi_gpu": False}, Datastore(json.loads(items)))
    models = Path(bundle) / "models"
    print(json.dumps(sorted(str(path.relative_to(models)) for path in models.rglob("*") if path.is_file())))


main(*sys.argv[1:])
