"""Registration of protocols, their arguments and their cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from matplotlib.figure import Figure

from monai_anat.evaluation import PROTOCOLS, Protocol, ReportFigure, Result, case_pictures, evaluate_encoder
from monai_anat.evaluation.frozen_protocol import FrozenProtocol
from monai_anat.evaluation.metric import Metric
from monai_anat.evaluation.protocol import Measured, check_arguments, json_settings, protocol_classes, three_cases


@pytest.fixture
def brightness():
    """A protocol of a user, in one place: it registers itself."""

    @dataclass(kw_only=True)
    class BrightnessProbe(FrozenProtocol):
        name: ClassVar[str] = "brightness"
        kinds: ClassVar = {"mean": ("higher", "gray")}

        factor: float = 1.0

        def measure(self, encoder, items, bootstrap) -> Measured:
            values = self.factor * encoder.embeddings(items).mean(axis=1)
            return Measured(self.means(bootstrap, {"mean": values}), three_cases(values, "higher", lambda index: {}))

        @classmethod
        def draw_cases(cls, result, lead) -> list[ReportFigure]:
            return [ReportFigure(Figure(), f"{lead}{place}") for place in result.cases]

    yield BrightnessProbe
    del Protocol.registry["brightness"]


def test_a_protocol_registers_itself_and_runs_by_its_name(brightness, ramps, oracles, tmp_path) -> None:
    import json

    (tmp_path / "list.json").write_text(json.dumps({"test": ramps}))
    options = {"brightness": {"resamples": 20, "factor": 2.0}}
    results = evaluate_encoder(oracles.gray(), tmp_path / "list.json", tmp_path / "out", "brightness", options=options)
    assert results["brightness"].settings["factor"] == 2.0
    assert results["brightness"].metrics["mean"].value > 0
    assert [figure.caption for figure in case_pictures(results["brightness"], "a")] == [
        "a: best",
        "a: median",
        "a: worst",
    ]
    with pytest.raises(ValueError, match=r"arguments of brightness must be among .*factor"):
        evaluate_encoder(
            oracles.gray(), tmp_path / "list.json", tmp_path / "no", "brightness", options={"brightness": {"a": 1}}
        )
    assert not (tmp_path / "no").exists()


def test_two_protocols_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="name of a protocol must be unique, got 'collapse'"):

        class Second(Protocol):
            name = "collapse"


def test_every_file_of_the_probes_is_found() -> None:
    assert tuple(protocol_classes()) == PROTOCOLS
    assert [name for name, kind in protocol_classes().items() if not kind.in_all] == ["few-shot"]
    assert {kind.sections for kind in protocol_classes().values()} == {("test",), ("training", "validation", "test")}


def test_results_of_unknown_protocols_have_no_pictures() -> None:
    assert case_pictures(Result("of another version", cases={"best": {"score": 1.0}})) == []


def test_arguments_are_checked_by_name_and_form() -> None:
    parameters = protocol_classes()["collapse"].parameters()
    check_arguments("collapse", parameters, {"cells": 3})
    with pytest.raises(ValueError, match=r"collapse\.cells must be a value such as 256, got 'many'"):
        check_arguments("collapse", parameters, {"cells": "many"})


def test_settings_are_json_values() -> None:
    settings = json_settings(protocol_classes()["co-segmentation"](clusters=(4, 5)))
    assert settings["clusters"] == [4, 5]
    assert settings["structures"] == {"right lung": [1], "left lung": [2]}


def test_measured_defaults_are_empty() -> None:
    assert Measured({"a": Metric(1.0)}).cases == {}


def test_cases_leave_out_what_is_undefined() -> None:
    cases = three_cases([np.nan, 5.0, 1.0, 3.0], "higher", lambda index: {"index": index})
    assert [cases[name]["index"] for name in ("best", "median", "worst")] == [1, 3, 2]
    assert three_cases([np.nan], "lower", dict) == {}
