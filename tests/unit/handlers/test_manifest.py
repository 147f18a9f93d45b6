from __future__ import annotations

import json

from monai_anat.handlers import RunManifest
from monai_anat.handlers.manifest import data_fingerprint


def test_manifest_names_versions_config_and_data_but_no_path(make_trainer, tmp_path):
    (tmp_path / "DOE^JANE").mkdir()
    image = tmp_path / "DOE^JANE" / "1.png"
    image.write_bytes(b"png")
    config = {"dataset_dir": str(tmp_path / "DOE^JANE"), "lr": 0.1, "files": [str(image)], "x": "$@lr / 2"}
    manifest = RunManifest(tmp_path / "out", [{"image": str(image)}], config)
    for _ in range(2):
        make_trainer([manifest]).run()
    text = (tmp_path / "out" / "manifest.json").read_text()
    starts = json.loads(text)["starts"]
    assert len(starts) == 2
    assert "DOE" not in text
    assert starts[0]["config"] == {"dataset_dir": "<local path>", "lr": 0.1, "files": ["<local path>"], "x": "$@lr / 2"}
    assert starts[0]["method"] == "ToyTeacherMethod"
    assert starts[0]["batch_size"] == 4
    assert starts[0]["versions"]["torch"]
    assert starts[0]["data"] == {"items": 1, "sha256": data_fingerprint([{"image": str(image)}])}


def test_fingerprint_follows_the_files(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    first = data_fingerprint([{"image": str(path)}])
    path.write_bytes(b"12")
    assert data_fingerprint([{"image": str(path)}]) != first


def test_a_resumed_run_lists_its_differences(make_trainer, tmp_path, caplog):
    def start(step, data, **config):
        trainer = make_trainer()
        trainer.state.iteration = step
        RunManifest(tmp_path, data, {"resume": str(step), "lr": 0.1, **config})(trainer)

    start(0, [{"image": 1}], handlers=[{"every": 1}])
    start(3, [{"image": 1}], handlers=[{"every": 1}])
    start(0, [{"image": 2}], handlers=[{"every": 1}])  # from the beginning: another run
    assert not caplog.text
    start(3, [{"image": 3}], handlers=[{"every": 2}])
    assert "handlers#0#every: 1 -> 2" in caplog.text
    assert "data#sha256" in caplog.text
    assert "lr" not in caplog.text
    assert "stay those of the checkpoint" in caplog.text


def test_an_incomplete_manifest_of_a_power_cut_is_replaced(make_trainer, tmp_path, caplog):
    (tmp_path / "manifest.json").write_text('{"starts": [')
    RunManifest(tmp_path, config={})(make_trainer())
    assert "manifest.json cannot be read (JSONDecodeError) and is replaced" in caplog.text
    assert len(json.loads((tmp_path / "manifest.json").read_text())["starts"]) == 1
