"""MONAI Deploy's own operators on a DICOM folder or an array; prints one line of JSON.

Arguments: bundle (folder or TorchScript file), key of the output, result file, input (folder of DICOM or .npy).
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import monai  # noqa: E402
import numpy as np  # noqa: E402

for entry in sys.path:  # the SDK is a part of MONAI's package that another environment may hold
    if (Path(entry) / "monai" / "deploy").is_dir():
        monai.__path__.append(str(Path(entry) / "monai"))

from monai.deploy.core import Application, Image, IOType  # noqa: E402
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator  # noqa: E402
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator  # noqa: E402
from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator  # noqa: E402
from monai.deploy.operators.monai_bundle_inference_operator import (  # noqa: E402
    IOMapping,
    MonaiBundleInferenceOperator,
)


class Ports:
    """What holoscan hands to ``compute``: one value in, one value out."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def receive(self, name: str) -> Any:
        return self.value

    def emit(self, value: Any, name: str) -> None:
        self.value = value


class Context:
    models = None


class App(Application):
    def compose(self) -> None:
        """Operators are called one by one."""


def dicom_image(app: App, folder: Path) -> Any:
    studies = DICOMDataLoaderOperator(app, input_folder=folder, must_load=True, name="loader").load_data_to_studies(
        folder
    )
    selector = DICOMSeriesSelectorOperator(app, rules="", name="selector")
    selected = selector.filter(None, studies)
    image = DICOMSeriesToVolumeOperator(app, name="volume").convert_to_image(selected)
    # SDK 4.0.0 computes no affine for a single image, and then fails on the missing entry with any bundle
    image.metadata().setdefault("nifti_affine_transform", np.eye(4))
    return image


def main(bundle: str, output: str, result: str, source: str) -> None:
    app = App()
    image = Image(np.load(source)) if source.endswith(".npy") else dicom_image(app, Path(source))
    operator = MonaiBundleInferenceOperator(
        app,
        app_context=Context(),
        input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
        output_mapping=[IOMapping(output, Image, IOType.IN_MEMORY)],
        bundle_path=Path(bundle),
        name="operator",
    )
    out = Ports()
    operator.compute(Ports(image), out, None)
    value = out.value.asnumpy() if isinstance(out.value, Image) else np.asarray(out.value["probabilities"])
    np.save(result, value)
    print(json.dumps({"shape": list(value.shape)}))


main(*sys.argv[1:])
