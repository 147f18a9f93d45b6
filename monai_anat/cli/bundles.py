"""Verbs that run a bundle as a process of its own."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from monai_anat.resources import bundle_command, bundle_names

__all__ = ["pretrain"]

#: overrides that are folders of the user, relative to the current folder
_FOLDERS = ("output_dir", "encoder_dir")


def pretrain(options: argparse.Namespace) -> int:
    """Run a pre-training bundle.

    Without ``--output_dir`` the run writes to ``out/METHOD`` in the current folder, and without ``--encoder_dir`` the
    encoder goes to ``encoder`` in the output folder. Nothing is written into the installed package.
    """
    known = [name[4:-12] for name in bundle_names() if name.endswith("_pretraining")]
    if options.method not in known:
        raise ValueError(f"method must be one of {', '.join(known)}, got {options.method!r}")
    if options.processes < 1:
        raise ValueError(f"processes must be at least 1, got {options.processes}")
    overrides = dict(_pairs(options.rest))
    overrides.setdefault("output_dir", str(Path("out") / options.method))
    overrides.setdefault("encoder_dir", str(Path(overrides["output_dir"]) / "encoder"))
    overrides |= {name: str(Path(overrides[name]).expanduser().absolute()) for name in _FOLDERS}
    command = bundle_command(f"cxr_{options.method}_pretraining", "train", *options.variant, **overrides)
    if options.processes > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={options.processes}"]
        command[1:1] = torchrun
    return subprocess.run(command, check=False).returncode


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Split ``--key value`` and ``--key=value`` into pairs."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, sign, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not (sign or rest):
            raise ValueError(f"further arguments must be pairs of --key value, got {word!r} alone")
        yield key, value if sign else rest.pop(0)
