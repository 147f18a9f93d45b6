"""Few-shot segmentation."""

from __future__ import annotations

import copy
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss, DiceLoss
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.splits import check_splits, take_shots
from monai_anat.evaluation.augmentation import augment_batch
from monai_anat.evaluation.bootstrap import PatientBootstrap, nan_mean
from monai_anat.evaluation.cases import SegmentationCases, load_cases
from monai_anat.evaluation.frozen_encoder import random_backbone
from monai_anat.evaluation.mask_scores import dice_by_structure, hd95_by_structure, structure_masks
from monai_anat.evaluation.pseudonyms import Pseudonyms
from monai_anat.files import replace_file, write_text_atomically
from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import IMAGE
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.heads.decoders import EncoderDecoder, UPerNetDecoder
from monai_anat.precision import autocast_dtype
from monai_anat.schedules import cosine, linear
from monai_anat.seeding import mix

__all__ = ["FewShotSegmentation"]

logger = logging.getLogger(__name__)

_RESAMPLES = 4000  # of the difference between arms

Datalist = Sequence[Mapping[str, Any]]
EncoderFactory = Callable[[], Backbone]


@dataclass(frozen=True)
class _Trial:
    """Dice by image and structure of one fine-tuned network on both splits, and its test masks."""

    validation: NDArray[np.float64]
    test: NDArray[np.float64]
    masks: NDArray[np.uint8]


@dataclass
class FewShotSegmentation:
    """Fine-tuning on a few labeled images, in several draws, from several starting points, on equal terms.

    Every arm (pre-trained, from scratch, ...) gets the same images in the same order with the same augmentation and the
    same initial decoder, for the same number of steps, with the same grid of learning rates. The rate of an arm is the
    one with the best mean Dice on the validation patients. Test patients are evaluated with that rate only. Arms are
    then compared draw by draw and patient by patient.

    ``hd95`` is the 95th percentile Hausdorff distance in pixels of the network's square input, in which rows and
    columns of a non-square image have different lengths. ``hd95_mm`` is in millimeters, if the file has a spacing. A
    structure that is in the ground truth and not in the prediction gets the image diagonal.

    The draws of 3 images are contained in the draws of 6 (Adam, arXiv:2309.15358, has 3, 6, 12, 24). Validation and
    test stay complete. Training uses AdamW with warm-up and cosine decay, soft Dice plus cross-entropy (MONAI's
    ``DiceCELoss``), and gradient clipping at norm 1.

    Args:
        shots: labeled images per draw.
        seeds: random seeds, one draw each.
        image_size: side in pixels of the square to which images are resized.
        steps: optimizer steps per network.
        learning_rates: the grid.
        encoder_lr_scale: learning rate of the encoder relative to the decoder's, the same in every arm.
        selection_seeds: number of draws, from the first, that choose the learning rate; None takes all.
        batch_size: images per step. Fewer shots are repeated with different augmentation.
        warmup: fraction of the steps in the warm-up.
        weight_decay: of AdamW, on matrices only.
        class_names: names of the classes; the first is the background.
        frozen: train the decoder only.
        overlapping: labels are bit masks (1 the first structure, 2 the second, 4 the third, ...) of structures that may
            overlap. Each structure gets a sigmoid of its own.
        label_key: key of the mask in the items.
        decoder_features: channels of the UPerNet decoder.
        augmentation: arguments of :func:`augment_batch` that differ from its light defaults.
        mean: mean of the normalization of the encoder, one number or one per channel.
        std: standard deviation of that normalization.
        precision: "auto" (bf16 if the hardware supports it), "bf16" or "fp32".
        device: where to compute; "auto" takes a GPU if there is one.
        output_dir: folder for ``few_shot.json`` and ``few_shot_masks.npz``; None writes none. Images appear there by
            their position in the lists ("test 17"), not by file name.
        progress: show a progress bar.

    >>> protocol = FewShotSegmentation(shots=3, seeds=(0, 1), steps=100)
    >>> protocol.steps
    100
    """

    shots: int = 3
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    image_size: int = 112
    steps: int = 150
    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3)
    encoder_lr_scale: float = 1.0
    selection_seeds: int | None = None
    batch_size: int = 3
    warmup: float = 0.1
    weight_decay: float = 0.05
    class_names: Sequence[str] = ("background", "right lung", "left lung")
    frozen: bool = False
    overlapping: bool = False
    label_key: str = "label"
    decoder_features: int = 64
    augmentation: Mapping[str, float] = field(default_factory=dict)
    mean: float | Sequence[float] = CHEST_MEAN
    std: float | Sequence[float] = CHEST_STD
    precision: str = "auto"
    device: str | torch.device = "cpu"
    output_dir: str | os.PathLike[str] | None = None
    progress: bool = True
    _loss: nn.Module = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be different numbers, at least one, got {list(self.seeds)}")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise ValueError(f"learning_rates must be positive, at least one, got {list(self.learning_rates)}")
        if min(self.steps, self.shots, self.batch_size) < 1:
            raise ValueError(
                "steps, shots and batch_size must be at least 1, "
                f"got steps={self.steps}, shots={self.shots}, batch_size={self.batch_size}"
            )
        self._loss = _OverlappingLoss() if self.overlapping else DiceCELoss(to_onehot_y=True, softmax=True)

    def run(self, encoder: Backbone, training: Datalist, validation: Datalist, test: Datalist) -> dict[str, Any]:
        """Compare an encoder with its own architecture from scratch.

        Args:
            encoder: the pre-trained encoder; it is copied.
            training: items ``{"image", "label", "patient"}`` to draw the shots from.
            validation: items for the choice of the learning rate.
            test: items to report.

        Returns:
            The result of :meth:`compare`, with the arms "pre-trained" and "scratch".
        """
        arms: dict[str, EncoderFactory] = {
            "pre-trained": lambda: copy.deepcopy(encoder),
            "scratch": lambda: _from_scratch(encoder),
        }
        return self.compare(arms, training, validation, test)

    def compare(
        self, arms: Mapping[str, EncoderFactory], training: Datalist, validation: Datalist, test: Datalist
    ) -> dict[str, Any]:
        """Fine-tune every arm on every draw with every learning rate, and report the chosen rates.

        Args:
            arms: name -> function that creates the encoder; it is called once per draw, with a random state of its own.
            training: items to draw the shots from.
            validation: items for the choice of the learning rate.
            test: items to report.

        Returns:
            ``protocol`` (the settings), ``test_images``, ``draws`` (seed -> training files), ``arms`` (name ->
            ``learning_rate``, ``validation`` by rate, ``mean`` and ``std`` over draws, and per draw ``dice``, Dice by
            structure and ``lowest_structure``), ``difference`` (first arm minus each other arm: ``mean``, ``interval``
            over draws and test patients, ``confidence``, ``per_draw`` and ``draws_better``, the fraction of draws in
            which the first arm is ahead), ``seconds``.

        Raises:
            DatalistError: if a patient is in two of the lists, or masks show no structure or an unknown class.
            ValueError: if there are fewer training images than shots.
        """
        check_splits({"training": training, "validation": validation, "test": test})
        started = time.perf_counter()
        draws = {seed: take_shots(training, self.shots, seed) for seed in self.seeds}
        drawn = {str(item[IMAGE]): item for items in draws.values() for item in items}  # others are not read
        parts = {"training": list(drawn.values()), "validation": validation, "test": test}
        cases = {split: load_cases(items, self.image_size, self.label_key) for split, items in parts.items()}
        for split, found in cases.items():
            self.check_masks(split, found)
        names = dict(zip(drawn, cases["training"].names, strict=True))
        shots = {
            seed: cases["training"].take([names[str(item[IMAGE])] for item in items]) for seed, items in draws.items()
        }
        chosen, grid, trials = self._search(arms, shots, cases["validation"], cases["test"])
        result = self._result(chosen, grid, trials, shots, cases["test"])
        result["seconds"] = round(time.perf_counter() - started, 1)
        if self.output_dir is not None:
            names_of = Pseudonyms({"training": training, "validation": validation, "test": test})
            hidden = {
                **names_of.hide(result),
                "test_images": names_of.hide([str(item[IMAGE]) for item in test]),
                "draws": {
                    str(seed): names_of.hide([str(item[IMAGE]) for item in items]) for seed, items in draws.items()
                },
            }
            self._write(hidden, trials, cases["test"])
        return result

    def check_masks(self, split: str, cases: SegmentationCases) -> None:
        """Check the class numbers of masks.

        Args:
            split: name of the split.
            cases: its images and masks.

        Raises:
            DatalistError: if a mask has an unknown class number, or no mask shows any structure.
        """
        largest, structures = cases.labels.flatten(1).amax(dim=1), list(self.class_names[1:])
        allowed = 2 ** len(structures) - 1 if self.overlapping else len(structures)
        if int(largest.max()) > allowed:
            wanted = f"sums of the bits of {structures}" if self.overlapping else f"numbers of {list(self.class_names)}"
            further = "" if self.overlapping else ", or overlapping=True for sums of 1, 2, 4, ..."
            raise DatalistError(
                f"{split} masks must hold the {wanted}, 0 to {allowed}, got {int(largest.max())} in "
                f"{cases.names[int(largest.argmax())]}; write them so, or set class_names{further}"
            )
        if not any(bool(part.any()) for part in self._structures(cases.labels)):
            raise DatalistError(f"{split} masks must show at least one of {structures}, got none in {len(cases)} masks")

    def _search(
        self,
        arms: Mapping[str, EncoderFactory],
        shots: Mapping[int, SegmentationCases],
        validation: SegmentationCases,
        test: SegmentationCases,
    ) -> tuple[dict[str, float], dict[str, dict[float, float]], dict[str, dict[int, _Trial]]]:
        """Choose the rate of each arm.

        Returns:
            The rates, the validation Dice by rate, and the trials with the chosen rates.
        """
        seeds = list(self.seeds)
        selection = seeds[: self.selection_seeds] if self.selection_seeds else seeds
        total = len(arms) * (len(selection) * len(self.learning_rates) + len(seeds) - len(selection)) * self.steps
        bar = tqdm(total=total, desc="few-shot", unit="step", disable=not self.progress, mininterval=0.5)
        chosen, grid, kept = {}, {}, {}
        for name, make in arms.items():
            trials: dict[tuple[float, int], _Trial] = {}
            for rate in self.learning_rates:
                for seed in selection:
                    bar.set_postfix_str(f"{name}, lr {rate:g}, draw {seed}")
                    trials[rate, seed] = self._trial(make, shots[seed], validation, test, rate, seed, bar)
            grid[name] = {
                rate: float(np.mean([nan_mean(trials[rate, seed].validation) for seed in selection]))
                for rate in self.learning_rates
            }
            chosen[name] = max(grid[name], key=lambda rate: grid[name][rate])
            for seed in seeds[len(selection) :]:
                bar.set_postfix_str(f"{name}, draw {seed}")
                trials[chosen[name], seed] = self._trial(make, shots[seed], validation, test, chosen[name], seed, bar)
            kept[name] = {seed: trials[chosen[name], seed] for seed in seeds}
        bar.close()
        return chosen, grid, kept

    def _trial(
        self,
        make: EncoderFactory,
        shots: SegmentationCases,
        validation: SegmentationCases,
        test: SegmentationCases,
        rate: float,
        seed: int,
        bar: tqdm,
    ) -> _Trial:
        with torch.random.fork_rng(devices=[]):
            network = self._network(make, seed)
            self._fit(network, shots, rate, seed, bar)
        network.eval()
        scores, masks = self._score(network, test)
        return _Trial(self._score(network, validation)[0], scores, masks)

    def _network(self, make: EncoderFactory, seed: int) -> EncoderDecoder:
        """Create a network. The decoder of a draw starts the same in every arm."""
        torch.manual_seed(mix(11, seed) >> 1)
        encoder = make()
        torch.manual_seed(mix(12, seed) >> 1)
        outputs = len(self.class_names) - int(self.overlapping)
        decoder = UPerNetDecoder(encoder.channels, outputs, features=self.decoder_features)
        network = EncoderDecoder(encoder, decoder).to(self.device)
        network.backbone.requires_grad_(not self.frozen)
        return network

    def _fit(self, network: EncoderDecoder, shots: SegmentationCases, rate: float, seed: int, bar: tqdm) -> None:
        generator = torch.Generator().manual_seed(mix(13, seed) >> 1)
        torch.manual_seed(mix(14, seed) >> 1)  # dropout
        images, labels = shots.images.to(self.device), shots.labels.to(self.device)
        optimizer = torch.optim.AdamW(self._groups(network, rate))
        network.train()
        network.backbone.train(not self.frozen)  # keeps the statistics of batch normalization, too
        warmup = max(1, round(self.warmup * self.steps))
        order = _endless_order(len(images), self.batch_size, self.steps, generator)
        for step, indices in enumerate(order):
            rising = linear(step + 1, warmup, 0.0, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * rising * cosine(step - warmup, self.steps - warmup, 1.0, 0.0)
            batch, truth = augment_batch(images[indices], labels[indices], generator, **self.augmentation)
            target = (
                structure_masks(truth, len(self.class_names), overlapping=True) if self.overlapping else truth[:, None]
            )
            loss = self._loss(self._logits(network, batch), target.long())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            bar.update()

    def _groups(self, network: EncoderDecoder, rate: float) -> list[dict[str, Any]]:
        """Group the parameters of encoder (unless frozen) and decoder; no weight decay on norms and biases."""
        groups = []
        parts = [(network.backbone, self.encoder_lr_scale)] * (not self.frozen) + [(network.decoder, 1.0)]
        for part, scale in parts:
            for decayed in (True, False):
                parameters = [parameter for parameter in part.parameters() if (parameter.ndim > 1) == decayed]
                decay = self.weight_decay if decayed else 0.0
                groups.append({"params": parameters, "weight_decay": decay, "lr": rate * scale, "base": rate * scale})
        return groups

    def _logits(self, network: EncoderDecoder, images: Tensor) -> Tensor:
        device = torch.device(self.device)
        dtype = autocast_dtype(self.precision, device)
        mean, std = (torch.as_tensor(value, device=device).reshape(1, -1, 1, 1) for value in (self.mean, self.std))
        gray = images.expand(-1, network.backbone.in_channels, -1, -1)
        normal = (gray - mean) / std  # channels_last is no faster here, and seven times slower in fp32
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            logits: Tensor = network(normal)
        return logits.float()

    @torch.no_grad()
    def _score(
        self, network: EncoderDecoder, cases: SegmentationCases
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Compute Dice (images, structures), NaN if the ground truth is empty, and the masks (images, S, S)."""
        parts = [self._masks(self._logits(network, images.to(self.device))).cpu() for images in cases.images.split(16)]
        masks = torch.cat(parts)
        return dice_by_structure(*self._structures(masks, cases.labels)), masks.numpy().astype(np.uint8)

    def _masks(self, logits: Tensor) -> Tensor:
        """Convert logits to class numbers, or bits, (B, S, S)."""
        if not self.overlapping:
            return logits.argmax(1)
        bits = 2 ** torch.arange(logits.shape[1], device=logits.device)
        return ((logits > 0) * bits[:, None, None]).sum(dim=1)

    def _structures(self, *masks: Tensor) -> tuple[Tensor, ...]:
        return tuple(structure_masks(mask, len(self.class_names), overlapping=self.overlapping) for mask in masks)

    def _result(
        self,
        chosen: Mapping[str, float],
        grid: Mapping[str, Mapping[float, float]],
        trials: Mapping[str, Mapping[int, _Trial]],
        shots: Mapping[int, SegmentationCases],
        test: SegmentationCases,
    ) -> dict[str, Any]:
        structures = list(self.class_names[1:])
        arms: dict[str, Any] = {}
        for name, by_seed in trials.items():
            draws: list[dict[str, Any]] = []
            for seed, trial in by_seed.items():
                means = nan_mean(trial.test, axis=0)
                masks, truth = self._structures(torch.as_tensor(trial.masks), test.labels)
                distances, in_mm = (hd95_by_structure(masks, truth, unit) for unit in (None, test.spacings))
                draws.append(
                    {
                        "seed": seed,
                        "dice": float(nan_mean(nan_mean(trial.test, axis=1))),
                        **dict(zip(structures, _json(means), strict=True)),
                        "lowest_structure": float(np.nanmin(means)),
                        "dice_by_image": _json(nan_mean(trial.test, axis=1)),
                        "hd95": dict(zip(structures, _json(nan_mean(distances, axis=0)), strict=True)),
                        "by_structure": {
                            structure: {
                                "dice": _json(trial.test[:, index]),
                                "hd95": _json(distances[:, index]),
                                "hd95_mm": _json(in_mm[:, index]),
                            }
                            for index, structure in enumerate(structures)
                        },
                    }
                )
            dice = [draw["dice"] for draw in draws]
            arms[name] = {
                "learning_rate": chosen[name],
                "validation": {f"{rate:g}": value for rate, value in grid[name].items()},
                "mean": float(np.mean(dice)),
                "std": float(np.std(dice, ddof=1)) if len(dice) > 1 else 0.0,
                "draws": draws,
            }
        by_image = {
            name: [nan_mean(trial.test, axis=1) for trial in by_seed.values()] for name, by_seed in trials.items()
        }
        first, *others = trials
        return {
            "protocol": self._settings(),
            "test_images": list(test.names),
            "draws": {str(seed): list(cases.names) for seed, cases in shots.items()},
            "arms": arms,
            "difference": {
                f"{first} - {other}": _difference(by_image[first], by_image[other], test.patients) for other in others
            },
        }

    def _settings(self) -> dict[str, Any]:
        names = (
            "shots seeds image_size steps learning_rates encoder_lr_scale selection_seeds batch_size warmup "
            "weight_decay class_names frozen overlapping decoder_features augmentation mean std precision"
        )
        settings = {name: getattr(self, name) for name in names.split()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}

    def _write(
        self,
        result: Mapping[str, Any],
        trials: Mapping[str, Mapping[int, _Trial]],
        test: SegmentationCases,
    ) -> None:
        """Write result and masks."""
        folder = Path(str(self.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps(result, indent=1)
        write_text_atomically(folder / "few_shot.json", content + "\n")
        arrays: dict[str, Any] = {
            f"{name}/{seed}": trial.masks for name, by_seed in trials.items() for seed, trial in by_seed.items()
        }
        arrays["images"] = np.round(test.images[:, 0].numpy() * 255).astype(np.uint8)
        arrays["labels"] = test.labels.numpy()
        with replace_file(folder / "few_shot_masks.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        logger.info(f"Few-shot result and test masks are in {folder}")


def _difference(
    first: Sequence[NDArray[np.float64]], second: Sequence[NDArray[np.float64]], patients: Sequence[str]
) -> dict[str, Any]:
    """Difference of two arms on the same draws and patients, with its interval over both."""
    difference = np.stack(first) - np.stack(second)  # (draws, images)
    bootstrap = PatientBootstrap(patients, resamples=_RESAMPLES)
    metric = bootstrap.draw_mean(difference)
    per_draw = [bootstrap.mean(row).value for row in difference]
    return {
        "mean": metric.value,
        "interval": None if metric.low is None else [metric.low, metric.high],
        "confidence": bootstrap.confidence,
        "per_draw": per_draw,
        "draws_better": float(np.mean([value is not None and value > 0 for value in per_draw])),
    }


class _OverlappingLoss(nn.Module):
    """Soft Dice plus binary cross-entropy with one sigmoid per structure."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(sigmoid=True)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = self.dice(logits, target) + F.binary_cross_entropy_with_logits(logits, target.to(logits))
        return loss


def _from_scratch(encoder: Backbone) -> Backbone:
    """Create the architecture with random weights; a wrapped network has no configuration to build it from."""
    if encoder.config:
        return type(encoder)(**encoder.config)
    return random_backbone(encoder, int(torch.randint(2**31, ()))).requires_grad_(True)


def _json(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _endless_order(count: int, batch_size: int, steps: int, generator: torch.Generator) -> list[list[int]]:
    """Indices of each step: every image equally often, in a new order in each round."""
    rounds = -(-batch_size * steps // count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(rounds)]).tolist()
    return [order[step * batch_size : (step + 1) * batch_size] for step in range(steps)]
