"""Embeddings of many images on disk, in pieces that survive an interruption.

The caller gives the encoder. The output names no file and no patient: the embedding of an image is found by the hash of
its pixels.
"""

from __future__ import annotations

import contextlib
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

from monai_anat.data.items import DatalistError, Item, file_of, transform_item
from monai_anat.data.preparation.disk_space import explain_full_disk
from monai_anat.files import FolderLock, file_key, replace_file, write_text_atomically
from monai_anat.keys import IMAGE

__all__ = [
    "EmbedProgress",
    "pixel_hash",
    "write_embeddings",
]

_PIECES = ".embed"
_INDEX = "index.csv"  # written last: a folder with it is finished
#: setting -> what a user calls it
_TOLD = {"encoder": "another encoder", "items": "other items or changed files", "first_image": "another transform"}

Transform = Callable[[Item], Mapping[str, Any]]


@dataclass(frozen=True)
class EmbedProgress:
    """Progress of an embedding run.

    Attributes:
        done: number of images that are done, those of earlier runs included.
        total: number of images.
        rate: images per second of this run.
        seconds_left: expected seconds until the end, or None at the start.
    """

    done: int
    total: int
    rate: float
    seconds_left: float | None


def write_embeddings(
    encoder: nn.Module,
    items: Sequence[Mapping[str, Any]],
    out: str | os.PathLike[str],
    *,
    transform: Transform,
    patches: bool = False,
    batch_size: int = 16,
    form: str = "npy",
    device: str | torch.device = "cpu",
    on_progress: Callable[[EmbedProgress], None] | None = None,
) -> Path:
    """Write the embedding of every image: the mean of the encoder's last feature map and, on request, its cells.

    A run that was stopped is continued if encoder weights, items, files, transform and settings are the same. A
    finished folder is left as it is.

    Args:
        encoder: network that gives (B, D, h, w) for (B, 1, H, W). It is set to evaluation mode.
        items: datalist items.
        out: folder to write: new, empty, or begun by an earlier run.
        transform: loads an item as a dict with ``image`` (1, H, W), normalized as in the encoder's training.
        patches: also write the cells of the map, float16 (N, h * w, D), as ``patches.npy``.
        batch_size: images per batch, and per piece that an interruption can lose.
        form: ``npy`` writes ``embeddings.npy``, float32 (N, D); ``parquet`` writes ``embeddings.parquet`` and needs
            pyarrow.
        device: device of the encoder.
        on_progress: called after every batch.

    Returns:
        The folder. Its ``index.csv`` has the row and the hash of the pixels of each image.

    Raises:
        ValueError: if ``form`` or ``batch_size`` is invalid, or pyarrow is missing.
        DatalistError: if there are no items, a file cannot be read, the folder was begun otherwise, or the disk is
            full.
        FolderInUseError: if another process writes into ``out``.
    """
    if form not in ("npy", "parquet"):
        raise ValueError(f"form must be 'npy' or 'parquet', got {form!r}")
    if form == "parquet" and not optional_import("pyarrow")[1]:
        raise ValueError("form='parquet' needs pyarrow, which is not installed; pip install 'monai_anat[export]'")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not items:
        raise DatalistError("items must hold at least one image, got none")
    folder = Path(out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise DatalistError(f"out must be a folder, got the file {str(folder)!r}")
    settings = {
        "count": len(items),
        "batch_size": batch_size,
        "patches": patches,
        "form": form,
        "encoder": _weights_hash(encoder),
        "items": _items_hash(items),
        "first_image": pixel_hash(transform_item(transform, items[0])[IMAGE]),
    }
    _check_settings(folder, settings)
    with explain_full_disk(folder), FolderLock(folder, "embedding"):
        _check_settings(folder, settings)
        if (folder / _INDEX).is_file():
            if on_progress is not None:
                on_progress(EmbedProgress(len(items), len(items), 0.0, 0.0))
            return folder
        (folder / _PIECES).mkdir(exist_ok=True)
        write_text_atomically(folder / _PIECES / "settings.json", json.dumps(settings))
        run = _Run(encoder.to(device).eval(), items, folder / _PIECES, transform, patches, batch_size, device)
        run.write_pieces(on_progress)
        _join(folder, run.pieces, patches, form)
    return folder


def pixel_hash(image: torch.Tensor) -> str:
    """Hash the image that an encoder gets, to find its embedding.

    Args:
        image: tensor (1, H, W).

    Returns:
        32 hexadecimal digits.

    >>> pixel_hash(torch.zeros(1, 2, 2)) == pixel_hash(torch.zeros(1, 2, 2))
    True
    """
    values = np.ascontiguousarray(torch.as_tensor(image).cpu().numpy())
    digest = hashlib.blake2b(values.tobytes(), digest_size=16, person=str(values.shape).encode()[:16])
    return digest.hexdigest()


def _weights_hash(encoder: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(encoder.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.view(torch.uint8).numpy().tobytes() if values.dim() else str(values.item()).encode())
    return digest.hexdigest()


def _items_hash(items: Sequence[Mapping[str, Any]]) -> str:
    """Hash the files of the items in their order, with size and time of change."""
    digest = hashlib.blake2b(digest_size=16)
    for item in items:
        image = item[IMAGE]
        if isinstance(image, (str, os.PathLike)):
            path = os.fspath(image)
            with contextlib.suppress(OSError):  # reading it gives the better message
                digest.update(file_key(file_of(path)).encode("utf-8", "surrogateescape"))
            digest.update(path.encode("utf-8", "surrogateescape"))
        else:
            digest.update(pixel_hash(torch.as_tensor(image)).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder that was begun or finished otherwise; nothing is written."""
    path = folder / _PIECES / "settings.json"
    if not path.is_file():
        if (folder / _INDEX).is_file() or (folder / _PIECES).is_dir():
            raise DatalistError(f"out={str(folder)!r} holds embeddings of an unknown encoder; name a new folder")
        return
    try:
        before = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise DatalistError(f"{path} is damaged; name a new folder") from None
    differing = [name for name in settings if before.get(name) != settings[name]]
    if differing:
        told = ", ".join(
            _TOLD.get(name, f"{name}={before.get(name)!r} then, {settings[name]!r} now") for name in differing
        )
        raise DatalistError(f"out={str(folder)!r} was begun with {told}; name a new folder, or use the same arguments")


@dataclass(frozen=True)
class _Run:
    """One embedding run."""

    encoder: nn.Module
    items: Sequence[Mapping[str, Any]]
    pieces: Path
    transform: Transform
    patches: bool
    batch_size: int
    device: str | torch.device

    def write_pieces(self, on_progress: Callable[[EmbedProgress], None] | None) -> None:
        """Write the pieces that are missing or cannot be read."""
        started, fresh, total = time.monotonic(), 0, len(self.items)
        for number, start in enumerate(range(0, total, self.batch_size)):
            batch, piece = self.items[start : start + self.batch_size], self.pieces / f"{number:07d}.npz"
            if not _is_whole(piece, len(batch), self.patches):
                self._write_piece(piece, [transform_item(self.transform, item) for item in batch])
                fresh += len(batch)
            if on_progress is not None:
                done = start + len(batch)
                rate = fresh / max(time.monotonic() - started, 1e-9)
                on_progress(EmbedProgress(done, total, rate, (total - done) / rate if fresh else None))

    def _write_piece(self, piece: Path, batch: Sequence[Mapping[str, Any]]) -> None:
        images = torch.stack([torch.as_tensor(entry[IMAGE]).float() for entry in batch]).to(self.device)
        with torch.no_grad():
            feature_map = self.encoder(images).float()  # (B, D, h, w)
        tokens = feature_map.flatten(2).transpose(1, 2)  # (B, N, D)
        content: dict[str, NDArray[Any]] = {
            "embedding": tokens.mean(1).cpu().numpy(),
            "pixels": np.array([pixel_hash(entry[IMAGE]) for entry in batch]),
        }
        if self.patches:
            content["patches"] = tokens.half().cpu().numpy()
        with replace_file(piece) as temporary, temporary.open("wb") as handle:
            np.savez(handle, allow_pickle=False, **content)


def _is_whole(piece: Path, count: int, patches: bool) -> bool:
    """Return whether a piece of an earlier run can be read; the ZIP format holds a checksum of each array."""
    try:
        with piece.open("rb") as handle, np.load(handle) as content:
            names = ("embedding", "pixels", *(["patches"] if patches else []))
            return all(len(content[name]) == count for name in names)
    except Exception:
        return False  # damaged files fail in any way there is; the piece is computed again


def _pieces(folder: Path) -> Iterator[dict[str, NDArray[Any]]]:
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as content:
            yield {name: content[name] for name in content.files}


def _join(folder: Path, pieces: Path, patches: bool, form: str) -> None:
    """Put the pieces together with one of them in memory at a time, and remove them."""
    hashes = [str(value) for piece in _pieces(pieces) for value in piece["pixels"]]
    if form == "npy":
        _stack(folder / "embeddings.npy", pieces, "embedding", len(hashes))
    else:
        _write_parquet(folder / "embeddings.parquet", pieces)
    if patches:
        _stack(folder / "patches.npy", pieces, "patches", len(hashes))
    rows = "".join(f"{row},{value}\n" for row, value in enumerate(hashes))
    write_text_atomically(folder / _INDEX, f"row,pixels\n{rows}")
    for path in pieces.glob("*.npz"):
        path.unlink()


def _stack(path: Path, pieces: Path, name: str, count: int) -> None:
    first = next(_pieces(pieces))[name]
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False}
    # written and not mapped: a full disk is an error here, and would kill the process there
    with replace_file(path) as temporary, temporary.open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, {**header, "shape": (count, *first.shape[1:])})
        for piece in _pieces(pieces):
            handle.write(np.ascontiguousarray(piece[name]).tobytes())


def _write_parquet(path: Path, pieces: Path) -> None:
    pyarrow, _ = optional_import("pyarrow")
    parquet, _ = optional_import("pyarrow.parquet")
    width = next(_pieces(pieces))["embedding"].shape[1]
    schema = pyarrow.schema([("pixels", pyarrow.string()), ("embedding", pyarrow.list_(pyarrow.float32(), width))])
    with replace_file(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for piece in _pieces(pieces):
            values = pyarrow.array(piece["embedding"].astype(np.float32).ravel())
            column = pyarrow.FixedSizeListArray.from_arrays(values, width)
            writer.write_table(pyarrow.table([pyarrow.array(piece["pixels"].tolist()), column], schema=schema))
