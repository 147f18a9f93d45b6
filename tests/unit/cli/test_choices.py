"""Names that the command line offers: equal to the registries that they repeat."""

from __future__ import annotations

import pytest
import torch

from monai_anat import cli, data, evaluation, networks
from monai_anat.cli import choices, verbs
from monai_anat.networks.pretrained.families import FAMILIES


def test_choices_are_those_of_the_registries():
    assert tuple(sorted(verbs.ARCHITECTURES)) == choices.ARCHITECTURES
    assert tuple(FAMILIES) == choices.FAMILIES
    assert tuple(sorted(evaluation.PROTOCOLS)) == choices.PROTOCOLS
    assert tuple(sorted(data.PUBLIC_SETS)) == choices.PUBLIC_SETS


def test_convert_names_every_family_and_every_architecture_can_be_built(capsys):
    with pytest.raises(SystemExit):
        cli.main(["convert", "--help"])
    text = capsys.readouterr().out
    assert all(family in text for family in FAMILIES)
    for name, arguments, _ in verbs.ARCHITECTURES.values():
        with torch.device("meta"):
            getattr(networks, name)(**arguments)
