"""``python -m monai_anat VERB``: each verb is a few lines over public functions."""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from monai_anat import data, evaluation, networks
from monai_anat.data.preparation.prepare import PrepareProgress
from monai_anat.demo import bundle_command, run_demo
from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.networks.pretrained.key_maps import FAMILIES
from monai_anat.resources import bundle_names

__all__ = ["main"]

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; errors of use end in a sentence and exit code 2.

    Args:
        arguments: the words after ``python -m monai_anat``.

    Returns:
        The exit code.

    >>> main(["pretrain", "nothing"])
    2
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.verb != "pretrain":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options.rest = rest
    try:
        code: int | None = options.run(options)
    except (ValueError, OSError, RuntimeError) as error:
        if options.debug:
            raise
        logger.error(f"monai_anat {options.verb}: {error}")
        return 2
    except KeyboardInterrupt:
        logger.error(f"monai_anat {options.verb}: stopped by hand")
        return 130
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m monai_anat", description="Teach networks human anatomy from images.")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    prepare = verbs.add_parser("prepare", help="bring a disk of radiographs to a training set")
    prepare.add_argument("source", help="folder or datalist")
    prepare.add_argument("out", help="folder for shards, datalist and reports")
    prepare.add_argument("--size", type=int, default=608, help="short side in pixels")
    prepare.add_argument("--view", default="frontal", help="frontal, lateral or any")
    prepare.add_argument("--public-set", choices=sorted(data.PUBLIC_SETS), help="read the set's own tables and folders")
    prepare.add_argument(
        "--splits", type=_shares, help="shares by patient, such as training=0.8,validation=0.1,test=0.1"
    )
    prepare.add_argument("--stratify", choices=("view", "kind", "label"), help="keep its shares equal in all splits")
    prepare.add_argument("--seed", type=int, default=0, help="seed of the splits")
    prepare.add_argument("--patient-pattern", help="regular expression that finds the patient in a file name")
    prepare.add_argument("--key-file", help="key of the patient hashes; stays with you")
    prepare.add_argument("--workers", type=int, default=0, help="processes; 0 takes this one")
    prepare.set_defaults(run=_prepare)

    pretrain = verbs.add_parser("pretrain", help="run a pre-training bundle; further --key value pairs are passed on")
    pretrain.add_argument("method", help="peac, popar, ... (the middle of the bundle's name)")
    pretrain.add_argument("--variant", action="append", default=[], help="further file of its configs/; repeatable")
    pretrain.add_argument("--processes", type=int, default=1, help="processes on this machine, by torchrun")
    pretrain.set_defaults(run=_pretrain)

    embed = verbs.add_parser("embed", help="write the embedding of every image")
    embed.add_argument("encoder", help="folder that pre-training or convert wrote")
    embed.add_argument("source", help="folder, datalist or prepared folder")
    embed.add_argument("out", help="folder for the embeddings")
    embed.add_argument("--section", default="training", help="section of the datalist")
    embed.add_argument("--patches", action="store_true", help="also one embedding per patch")
    embed.add_argument("--form", choices=("npy", "parquet"), default="npy")
    embed.add_argument("--batch-size", type=int, default=16)
    embed.set_defaults(run=_embed)

    _add_evaluate(verbs)

    convert = verbs.add_parser("convert", help="bring a published checkpoint to an encoder folder")
    convert.add_argument("checkpoint", help="the file that you obtained from its owner")
    convert.add_argument("out", help="folder for the encoder")
    convert.add_argument("--architecture", default="swin_b", choices=sorted(_ARCHITECTURES))
    convert.add_argument("--family", default="auto", choices=("auto", *FAMILIES), help="who wrote the file")
    convert.add_argument("--branch", choices=("student", "teacher"), help="default: the one that its authors use")
    convert.set_defaults(run=_convert)

    demo = verbs.add_parser("demo", help="pre-train, segment and report on the shipped radiographs, in minutes")
    demo.add_argument("out", nargs="?", default="out/demo", help="folder for everything")
    demo.set_defaults(run=_demo)
    return parser


def _add_evaluate(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = verbs.add_parser("evaluate", help="measure what an encoder knows")
    evaluate.add_argument("encoders", nargs="+", help="folder that pre-training or convert wrote; several to compare")
    evaluate.add_argument(
        "--data", required=True, help="datalist: masks, landmarks or labels; training, validation, test"
    )
    known = ", ".join(evaluation.PROTOCOLS)
    every = f"all (the default: what the data allow, without few-shot), or some of {known}"
    evaluate.add_argument("--protocols", nargs="+", default=["all"], help=every)
    evaluate.add_argument(
        "--set",
        action="append",
        default=[],
        type=_option,
        metavar="PROTOCOL.ARGUMENT=VALUE",
        help="argument of a protocol, or of encoder (encoder.level=-2); repeatable",
    )
    evaluate.add_argument("--cache", help="folder that keeps the features for later evaluations")
    evaluate.add_argument("--out", default="out/evaluation", help="folder for the results")
    evaluate.set_defaults(run=_evaluate)


def _shares(text: str) -> dict[str, float]:
    """The value of ``--splits``: names and shares."""
    try:
        return {name: float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"must look like training=0.8,validation=0.2, got {text!r}") from None


def _option(text: str) -> tuple[str, str, object]:
    """The value of ``--set``: protocol, argument, and its value as JSON, or as the word that it is."""
    name, sign, value = text.partition("=")
    protocol, dot, argument = name.partition(".")
    if not (sign and dot and argument):
        raise argparse.ArgumentTypeError(f"must look like landmarks.max_sources=20, got {text!r}")
    try:
        return protocol, argument, json.loads(value)
    except json.JSONDecodeError:
        return protocol, argument, value


def _prepare(options: argparse.Namespace) -> None:
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
            on_progress=show,
        )
    logger.info(summary.text())


def _pretrain(options: argparse.Namespace) -> int:
    known = [name[4:-12] for name in bundle_names() if name.endswith("_pretraining")]
    if options.method not in known:
        raise ValueError(f"method must be one of {', '.join(known)}, got {options.method!r}")
    if options.processes < 1:
        raise ValueError(f"processes must be at least 1, got {options.processes}")
    pairs = dict(_passed_on(options.rest))
    command = bundle_command(f"cxr_{options.method}_pretraining", "train", *options.variant, **pairs)
    if options.processes > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={options.processes}"]
        command[1:1] = torchrun
    return subprocess.run(command, check=False).returncode


def _passed_on(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The pairs of ``--key value`` and ``--key=value``."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, sign, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not (sign or rest):
            raise ValueError(f"further arguments must be pairs of --key value, got {word!r} alone")
        yield key, value if sign else rest.pop(0)


def _embed(options: argparse.Namespace) -> None:
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
            on_progress=lambda progress: bar.update(progress.done - bar.n),
        )


def _evaluate(options: argparse.Namespace) -> None:
    settings: dict[str, dict[str, object]] = {}
    for protocol, argument, value in options.set:
        settings.setdefault(protocol, {})[argument] = value
    protocols = ",".join(options.protocols)
    further = {"options": settings, "cache_dir": options.cache}
    if len(options.encoders) > 1:
        logger.info(f"{evaluation.compare_encoders(options.encoders, options.data, options.out, protocols, **further)}")
        return
    evaluation.evaluate_encoder(options.encoders[0], options.data, options.out, protocols, **further)
    logger.info(f"results in {Path(options.out) / 'evaluation.json'}")


def _convert(options: argparse.Namespace) -> None:
    name, arguments, image_size = _ARCHITECTURES[options.architecture]
    backbone = getattr(networks, name)(**arguments)
    report = networks.load_backbone(backbone, options.checkpoint, options.family, branch=options.branch)
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


def _demo(options: argparse.Namespace) -> None:
    sys.stdout.write(run_demo(options.out) + "\n")


_SWIN_B = {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)}
_ARCHITECTURES: dict[str, tuple[str, dict[str, Any], int]] = {
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
