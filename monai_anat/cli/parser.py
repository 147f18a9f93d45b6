"""Arguments of the command line, one function per verb."""

from __future__ import annotations

import argparse
import json
from typing import TypeAlias

from monai_anat.cli.choices import ARCHITECTURES, FAMILIES, PROTOCOLS, PUBLIC_SETS

__all__ = ["build_parser"]

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all verbs. Each verb names its function in ``run``, as ``module.function`` of this package.

    >>> build_parser().parse_args(["demo"]).run
    'verbs.demo'
    """
    parser = argparse.ArgumentParser(
        "monai-anat", description="Self-supervised learning of human anatomy from medical images."
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs: Verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_prepare(verbs)
    _add_pretrain(verbs)
    _add_embed(verbs)
    _add_evaluate(verbs)
    _add_convert(verbs)
    _add_verify(verbs)
    _add_demo(verbs)
    return parser


def _add_prepare(verbs: Verbs) -> None:
    prepare = verbs.add_parser("prepare", help="prepare a folder of radiographs for training")
    prepare.add_argument("source", help="folder or datalist")
    prepare.add_argument("out", help="output folder for shards, datalist and reports")
    prepare.add_argument("--size", type=int, default=608, help="length of the short side in pixels")
    prepare.add_argument("--view", default="frontal", help="views to keep: frontal, lateral or any")
    prepare.add_argument("--public-set", choices=PUBLIC_SETS, help="read the tables and folders of a public data set")
    prepare.add_argument(
        "--splits", type=_shares, help="shares of patients, such as training=0.8,validation=0.1,test=0.1"
    )
    prepare.add_argument("--stratify", choices=("view", "kind", "label"), help="balance this property over the splits")
    prepare.add_argument("--seed", type=int, default=0, help="random seed of the splits")
    prepare.add_argument("--patient-pattern", help="regular expression that matches the patient in a file name")
    prepare.add_argument("--key-file", help="file with the key of the patient hashes; keep it private")
    prepare.add_argument("--workers", type=int, default=1, help="number of worker processes; 0 decodes in this one")
    prepare.add_argument("--time-limit", type=float, default=60.0, help="seconds that one file may take")
    prepare.set_defaults(run="verbs.prepare")


def _add_pretrain(verbs: Verbs) -> None:
    pretrain = verbs.add_parser(
        "pretrain", help="run a pre-training bundle; further --key value pairs override its settings"
    )
    pretrain.add_argument("method", help="method, such as peac or popar")
    pretrain.add_argument(
        "--variant",
        action="append",
        default=[],
        help="further file of the bundle's configs/, such as cpu_demo; repeatable",
    )
    pretrain.add_argument(
        "--processes", type=int, default=1, help="number of processes on this machine, started by torchrun"
    )
    pretrain.set_defaults(run="bundles.pretrain")


def _add_embed(verbs: Verbs) -> None:
    embed = verbs.add_parser("embed", help="write the embedding of every image")
    embed.add_argument("encoder", help="encoder folder written by pretrain or convert")
    embed.add_argument("source", help="folder, datalist or prepared folder")
    embed.add_argument("out", help="output folder for the embeddings")
    embed.add_argument("--section", default="training", help="section of the datalist")
    embed.add_argument("--patches", action="store_true", help="also write one embedding per patch")
    embed.add_argument("--form", choices=("npy", "parquet"), default="npy")
    embed.add_argument("--batch-size", type=int, default=16, help="number of images per forward pass")
    embed.add_argument("--device", help="torch device, such as cuda:1; default: a GPU if there is one")
    embed.set_defaults(run="verbs.embed")


def _add_convert(verbs: Verbs) -> None:
    convert = verbs.add_parser("convert", help="convert a published checkpoint to an encoder folder")
    convert.add_argument("checkpoint", help="checkpoint file, obtained from its owner")
    convert.add_argument("out", help="output folder for the encoder")
    convert.add_argument("--architecture", default="swin_b", choices=ARCHITECTURES)
    convert.add_argument(
        "--family", default="auto", choices=("auto", *FAMILIES), help="family of weights that the file belongs to"
    )
    convert.add_argument(
        "--branch", choices=("student", "teacher"), help="branch to convert; default: the one that the authors use"
    )
    convert.add_argument(
        "--normalization",
        metavar="NAME|MEAN,STD",
        help="statistics of the file's training images: imagenet, half, radiograph, unchanged or MEAN,STD; "
        "default: those of the configuration beside the file or of its family",
    )
    convert.set_defaults(run="verbs.convert")


def _add_verify(verbs: Verbs) -> None:
    verify = verbs.add_parser("verify", help="check a prepared folder against its checksums")
    verify.add_argument("folder", help="folder that prepare wrote")
    verify.set_defaults(run="verbs.verify")


def _add_demo(verbs: Verbs) -> None:
    demo = verbs.add_parser("demo", help="pre-train, segment and report on the shipped radiographs, in minutes")
    demo.add_argument("out", nargs="?", default="out/demo", help="output folder")
    demo.set_defaults(run="verbs.demo")


def _add_evaluate(verbs: Verbs) -> None:
    evaluate = verbs.add_parser("evaluate", help="evaluate an encoder, or compare several")
    evaluate.add_argument(
        "encoders", nargs="+", help="encoder folder written by pretrain or convert; give several to compare them"
    )
    evaluate.add_argument("--data", required=True, help="datalist with masks, landmarks or labels")
    known = ", ".join(PROTOCOLS)
    every = f"all (the default: every protocol that the data allow, except few-shot), or some of {known}"
    evaluate.add_argument("--protocols", nargs="+", default=["all"], help=every)
    evaluate.add_argument(
        "--set",
        action="append",
        default=[],
        type=_option,
        metavar="PROTOCOL.ARGUMENT=VALUE",
        help="set an argument of a protocol, or of the encoder (encoder.level=-2); repeatable",
    )
    evaluate.add_argument("--section", default="test", help="section of the datalist that is reported")
    evaluate.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")
    evaluate.add_argument(
        "--outside",
        choices=("never", "absolute", "always"),
        default="absolute",
        help="paths outside its folder that the datalist may name; always allows ../ as well",
    )
    evaluate.add_argument("--cache", help="folder that caches the features for later evaluations")
    evaluate.add_argument("--out", default="out/evaluation", help="output folder for the results")
    evaluate.set_defaults(run="verbs.evaluate")


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
