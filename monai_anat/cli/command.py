"""Entry point of the command line."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence

from monai_anat.cli.parser import build_parser

__all__ = ["main"]

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb. Errors of use end in a sentence and exit code 2.

    Args:
        arguments: the words after ``monai-anat``.

    Returns:
        The exit code.

    >>> main(["pretrain", "nothing"])
    2
    """
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.verb != "pretrain":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options.rest = rest
    module, _, verb = options.run.partition(".")
    try:
        code: int | None = getattr(importlib.import_module(f"monai_anat.cli.{module}"), verb)(options)
    except (ValueError, OSError, RuntimeError, LookupError) as error:
        if options.debug:
            raise
        logger.error(f"monai-anat {options.verb}: {error.args[0] if isinstance(error, KeyError) else error}")
        return 2
    except KeyboardInterrupt:
        logger.error(f"monai-anat {options.verb}: interrupted")
        return 130
    return code or 0
