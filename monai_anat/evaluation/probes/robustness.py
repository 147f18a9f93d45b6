"""Robustness probe: embeddings under geometric and intensity changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.features import centered, unit
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.frozen_protocol import FrozenProtocol
from monai_anat.evaluation.metric import Better, Metrics
from monai_anat.evaluation.patients import Items, other_patient
from monai_anat.evaluation.protocol import Measured, three_cases
from monai_anat.keys import IMAGE

__all__ = ["RobustnessProbe", "change_intensity", "move_images"]

Floats = NDArray[np.float64]


class Motion(NamedTuple):
    """Arguments of :func:`move_images`."""

    degrees: float = 0.0
    shift: float = 0.0
    scale: float = 1.0


@dataclass(kw_only=True)
class RobustnessProbe(FrozenProtocol):
    """Embeddings and dense features before and after a shift, rotation, scaling, intensity change, or noise.

    For every change: the centered cosine of the two embeddings of an image, the same for two different patients
    (``control``), and the fraction of images whose changed version is most similar to themselves among all
    (``identification``). For dense features, each cell of the changed image searches its place in the original one:
    ``dense_hit`` is the fraction found within ``radius``, ``dense_error`` the distance in image sides. The baseline of
    the dense scores is the same position, which is perfect without motion and wrong by the motion otherwise.

    Args:
        radius: distance in image sides up to which a cell counts as found; independent of the resolution of the map.
        shifts: shifts down and to the right, as fractions of the image side.
        degrees: rotations in degrees.
        scales: factors of enlargement about the image center.
        gammas: exponents of the intensity, as log2.
        noises: standard deviations of Gaussian noise, for intensities in [0, 1].

    >>> RobustnessProbe(degrees=(5.0,)).name
    'robustness'
    """

    least_grid: ClassVar[int] = 4
    name: ClassVar[str] = "robustness"
    kinds: ClassVar[dict[str, tuple[Better, str]]] = {
        "cosine": ("higher", "cosine"),
        "control": (None, "cosine"),
        "identification": ("higher", "share"),
        "dense_hit": ("higher", "share"),
        "dense_error": ("lower", "image sides"),
    }

    radius: float = 0.05
    shifts: tuple[float, ...] = (0.1, 0.2)
    degrees: tuple[float, ...] = (5.0, 10.0)
    scales: tuple[float, ...] = (0.8, 1.2)
    gammas: tuple[float, ...] = (-0.5, 0.5)
    noises: tuple[float, ...] = (0.05, 0.1)

    def measure(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Compute the scores for each change."""
        changes = self._changes()
        encoder.prepare(items, {"": None} | {name: change for name, (change, _) in changes.items()})
        mean = encoder.mean_feature(items)
        plain = encoder.embeddings(items).astype(np.float64)
        centered(plain)
        partner = other_patient(bootstrap.patient_of, self.seed)
        values: dict[str, Floats] = {}
        for name, (change, motion) in changes.items():
            changed = encoder.embeddings(items, change, name).astype(np.float64)
            pairs = unit(changed - plain.mean(axis=0)) @ unit(plain - plain.mean(axis=0)).T
            values[f"cosine/{name}"] = pairs.diagonal()
            values[f"control/{name}"] = pairs[np.arange(len(items)), partner]
            values[f"identification/{name}"] = pairs.argmax(axis=1) == np.arange(len(items))
            values[f"dense_hit/{name}"], values[f"dense_error/{name}"] = self._dense(
                encoder, items, change, name, motion, mean
            )
        values = _with_means(values)

        def describe(index: int) -> dict[str, Any]:
            hits = {name: float(value[index]) for name, value in values.items() if name.startswith("dense_hit/")}
            return {"image": str(items[index][IMAGE]), "dense_hit": hits}

        return Measured(self.means(bootstrap, values), three_cases(values["dense_hit"], "higher", describe))

    def baselines(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> dict[str, Metrics]:
        """Take the same position in the original image."""
        values: dict[str, Floats] = {}
        for name, (_, motion) in self._changes().items():
            here, origin, inside = _origins(encoder, motion)
            hit, error = _closeness(here[inside][None], origin[inside], self.radius)
            values[f"dense_hit/{name}"] = hit.repeat(len(items))
            values[f"dense_error/{name}"] = error.repeat(len(items))
        return {"same position": self.means(bootstrap, _with_means(values))}

    def _changes(self) -> dict[str, tuple[Callable[[Tensor], Tensor], Motion]]:
        """Map names to changes of a batch and their motions. Names contain all parameters, as keys of the cache."""
        motions = {f"shift {shift:g}": Motion(shift=shift) for shift in self.shifts}
        motions |= {f"rotation {angle:g}": Motion(degrees=angle) for angle in self.degrees}
        motions |= {f"scale {scale:g}": Motion(scale=scale) for scale in self.scales}
        changes: dict[str, tuple[Callable[[Tensor], Tensor], Motion]] = {
            name: (partial(move_images, **motion._asdict()), motion) for name, motion in motions.items()
        }
        for gamma in self.gammas:
            changes[f"gamma {gamma:+g}"] = partial(change_intensity, gamma=gamma), Motion()
        for noise in self.noises:
            changes[f"noise {noise:g}"] = partial(change_intensity, noise=noise), Motion()
        return changes

    def _dense(
        self,
        encoder: FrozenEncoder,
        items: Items,
        change: Callable[[Tensor], Tensor],
        name: str,
        motion: Motion,
        mean: Floats,
    ) -> tuple[Floats, Floats]:
        """Compute the fraction of cells found within the radius and the mean error of each image, (N,) each."""
        here, origin, inside = _origins(encoder, motion)
        hits, errors = [], []
        for start in range(0, len(items), encoder.batch_size):
            part = items[start : start + encoder.batch_size]
            both = []
            for maps in (encoder.feature_maps(part), encoder.feature_maps(part, change, name)):
                tokens = maps.reshape(*maps.shape[:2], -1).transpose(0, 2, 1).astype(np.float64) - mean
                both.append(unit(tokens))
            for original, changed in zip(*both, strict=True):
                best = (changed[inside] @ original.T).argmax(axis=1)
                hit, error = _closeness(here[best][None], origin[inside], self.radius)
                hits.append(hit[0])
                errors.append(error[0])
        return np.array(hits), np.array(errors)


def move_images(images: Tensor, degrees: float = 0.0, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    """Scale images and rotate them counter-clockwise about their center, then shift them down and to the right.

    Border pixels are repeated outside the image.

    Args:
        images: (B, 1, S, S).
        degrees: angle of rotation.
        shift: shift as a fraction of the side.
        scale: factor of enlargement.

    >>> image = torch.arange(4.0).reshape(1, 1, 2, 2)
    >>> move_images(image, shift=0.5)[0, 0]
    tensor([[0., 0.],
            [0., 0.]])
    """
    grid = F.affine_grid(
        _theta(Motion(degrees, shift, scale)).float().expand(len(images), -1, -1), list(images.shape), False
    )
    return F.grid_sample(images, grid.to(images), padding_mode="border", align_corners=False)


def change_intensity(images: Tensor, *, gamma: float = 0.0, noise: float = 0.0) -> Tensor:
    """Raise intensities in [0, 1] to the power of 2 ** gamma and add a fixed field of Gaussian noise.

    >>> change_intensity(torch.full((1, 1, 1, 1), 0.25), gamma=-1.0).item()
    0.5
    """
    field = torch.randn(images.shape[2:], generator=torch.Generator().manual_seed(0)).to(images)
    return (images.clamp(0, 1).pow(2.0**gamma) + noise * field).clamp(0, 1)


def _with_means(values: Mapping[str, Floats]) -> dict[str, Floats]:
    """Prepend the mean of each kind of score over all changes."""
    kinds = dict.fromkeys(name.split("/")[0] for name in values)
    means = {
        kind: np.mean([value for name, value in values.items() if name.startswith(f"{kind}/")], axis=0)
        for kind in kinds
    }
    return {**means, **values}


def _theta(motion: Motion) -> Tensor:
    """Affine map from places in the moved image to the original, in coordinates from -1 to 1, (1, 2, 3)."""
    angle = math.radians(motion.degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64) / motion.scale
    move = -turn @ torch.full((2, 1), 2 * motion.shift, dtype=torch.float64)
    return torch.cat([turn, move], dim=1)[None]


def _origins(encoder: FrozenEncoder, motion: Motion) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Compute where the content of each cell comes from.

    Returns:
        Cell centers and their origins in the original image, (h * w, 2) each, as fractions of the image side, and
        whether both are inside the image.
    """
    axes = [
        (np.arange(count) + 0.5) * extent / count / encoder.image_size
        for count, extent in zip(encoder.grid, encoder.extent, strict=True)
    ]
    here = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    theta = _theta(motion)[0].numpy()
    signed = 2 * here[:, ::-1] - 1  # (x, y) from -1 to 1
    origin = (signed @ theta[:, :2].T + theta[:, 2] + 1) / 2
    origin = origin[:, ::-1]
    return here, origin, ((origin >= 0) & (origin <= 1) & (here <= 1)).all(axis=1)


def _closeness(found: Floats, origin: Floats, radius: float) -> tuple[Floats, Floats]:
    """Fraction within the radius, and mean error, of found places (M, n, 2) against (n, 2), in image sides."""
    distance = np.linalg.norm(found - origin, axis=2)
    return (distance <= radius + 1e-9).mean(axis=1), distance.mean(axis=1)
