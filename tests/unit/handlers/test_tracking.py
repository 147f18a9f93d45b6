from __future__ import annotations

import pytest
import torch
from monai.handlers import MLFlowHandler, from_engine
from monai.utils import path_to_sqlite_uri

from monai_anat.handlers import MLflowTracker, RunManifest, TrainingLog
from monai_anat.handlers.tracking import log_folder


@pytest.fixture
def database(tmp_path) -> str:
    pytest.importorskip("mlflow")
    return path_to_sqlite_uri(str(tmp_path / "mlruns.db"))


def monai_handler(database: str) -> MLFlowHandler:
    """The handler that ``--tracking mlflow`` adds."""
    loss = from_engine(["loss"], first=True)
    return MLFlowHandler(database, run_name="mine", output_transform=loss, close_on_complete=True)


@pytest.mark.filterwarnings("ignore")
def test_everything_that_is_logged_and_the_encoder_reach_mlflow(make_trainer, tmp_path, database):
    import mlflow

    folder, encoder = tmp_path / "out", tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "model.pt").write_bytes(b"weights")
    config = {"dataset_dir": "DOE_JANE", "learning_rate": 0.05, "network_def": {"depth": 18}, "run": ["$@train"]}
    tracker = MLflowTracker(folder, pictures_every=1)
    handlers = [
        RunManifest(folder, [{"image": 1}], config),
        TrainingLog(folder, every=2, progress_bar=False, tensorboard=False),
        tracker,
        monai_handler(database),
    ]
    trainer = make_trainer(handlers)
    trainer.method.metrics = lambda: {"words_in_use": torch.tensor(7.0)}
    trainer.run()
    log_folder(trainer, encoder)
    client = mlflow.MlflowClient(database)
    (run,) = client.search_runs([client.get_experiment_by_name("monai_experiment").experiment_id])
    assert {"loss", "match", "grad_norm", "lr", "samples_per_second", "words_in_use"} <= run.data.metrics.keys()
    assert [point.step for point in client.get_metric_history(run.info.run_id, "match")] == [2, 3, 4, 6]
    assert run.data.params["learning_rate"] == "0.05"
    assert run.data.params["network_def"] == '{"depth": 18}'
    assert len(run.data.params["data_sha256"]) == 64
    assert "run" not in run.data.params
    assert "DOE" not in str(run.data.params)
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    pictures = {f"{view}_epoch_{epoch}.png" for view in ("view_1", "view_2") for epoch in (1, 2)}
    assert files == {"manifest.json", "model.pt"} | pictures


def test_nothing_happens_without_tracking(make_trainer, tmp_path):
    tracker = MLflowTracker(tmp_path)
    make_trainer([TrainingLog(tmp_path, progress_bar=False, tensorboard=False), tracker]).run()
    tracker.log_folder(tmp_path / "missing")
    assert {path.name for path in tmp_path.iterdir()} <= {"metrics.jsonl", ".monai_anat.lock"}
