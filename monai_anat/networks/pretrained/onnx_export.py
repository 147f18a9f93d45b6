"""Export of networks to ONNX with a dynamic batch axis, checked in ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from monai_anat.files import replace_file

__all__ = ["export_onnx"]

#: batch size of the traced example; the exporter takes an axis of length 1 for a constant
_EXAMPLE_BATCH = 2
#: batch sizes that are compared with PyTorch
_CHECKED_BATCHES = (1, 3)


def export_onnx(
    network: nn.Module,
    path: str | os.PathLike[str],
    image_size: Sequence[int],
    *,
    in_channels: int = 1,
    tolerance: float = 1e-4,
) -> Path:
    """Export a network with one input and one output to ONNX, for any batch size and one image size.

    ``torch.onnx.export`` with an example of batch size 1 reports success, but the file may fail with larger batches,
    because the exporter takes axes of length 1 for constants. Here the example has two images, and the file is compared
    with PyTorch at batch sizes 1 and 3 before it gets its name.

    Args:
        network: the network; it is exported in evaluation mode.
        path: output file.
        image_size: pixels per axis of the images.
        in_channels: number of image channels.
        tolerance: largest accepted difference, relative to the largest output.

    Returns:
        The path. Its graph has the input ``image`` and the output ``output``.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if the exported file gives other outputs than the network. No file is left then.
    """
    import onnxruntime

    generator = torch.Generator().manual_seed(0)

    def images(batch: int) -> Tensor:
        return torch.rand(batch, in_channels, *image_size, generator=generator)

    training, target = network.training, Path(path)
    network.eval()
    try:
        with replace_file(target) as temporary:
            program = torch.onnx.export(
                network,
                (images(_EXAMPLE_BATCH),),
                dynamo=True,
                input_names=["image"],
                output_names=["output"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
            if program is None:
                raise ValueError(f"torch.onnx.export returned no program for {type(network).__name__}")
            program.save(temporary)
            session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
            for batch in _CHECKED_BATCHES:
                example = images(batch)
                (output,) = session.run(None, {"image": example.numpy()})
                with torch.no_grad():
                    expected = network(example)
                difference = (torch.from_numpy(output) - expected).abs().max()
                if not difference <= tolerance * expected.abs().max().clamp(min=1):
                    raise ValueError(
                        f"the ONNX file of {type(network).__name__} differs from PyTorch by {difference:.2g} at batch "
                        f"size {batch}; export it by torch.jit instead"
                    )
    finally:
        network.train(training)
    return target
