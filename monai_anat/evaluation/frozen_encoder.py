"""Frozen encoder with cached features."""

from __future__ import annotations

import copy
import hashlib
import logging
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

from monai_anat._version import __version__
from monai_anat.data.items import transform_item
from monai_anat.data.reading.preprocessing import radiograph_preprocessing
from monai_anat.data.reading.radiograph import read_radiograph
from monai_anat.evaluation.feature_store import DamagedFeaturesError, FeatureStore, image_key
from monai_anat.evaluation.features import check_spread
from monai_anat.evaluation.patients import Items
from monai_anat.evaluation.windows import cut_windows
from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import IMAGE
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.pretrained.records import load_encoder, load_heads, read_encoder_record
from monai_anat.precision import autocast_dtype
from monai_anat.seeding import mix

__all__ = ["FrozenEncoder", "SmallMapError", "random_backbone", "resolve_device"]

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]
#: maps a batch (B, 1, S, S) in [0, 1] to another one of the same shape
Change = Callable[[Tensor], Tensor]

_TRIES = 3  # readings of features that turn out to be damaged


class SmallMapError(ValueError):
    """The encoder's dense map has too few cells for the protocol."""


class FrozenEncoder:
    """A backbone with its input size and normalization, and a cache of its features.

    Images are resized to a square of ``image_size``, repeated in every input channel, and normalized as in training.
    Each feature is computed once per image and kept on disk, in ``cache_dir`` or in a temporary folder that is removed
    with this object. Only what a protocol works on is in memory.

    The cache is safe for several processes. Features are identified by the path, size and time of change of the image,
    and by a fingerprint of weights, settings, precision and package version.

    Args:
        backbone: a 2D network under the backbone contract; it is copied. Use
            :func:`~monai_anat.networks.as_backbone` for networks of other libraries.
        image_size: side in pixels to which images and windows are resized.
        mean: mean of the normalization, one number or one per channel, for images in [0, 1].
        std: standard deviation of the normalization.
        level: feature map of the dense protocols; -1 is the last one.
        name: name in the results.
        batch_size: images per forward pass.
        precision: "auto", "bf16" or "fp32".
        device: device of the network; "auto" takes a GPU if there is one.
        heads: "composition_head" and "decomposition_head", if they were trained with the encoder.
        cache_dir: folder that keeps the features for later processes.

    Raises:
        ValueError: if the network is 3D, has no such level, has a number of channels other than that of the means, or
            the device does not exist.

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
        self.device = resolve_device(device)
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
        """Load an encoder that ``save_encoder`` wrote, with the size, normalization and heads of its record.

        Args:
            folder: the encoder's folder.
            settings: further arguments of :class:`FrozenEncoder`; they override the record.
        """
        record = read_encoder_record(folder)
        place = Path(folder)
        own = {"image_size": record.image_size[0], "mean": record.mean, "std": record.std, "name": place.name}
        own["heads"] = load_heads(place if place.is_dir() else place.parent)
        return cls(load_encoder(folder), **{**own, **settings})

    @classmethod
    def of(cls, encoder: Backbone | FrozenEncoder) -> FrozenEncoder:
        """Return the encoder itself, or wrap a backbone with the default settings."""
        return encoder if isinstance(encoder, FrozenEncoder) else cls(encoder)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that change the features."""
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
        """Pixels that the dense map covers: more than ``image_size`` if the network pads to whole cells."""
        stride = self.backbone.strides[self.level]
        return self.grid[0] * stride, self.grid[1] * stride

    def check_grid(self, smallest: int) -> None:
        """Check that the dense map has enough cells.

        Args:
            smallest: smallest number of cells per side.

        Raises:
            SmallMapError: if it has fewer.
        """
        if min(self.grid) < smallest:
            raise SmallMapError(
                f"the encoder's map must have at least {smallest} x {smallest} cells, got {self.grid[0]} x "
                f"{self.grid[1]} at image_size={self.image_size} and level={self.level} (stride "
                f"{self.backbone.strides[self.level]}); take a larger image_size or a finer level, such as -2"
            )

    def random(self, seed: int = 0) -> FrozenEncoder:
        """Create the same architecture with random weights and the same settings, without heads.

        Args:
            seed: random seed of the weights.
        """
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

    def apply_head(
        self, name: str, features: NDArray[np.float64], parts: int
    ) -> tuple[NDArray[np.float64] | None, list[str]]:
        """Apply a head that was trained with the encoder.

        Args:
            name: "composition_head" or "decomposition_head".
            features: embeddings, as the head expects them.
            parts: number of parts that the protocol uses.

        Returns:
            The output; None without such a head, or, with a note, if the head is for another number of parts.
        """
        head = self.heads.get(name)
        if head is None:
            return None, []
        if head.num_parts != parts:
            return None, [f"The {name} is for {head.num_parts} parts, not for {parts}, and is not used."]
        with torch.no_grad():
            return head(torch.as_tensor(features, dtype=torch.float32)).double().numpy(), []

    def prepare(self, items: Items, changes: Mapping[str, Change | None]) -> None:
        """Compute embeddings and dense maps under several changes. Each image is read once for all of them.

        Args:
            items: N datalist items.
            changes: variant -> change, as for :meth:`embeddings` and :meth:`feature_maps`; variant "" has no change.
        """
        stores = self._store("embeddings"), self._store(f"maps{self.level}")
        files = {image_key(item[IMAGE]): item for item in items}
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
        """Compute the mean over the cells of the last map, for each image.

        Args:
            items: N datalist items.
            change: applied to each batch before normalization.
            variant: name of the change in the cache.

        Returns:
            (N, D)
        """
        return self._images(items, "embeddings", change, variant, lambda x: self._maps(x, -1).mean(dim=(2, 3)))

    def feature_maps(self, items: Items, change: Change | None = None, variant: str = "") -> Floats:
        """Compute the dense map of each image.

        Args:
            items: N datalist items. Pass a few at a time if N is large.
            change: applied to each batch before normalization.
            variant: name of the change in the cache.

        Returns:
            (N, D, h, w)
        """
        return self._images(items, f"maps{self.level}", change, variant, self._maps)

    def mean_feature(self, items: Items) -> NDArray[np.float64]:
        """Compute the mean of the dense maps over all images and cells, (D,), batch by batch.

        Raises:
            CollapsedFeaturesError: if all features are equal.
        """
        total, square, largest = np.zeros(1), np.zeros(1), 0.0
        for start in range(0, len(items), self.batch_size):
            maps = self.feature_maps(items[start : start + self.batch_size]).astype(np.float64)
            total = total + maps.mean(axis=(2, 3)).sum(axis=0)
            square = square + np.square(maps).mean(axis=(2, 3)).sum(axis=0)
            largest = max(largest, float(np.abs(maps).max()))
        mean, square = total / len(items), square / len(items)
        check_spread(float(np.sqrt(np.maximum(square - np.square(mean), 0).max())), largest)
        return mean

    def window_embeddings(self, items: Items, boxes: ArrayLike) -> Floats:
        """Compute the embeddings of windows, each resized to the network's input.

        Args:
            items: N datalist items.
            boxes: (N, W, 4) top, left, height, width in pixels of the stored image.

        Returns:
            (N, W, D)
        """
        places = np.asarray(boxes, dtype=np.int64)
        store = self._store(f"windows{places.shape[1]}")
        keys = [
            f"{image_key(item[IMAGE])} {hashlib.blake2b(place.tobytes(), digest_size=12).hexdigest()}"
            for item, place in zip(items, places, strict=True)
        ]

        def compute(waiting: set[str]) -> None:
            for key, item, place in zip(keys, items, places, strict=True):
                if key in waiting:
                    windows = cut_windows(read_radiograph(item[IMAGE]).pixels, place, self.image_size)
                    parts = [self._maps(part, -1).mean(dim=(2, 3)) for part in windows.split(self.batch_size)]
                    store.append(key, torch.cat(parts).numpy())
                    waiting.discard(key)

        return _read(store, keys, compute)

    def _images(
        self, items: Items, kind: str, change: Change | None, variant: str, features: Callable[[Tensor], Tensor]
    ) -> Floats:
        store = self._store(kind)
        keys = [_variant(variant, image_key(item[IMAGE])) for item in items]

        def compute(waiting: set[str]) -> None:
            todo = {key: item for key, item in zip(keys, items, strict=True) if key in waiting}
            if kind == "embeddings":
                self._pool_known_maps(store, todo)
            for part, images in self._batches(todo):
                changed = images if change is None else change(images)
                for key, array in zip(part, features(changed).numpy(), strict=True):
                    store.append(key, array)

        return _read(store, keys, compute)

    def _pool_known_maps(self, store: FeatureStore, todo: dict[str, Mapping[str, Any]]) -> None:
        """Take embeddings from last maps in the cache, and remove their images from ``todo``."""
        maps = self._store("maps-1")
        for key in sorted(set(todo) - set(maps.missing(list(todo)))):
            try:
                store.append(key, maps.read([key])[0].mean(axis=(1, 2)))
            except DamagedFeaturesError:
                continue
            del todo[key]

    def _batches(self, items: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[list[str], Tensor]]:
        """Yield images (B, 1, S, S) in [0, 1] with their keys, batch by batch."""
        chain = self._chain
        keys = list(items)
        for start in range(0, len(keys), self.batch_size):
            part = keys[start : start + self.batch_size]
            images = [transform_item(chain, {IMAGE: items[key][IMAGE]})[IMAGE] for key in part]
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
        """Hash everything besides the image that determines a feature."""
        backbone, dtype = self.backbone, autocast_dtype(self.precision, self.device)
        digest = hashlib.blake2b(digest_size=12)
        digest.update(f"{__version__} {type(backbone).__qualname__} {backbone.config} {self.settings} {dtype}".encode())
        for name, tensor in backbone.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def resolve_device(device: str | torch.device) -> torch.device:
    """Return a torch device.

    Args:
        device: name of a device; "auto" takes a GPU if there is one, else the CPU.

    Raises:
        ValueError: if the name is unknown or there is no such device.

    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {str(device)!r}") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device must be one that torch finds here, got {str(device)!r}; take 'cpu'")
    return found


def _read(store: FeatureStore, keys: Sequence[str], compute: Callable[[set[str]], None]) -> Floats:
    """Read features after computing those that are missing or damaged."""
    for trial in range(_TRIES):
        waiting = set(store.missing(keys))
        if waiting:
            compute(waiting)
            store.flush()
        try:
            return store.read(keys)
        except DamagedFeaturesError as error:
            if trial == _TRIES - 1:
                raise OSError(f"{error} each time they are written; check the disk") from error
            logger.warning(f"{error} and are computed again")
    raise AssertionError("unreachable")


def _variant(name: str, file: str) -> str:
    """Key of the features of a file under a change."""
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
    """Create the same architecture with random weights.

    The network is built from its configuration. A wrapped network of another library has none: it is copied, and every
    layer is initialized again.

    Args:
        backbone: the network.
        seed: random seed of the weights.
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
