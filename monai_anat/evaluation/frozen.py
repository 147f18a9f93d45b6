"""An encoder that is measured and never trained: its input as it was trained, its features computed once."""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from monai_anat.data.reading.preprocessing import radiograph_preprocessing
from monai_anat.data.reading.radiograph import read_radiograph
from monai_anat.evaluation.feature_store import FeatureStore, file_key
from monai_anat.evaluation.windows import cut_windows
from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import IMAGE
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.pretrained.records import load_encoder, load_heads, read_encoder_record
from monai_anat.precision import autocast_dtype
from monai_anat.seeding import mix

__all__ = [
    "CollapsedFeaturesError",
    "FrozenEncoder",
    "SmallMapError",
    "centered",
    "cosines",
    "load_by",
    "random_backbone",
    "unit",
]

Items = Sequence[Mapping[str, Any]]
Floats = NDArray[np.float32]
#: brings a batch (B, 1, S, S) in [0, 1] to another one of the same shape
Change = Callable[[Tensor], Tensor]

#: relative size of what differs between features below which they count as equal
_EQUAL = 1e-5


class CollapsedFeaturesError(ValueError):
    """The features of all images or places are equal: there is nothing to score."""


class SmallMapError(ValueError):
    """The encoder's dense map has too few cells for the question."""


class FrozenEncoder:
    """A backbone together with what a user would otherwise have to repeat for every protocol.

    Images are resized to a square of ``image_size``, the gray value is repeated in every channel that the network has,
    and normalized as in its training. Each feature is computed once per image and kept on disk, in ``cache_dir`` for
    later processes or in a temporary folder for this object's life; only what a protocol works on is in memory.

    Args:
        backbone: any 2D network under the backbone contract (:func:`~monai_anat.networks.as_backbone` brings MONAI's
            there); it is copied.
        image_size: side in pixels at which it sees an image or a window.
        mean: of the normalization that it was trained with, one number or one per channel, for images in [0, 1].
        std: of that normalization.
        level: which feature map the dense protocols use; -1 is the last.
        name: stands in the results.
        batch_size: images at a time.
        precision: "auto", "bf16" or "fp32".
        device: where to compute.
        heads: "composition_head" and "decomposition_head", where the method trained them with the encoder.
        cache_dir: keeps the features; files are told apart by path, size and time of change, encoders by weights.
            One process at a time may write the features of one encoder there.

    Raises:
        ValueError: for a 3D network, a level that it does not have, as many means as the network has no channels, or a
            device that is not there.

    >>> from monai_anat.data import segmentation_datalist
    >>> from monai_anat.networks import SwinBackbone
    >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2))
    >>> encoder = FrozenEncoder(backbone, image_size=56)
    >>> encoder.embeddings(segmentation_datalist("test")[:3]).shape, encoder.grid
    ((3, 16), (7, 7))
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        image_size: int = 224,
        mean: float | Sequence[float] = CHEST_MEAN,
        std: float | Sequence[float] = CHEST_STD,
        level: int = -1,
        name: str = "encoder",
        batch_size: int = 16,
        precision: str = "fp32",
        device: str | torch.device = "cpu",
        heads: Mapping[str, nn.Module] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if backbone.spatial_dims != 2:
            raise ValueError(f"backbone must be 2D, got spatial_dims={backbone.spatial_dims}")
        levels = len(backbone.strides)
        if not -levels <= level < levels:
            raise ValueError(f"level must be in -{levels} .. {levels - 1}, one of the {levels} maps, got {level}")
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device must be one that torch finds here, got {str(device)!r}; take 'cpu'")
        self.backbone = copy.deepcopy(backbone).eval().requires_grad_(False).to(self.device)
        self.image_size, self.level, self.name, self.batch_size = image_size, level, name, batch_size
        self.precision, self.cache_dir = precision, cache_dir
        self.heads = {name: copy.deepcopy(head).eval().cpu() for name, head in (heads or {}).items()}
        self._normal = {"mean": _plain(mean), "std": _plain(std)}
        self.mean, self.std = (_per_channel(value, backbone.in_channels, self.device) for value in (mean, std))
        self._grid: tuple[int, int] | None = None
        self._chain = radiograph_preprocessing(image_size, square=True)
        if cache_dir is None:
            self._folder = Path(tempfile.mkdtemp(prefix="monai_anat_features_"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        else:
            self._folder = Path(cache_dir) / self._fingerprint()
        self._stores: dict[str, FeatureStore] = {}

    @classmethod
    def load(cls, folder: str | os.PathLike[str], **settings: Any) -> FrozenEncoder:
        """The encoder that ``save_encoder`` wrote, with the size and normalization of its record, and its heads.

        Args:
            folder: the encoder's folder.
            settings: further arguments of :class:`FrozenEncoder`, which win over the record.
        """
        record = read_encoder_record(folder)
        place = Path(folder)
        own = {"image_size": record.image_size[0], "mean": record.mean, "std": record.std, "name": place.name}
        own["heads"] = load_heads(place if place.is_dir() else place.parent)
        return cls(load_encoder(folder), **{**own, **settings})

    @classmethod
    def of(cls, encoder: Backbone | FrozenEncoder) -> FrozenEncoder:
        """The encoder itself, or a backbone with the default settings."""
        return encoder if isinstance(encoder, FrozenEncoder) else cls(encoder)

    @property
    def settings(self) -> dict[str, Any]:
        """What of the encoder's settings changes its numbers."""
        return {"image_size": self.image_size, "level": self.level, "precision": self.precision, **self._normal}

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the dense map."""
        if self._grid is None:
            gray = torch.full((1, 1, self.image_size, self.image_size), 0.5)
            height, width = self._maps(gray).shape[2:]
            self._grid = (height, width)
        return self._grid

    @property
    def extent(self) -> tuple[int, int]:
        """Pixels that the dense map covers: more than ``image_size`` where the network pads to whole cells."""
        stride = self.backbone.strides[self.level]
        return self.grid[0] * stride, self.grid[1] * stride

    def check_grid(self, smallest: int) -> None:
        """Refuse an encoder whose dense map has too few cells to tell places apart.

        Raises:
            SmallMapError: naming the grid and the ways out.
        """
        if min(self.grid) < smallest:
            raise SmallMapError(
                f"the encoder's map must have at least {smallest} x {smallest} cells, got {self.grid[0]} x "
                f"{self.grid[1]} at image_size={self.image_size} and level={self.level} (stride "
                f"{self.backbone.strides[self.level]}); take a larger image_size or a finer level, such as -2"
            )

    def random(self, seed: int = 0) -> FrozenEncoder:
        """The same architecture with random weights, and the same settings; without the heads, made for others."""
        return FrozenEncoder(
            random_backbone(self.backbone, seed),
            image_size=self.image_size,
            **self._normal,
            level=self.level,
            name=f"{self.name}, random initialization {seed}",
            batch_size=self.batch_size,
            precision=self.precision,
            device=self.device,
            cache_dir=self.cache_dir,
        )

    def prepare(self, items: Items, changes: Mapping[str, Change | None]) -> None:
        """Compute embeddings and dense maps under several changes, so that each image is read once for all of them.

        Args:
            items: N datalist items.
            changes: variant -> change, as :meth:`embeddings` and :meth:`feature_maps` take them; None for "".
        """
        stores = self._store("embeddings"), self._store(f"maps{self.level}")
        files = {file_key(item[IMAGE]): item for item in items}
        todo = {
            file: item
            for file, item in files.items()
            if any(store.missing([_variant(name, file) for name in changes]) for store in stores)
        }
        for part, images in self._batches(todo):
            for name, change in changes.items():
                last, dense = self._levels(images if change is None else change(images), (-1, self.level))
                for file, vector, maps in zip(part, last.mean(dim=(2, 3)).numpy(), dense.numpy(), strict=True):
                    key = _variant(name, file)
                    for store, array in zip(stores, (vector, maps), strict=True):
                        if store.missing([key]):
                            store.append(key, array)
        if todo:
            for store in stores:
                store.flush()

    def embeddings(self, items: Items, change: Change | None = None, variant: str = "") -> Floats:
        """Mean over the cells of the last map, for each image.

        Args:
            items: N datalist items.
            change: applied to the batch before normalization.
            variant: name of the change, under which its features are kept.

        Returns:
            (N, D)
        """
        return self._images(items, "embeddings", change, variant, lambda x: self._maps(x, -1).mean(dim=(2, 3)))

    def feature_maps(self, items: Items, change: Change | None = None, variant: str = "") -> Floats:
        """The dense map of each image.

        Args:
            items: N datalist items; take some at a time where N is large.
            change: applied to the batch before normalization.
            variant: name of the change, under which its features are kept.

        Returns:
            (N, D, h, w)
        """
        return self._images(items, f"maps{self.level}", change, variant, self._maps)

    def mean_feature(self, items: Items) -> NDArray[np.float64]:
        """Mean of the dense maps over all images and cells, (D,); one batch is in memory at a time.

        Raises:
            CollapsedFeaturesError: if the features are equal everywhere.
        """
        total, square, largest = np.zeros(1), np.zeros(1), 0.0
        for start in range(0, len(items), self.batch_size):
            maps = self.feature_maps(items[start : start + self.batch_size]).astype(np.float64)
            total = total + maps.mean(axis=(2, 3)).sum(axis=0)
            square = square + np.square(maps).mean(axis=(2, 3)).sum(axis=0)
            largest = max(largest, float(np.abs(maps).max()))
        mean, square = total / len(items), square / len(items)
        _check_spread(float(np.sqrt(np.maximum(square - np.square(mean), 0).max())), largest)
        return mean

    def window_embeddings(self, items: Items, boxes: ArrayLike) -> Floats:
        """The embedding of windows, each resized to the network's input.

        Args:
            items: N datalist items.
            boxes: (N, W, 4) top, left, height, width in pixels of each stored image.

        Returns:
            (N, W, D)
        """
        places = np.asarray(boxes, dtype=np.int64)
        store = self._store(f"windows{places.shape[1]}")
        keys = [
            f"{file_key(item[IMAGE])} {hashlib.blake2b(place.tobytes(), digest_size=12).hexdigest()}"
            for item, place in zip(items, places, strict=True)
        ]
        waiting = set(store.missing(keys))
        for key, item, place in zip(keys, items, places, strict=True):
            if key in waiting:
                windows = cut_windows(read_radiograph(item[IMAGE]).pixels, place, self.image_size)
                parts = [self._maps(part, -1).mean(dim=(2, 3)) for part in windows.split(self.batch_size)]
                store.append(key, torch.cat(parts).numpy())
                waiting.discard(key)
                if not waiting:
                    store.flush()
        return store.read(keys)

    def _images(
        self, items: Items, kind: str, change: Change | None, variant: str, features: Callable[[Tensor], Tensor]
    ) -> Floats:
        store = self._store(kind)
        keys = [_variant(variant, file_key(item[IMAGE])) for item in items]
        waiting = set(store.missing(keys))
        todo = {key: item for key, item in zip(keys, items, strict=True) if key in waiting}
        if kind == "embeddings":
            self._pool_known_maps(store, todo)
        for part, images in self._batches(todo):
            changed = images if change is None else change(images)
            for key, array in zip(part, features(changed).numpy(), strict=True):
                store.append(key, array)
        if todo:
            store.flush()
        return store.read(keys)

    def _pool_known_maps(self, store: FeatureStore, todo: dict[str, Mapping[str, Any]]) -> None:
        """Embeddings of images whose last map is kept already; they leave ``todo``."""
        maps = self._store("maps-1")
        known = sorted(set(todo) - set(maps.missing(list(todo))))
        for key in known:
            store.append(key, maps.read([key])[0].mean(axis=(1, 2)))
            del todo[key]
        if known:
            store.flush()

    def _batches(self, items: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[list[str], Tensor]]:
        """Images (B, 1, S, S) in [0, 1], a batch at a time."""
        chain = self._chain
        keys = list(items)
        for start in range(0, len(keys), self.batch_size):
            part = keys[start : start + self.batch_size]
            images = [load_by(chain, {IMAGE: items[key][IMAGE]})[IMAGE] for key in part]
            yield part, torch.stack([torch.as_tensor(image) for image in images])

    def _maps(self, images: Tensor, level: int | None = None) -> Tensor:
        """(B, 1, S, S) in [0, 1] -> (B, D, h, w) on the CPU."""
        return self._levels(images, (self.level if level is None else level,))[0]

    @torch.no_grad()
    def _levels(self, images: Tensor, levels: Sequence[int]) -> list[Tensor]:
        """(B, 1, S, S) in [0, 1] -> (B, D, h, w) on the CPU, for each level."""
        gray = images.to(self.device).expand(-1, self.backbone.in_channels, -1, -1)
        dtype = autocast_dtype(self.precision, self.device)
        try:
            with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
                maps = self.backbone.forward_features((gray - self.mean) / self.std)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ValueError(
                f"{self.name} must take images of image_size={self.image_size}, got: {error}; give the size that its "
                "positions or strides are made for"
            ) from error
        chosen = [maps[level].float().cpu() for level in levels]
        if not all(bool(torch.isfinite(one).all()) for one in chosen):
            raise ValueError(
                f"the features of {self.name} must be finite, got NaN or infinity; its weights have diverged, or "
                "precision is too low"
            )
        return chosen

    def _store(self, kind: str) -> FeatureStore:
        if kind not in self._stores:
            self._stores[kind] = FeatureStore(self._folder, kind)
        return self._stores[kind]

    def _fingerprint(self) -> str:
        """Hash of weights and settings: features of another encoder are never taken for this one's."""
        backbone = self.backbone
        digest = hashlib.blake2b(digest_size=12)
        digest.update(f"{type(backbone).__qualname__} {backbone.config} {self.settings}".encode())
        for name, tensor in backbone.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def load_by(chain: Callable[[Any], Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """What a chain of transforms makes of an item.

    MONAI says which transform failed; its cause says which file, and why.
    """
    try:
        sample: dict[str, Any] = chain(dict(item))
    except RuntimeError as error:
        raise (error.__cause__ or error) from None
    return sample


def centered(features: NDArray[Any], axis: int | tuple[int, ...] = 0) -> NDArray[np.float64]:
    """Features minus their mean, at unit length along the last axis.

    Raises:
        CollapsedFeaturesError: if they are all equal.
    """
    values = np.asarray(features, dtype=np.float64)
    difference = values - values.mean(axis=axis, keepdims=True)
    _check_spread(float(np.abs(difference).max()), float(np.abs(values).max()))
    return unit(difference)


def unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of unit length; zero stays zero."""
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / np.where(length > 0, length, 1)


def cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of rows, along the last axis."""
    cosine: NDArray[np.float64] = (unit(first) * unit(second)).sum(axis=-1)
    return cosine


def _check_spread(difference: float, largest: float) -> None:
    if difference <= _EQUAL * largest:
        raise CollapsedFeaturesError(
            "the encoder gives the same features for all images and places (collapsed), so there is nothing to score"
        )


def _variant(name: str, file: str) -> str:
    """Under which key features of a file (its key) that was changed are kept."""
    return f"{name} {file}".strip()


def _plain(value: float | Sequence[float]) -> Any:
    return float(value) if isinstance(value, (int, float)) else [float(number) for number in value]


def _per_channel(value: float | Sequence[float], channels: int, device: torch.device) -> Tensor:
    numbers = torch.as_tensor(value, dtype=torch.float32).flatten()
    if len(numbers) not in (1, channels):
        raise ValueError(
            f"mean and std must be one number, or one for each of the {channels} channels, got {len(numbers)}"
        )
    return numbers.reshape(1, -1, 1, 1).to(device)


def random_backbone(backbone: Backbone, seed: int) -> Backbone:
    """The same architecture with random weights.

    It is built again from its record; a wrapped network of another library has none and is copied, with every layer
    initialized again.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(21, seed) >> 1)
        if backbone.config:
            return type(backbone)(**backbone.config)
        fresh = copy.deepcopy(backbone)
        drawn: set[int] = set()
        for module in fresh.modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if reset is not None:
                reset()
                drawn |= {id(parameter) for parameter in module.parameters(recurse=False)}
        for parameter in fresh.parameters():
            if id(parameter) not in drawn:  # position embeddings, class tokens
                nn.init.trunc_normal_(parameter, std=0.02)
        return fresh
