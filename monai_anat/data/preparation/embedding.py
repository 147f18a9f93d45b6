"""Embeddings of many images on disk, in pieces that survive an interruption, keyed by the hash of their pixels.

The encoder is handed in; nothing here knows where it came from. The output names no file and no patient: an embedding
is found again by hashing the pixels of its image.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.utils import optional_import
from numpy.typing import NDArray
from torch import nn

from monai_anat.data.items import DatalistError
from monai_anat.data.preparation.journal import write_whole
from monai_anat.keys import IMAGE

__all__ = [
    "EmbedProgress",
    "pixel_hash",
    "write_embeddings",
]

_PIECES = ".embed"


@dataclass(frozen=True)
class EmbedProgress:
    """Where an embedding run is: images done (earlier runs included) and in all, images per second, seconds left."""

    done: int
    total: int
    rate: float
    seconds_left: float | None


def write_embeddings(
    encoder: nn.Module,
    items: Sequence[Mapping[str, Any]],
    out: str | os.PathLike[str],
    *,
    transform: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    patches: bool = False,
    batch_size: int = 16,
    form: str = "npy",
    device: str | torch.device = "cpu",
    on_progress: Callable[[EmbedProgress], None] | None = None,
) -> Path:
    """Write the embedding of every image: the mean of the encoder's last map, and, if wanted, the map's cells.

    Args:
        encoder: gives (B, D, h, w) for (B, 1, H, W); put into evaluation mode here.
        items: datalist items.
        out: folder; a run that was stopped goes on there, given the same items in the same order.
        transform: brings an item to a dict with ``image`` (1, H, W), normalized as the encoder was trained.
        patches: also write the cells, float16 (N, h * w, D).
        batch_size: images at a time; also how much a stopped run loses.
        form: ``npy`` writes ``embeddings.npy`` float32 (N, D), ``parquet`` ``embeddings.parquet`` (needs pyarrow).
        device: where to compute.
        on_progress: called after every batch.

    Returns:
        The folder, with ``index.csv``: row, and the hash of the pixels that the encoder saw.

    Raises:
        ValueError: unknown form.
        DatalistError: no items, or the folder was begun with another list.
    """
    if form not in ("npy", "parquet"):
        raise ValueError(f"form must be 'npy' or 'parquet', got {form!r}")
    if not items:
        raise DatalistError("items must hold at least one image, got none")
    folder, pieces = Path(out), Path(out) / _PIECES
    pieces.mkdir(parents=True, exist_ok=True)
    _same_run(pieces, {"count": len(items), "batch_size": batch_size, "patches": patches})
    encoder = encoder.to(device).eval()
    started, fresh = time.monotonic(), 0
    for number, start in enumerate(range(0, len(items), batch_size)):
        batch, piece = items[start : start + batch_size], pieces / f"{number:07d}.npz"
        if not piece.is_file():
            _write_piece(piece, encoder, [transform(item) for item in batch], patches, device)
            fresh += len(batch)
        if on_progress is not None:
            done = start + len(batch)
            rate = fresh / max(time.monotonic() - started, 1e-9)
            on_progress(EmbedProgress(done, len(items), rate, (len(items) - done) / rate if fresh else None))
    _join(folder, pieces, patches, form)
    return folder


def pixel_hash(image: torch.Tensor) -> str:
    """Hash what an encoder saw, to find its embedding again.

    Args:
        image: (1, H, W).

    >>> pixel_hash(torch.zeros(1, 2, 2)) == pixel_hash(torch.zeros(1, 2, 2))
    True
    """
    values = np.ascontiguousarray(torch.as_tensor(image).cpu().numpy())
    digest = hashlib.blake2b(values.tobytes(), digest_size=16, person=str(values.shape).encode()[:16])
    return digest.hexdigest()


def _same_run(pieces: Path, settings: dict[str, Any]) -> None:
    path = pieces / "settings.json"
    if not path.is_file():
        write_whole(path, json.dumps(settings).encode())
    elif json.loads(path.read_text()) != settings:
        before = json.loads(path.read_text())
        raise DatalistError(f"out was begun with {before}, got {settings}; name a new folder or the same arguments")


def _write_piece(
    piece: Path, encoder: nn.Module, batch: Sequence[Mapping[str, Any]], patches: bool, device: str | torch.device
) -> None:
    images = torch.stack([torch.as_tensor(entry[IMAGE]).float() for entry in batch]).to(device)
    with torch.no_grad():
        feature_map = encoder(images).float()  # (B, D, h, w)
    tokens = feature_map.flatten(2).transpose(1, 2)  # (B, N, D)
    content: dict[str, NDArray[Any]] = {
        "embedding": tokens.mean(1).cpu().numpy(),
        "pixels": np.array([pixel_hash(entry[IMAGE]) for entry in batch]),
    }
    if patches:
        content["patches"] = tokens.half().cpu().numpy()
    temporary = piece.with_suffix(".tmp")
    with temporary.open("wb") as handle:
        np.savez(handle, allow_pickle=False, **content)
    temporary.replace(piece)


def _pieces(folder: Path) -> Iterator[dict[str, NDArray[Any]]]:
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as content:
            yield {name: content[name] for name in content.files}


def _join(folder: Path, pieces: Path, patches: bool, form: str) -> None:
    """Put the pieces together, one at a time in memory, and remove them."""
    hashes = [str(value) for piece in _pieces(pieces) for value in piece["pixels"]]
    rows = "".join(f"{row},{value}\n" for row, value in enumerate(hashes))
    write_whole(folder / "index.csv", f"row,pixels\n{rows}".encode())
    if form == "npy":
        _stack(folder / "embeddings.npy", pieces, "embedding", len(hashes))
    else:
        _write_parquet(folder / "embeddings.parquet", pieces)
    if patches:
        _stack(folder / "patches.npy", pieces, "patches", len(hashes))
    for path in [*pieces.glob("*.npz"), pieces / "settings.json"]:
        path.unlink()
    pieces.rmdir()


def _stack(path: Path, pieces: Path, name: str, count: int) -> None:
    first = next(_pieces(pieces))[name]
    temporary = path.with_suffix(".tmp")
    target = np.lib.format.open_memmap(temporary, mode="w+", dtype=first.dtype, shape=(count, *first.shape[1:]))
    row = 0
    for piece in _pieces(pieces):
        target[row : row + len(piece[name])] = piece[name]
        row += len(piece[name])
    target.flush()
    del target
    temporary.replace(path)


def _write_parquet(path: Path, pieces: Path) -> None:
    pyarrow, found = optional_import("pyarrow")
    if not found:
        raise ValueError("form='parquet' needs pyarrow, which is not installed; pip install 'monai_anat[export]'")
    parquet, _ = optional_import("pyarrow.parquet")
    width = next(_pieces(pieces))["embedding"].shape[1]
    schema = pyarrow.schema([("pixels", pyarrow.string()), ("embedding", pyarrow.list_(pyarrow.float32(), width))])
    temporary = path.with_suffix(".tmp")
    with parquet.ParquetWriter(temporary, schema) as writer:
        for piece in _pieces(pieces):
            values = pyarrow.array(piece["embedding"].astype(np.float32).ravel())
            column = pyarrow.FixedSizeListArray.from_arrays(values, width)
            writer.write_table(pyarrow.table([pyarrow.array(piece["pixels"].tolist()), column], schema=schema))
    temporary.replace(path)
