"""MONAI Label's own inference task on files; prints one line of JSON. Arguments: bundle, result folder, files."""

from __future__ import annotations

import json
import shutil
import sys
import warnings

warnings.simplefilter("ignore")

from monailabel.tasks.infer.bundle import BundleInferTask  # noqa: E402


def main(bundle: str, folder: str, *files: str) -> None:
    task = BundleInferTask(bundle, {})
    assert task.is_valid()
    answers = []
    for number, file in enumerate(files):
        request = {"image": file, "device": "cpu", "logging": "ERROR", "result_extension": ".nii.gz"}
        result, answer = task(request)
        if result is not None:
            result = shutil.copy(result, f"{folder}/{number}.nii.gz")
        answers.append({"file": result, "prediction": answer.get("prediction")})
    print(json.dumps(answers))


main(*sys.argv[1:])
