"""Command line: ``monai-anat VERB`` or ``python -m monai_anat VERB``."""

from monai_anat.cli.command import main

__all__ = ["main"]
