"""Verbs of the command line, each a few lines over public functions."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from monai_anat import data, evaluation, networks
from monai_anat.data.preparation.checksums import verify_prepared_folder
from monai_anat.data.preparation.prepare import PrepareProgress
from monai_anat.demo import run_demo
from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.networks.pretrained.families import FAMILIES

__all__ = ["ARCHITECTURES", "convert", "demo", "embed", "evaluate", "prepare", "verify"]

logger = logging.getLogger(__name__)


def prepare(options: argparse.Namespace) -> None:
    """Prepare radiographs for training."""
    source = data.PUBLIC_SETS[options.public_set](options.source) if options.public_set else options.source
    with tqdm(unit="file", desc="prepare") as bar:

        def show(progress: PrepareProgress) -> None:
            bar.total = progress.total
            bar.update(progress.done - bar.n)

        summary = data.prepare_radiographs(
            source,
            options.out,
            size=options.size,
            view=options.view,
            splits=options.splits,
            stratify=options.stratify,
            seed=options.seed,
            patient_pattern=options.patient_pattern,
            key_file=options.key_file,
            workers=options.workers,
            time_limit=options.time_limit,
            on_progress=show,
        )
    logger.info(summary.text())


def embed(options: argparse.Namespace) -> None:
    """Write the embedding of every image."""
    record = networks.read_encoder_record(options.encoder)
    chain = data.radiograph_preprocessing(record.image_size[0], mean=record.mean, std=record.std)
    items = data.load_datalist(options.source, options.section)
    with tqdm(total=len(items), unit="image", desc="embed") as bar:
        data.write_embeddings(
            networks.load_encoder(options.encoder),
            items,
            options.out,
            transform=chain,
            patches=options.patches,
            batch_size=options.batch_size,
            form=options.form,
            device=options.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            on_progress=lambda progress: bar.update(progress.done - bar.n),
        )


def evaluate(options: argparse.Namespace) -> None:
    """Evaluate one encoder, or compare several."""
    settings: dict[str, dict[str, object]] = {}
    for protocol, argument, value in options.set:
        settings.setdefault(protocol, {})[argument] = value
    protocols = ",".join(options.protocols)
    further = {
        "options": settings,
        "cache_dir": options.cache,
        "section": options.section,
        "device": options.device,
        "outside": options.outside,
    }
    if len(options.encoders) > 1:
        logger.info(f"{evaluation.compare_encoders(options.encoders, options.data, options.out, protocols, **further)}")
        return
    evaluation.evaluate_encoder(options.encoders[0], options.data, options.out, protocols, **further)
    logger.info(f"results in {Path(options.out) / 'evaluation.json'}")


def convert(options: argparse.Namespace) -> None:
    """Convert a published checkpoint to an encoder folder."""
    name, arguments, image_size = ARCHITECTURES[options.architecture]
    backbone = getattr(networks, name)(**arguments)
    report = networks.load_backbone(
        backbone, options.checkpoint, options.family, branch=options.branch, normalization=options.normalization
    )
    if report.norm_eps not in (None, backbone.config.get("norm_eps")):
        weights = backbone.state_dict()
        backbone = getattr(networks, name)(**arguments, norm_eps=report.norm_eps)
        backbone.load_state_dict(weights)
        logger.info(f"the encoder is written with norm_eps={report.norm_eps}")
    layout = FAMILIES[report.family]
    provenance = {
        "family": report.family,
        "branch": report.branch,
        "origin": layout.origin,
        "terms": layout.terms,
        "source": Path(report.source).name,
        "sha256": report.sha256,
    }
    networks.save_encoder(
        backbone, options.out, image_size=image_size, mean=CHEST_MEAN, std=CHEST_STD, provenance=provenance
    )
    logger.info(f"{len(report.loaded)} tensors in {options.out}, {len(report.dropped)} dropped (heads and constants)")


def verify(options: argparse.Namespace) -> None:
    """Check a prepared folder against its checksums."""
    count = verify_prepared_folder(options.folder)
    logger.info(f"{options.folder}: all {count} images are intact")


def demo(options: argparse.Namespace) -> None:
    """Run the demonstration and print its table."""
    sys.stdout.write(run_demo(options.out) + "\n")


_SWIN_B = {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], int]] = {
    "convnext_b": ("ConvNeXtBackbone", {}, 448),
    "convnext_t": ("ConvNeXtBackbone", {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768)}, 224),
    "resnet18": ("ResNetBackbone", {"depth": 18}, 224),
    "resnet18_expand": ("ResNetBackbone", {"depth": 18, "stem": "expand"}, 224),
    "resnet50": ("ResNetBackbone", {"depth": 50}, 224),
    "resnet50_expand": ("ResNetBackbone", {"depth": 50, "stem": "expand"}, 224),
    "swin_b": ("SwinBackbone", _SWIN_B, 448),
    "swin_t": ("SwinBackbone", {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)}, 224),
    "vit_b_16": ("ViTBackbone", {"class_token": True}, 224),
    "vit_b_32_448": ("ViTBackbone", {"image_size": 448, "patch_size": 32, "class_token": True}, 448),
}
