"""Options and fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="takes minutes; add --slow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)
    if not os.environ.get("MONAI_ANAT_DATA"):
        skip = pytest.mark.skip(reason="set MONAI_ANAT_DATA to the folder of radiographs")
        for item in items:
            if "real_data" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real radiographs; only for tests marked ``real_data``."""
    return Path(os.environ["MONAI_ANAT_DATA"])
