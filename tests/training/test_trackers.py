"""Trackers are fed from metrics.jsonl, every record once, and no training ends with its tracker."""

import json
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.training import trackers
from sbp_bayes.training.trackers import tracked


def step(number: int, loss: float | None = None) -> dict[str, Any]:
    return {
        "step": number,
        "tokens": 64 * number,
        "tokens_by_source": {"real": 48 * number, "synthetic": 16 * number},
        "loss_nats_per_token": 5 / number if loss is None else loss,
        "note": "no number",
    }


def validation(number: int) -> dict[str, Any]:
    return {"step": number, "tokens": 64 * number, "validation_nats_per_token": 6 / number, "seconds": 0.5}


def append(path: Path, *records: Mapping[str, Any]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records))


class Noted:
    """A tracker that notes what it is told, and breaks at the step `breaks_at`."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Mapping[str, float]]] = []
        self.times_closed = self.breaks_at = 0
        self.heard = threading.Event()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.breaks_at:
            raise OSError("no space\nleft")
        self.told.append((step, values))
        self.heard.set()

    def close(self) -> None:
        self.times_closed += 1


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    """What a tracker called "json" is told; a package of that name is always there."""
    tracker = Noted()
    monkeypatch.setattr(trackers, "TRACKERS", {"json": lambda folder: tracker})
    monkeypatch.setattr(trackers, "SECONDS_BETWEEN_READINGS", 0.01)
    return tracker


def test_every_number_of_every_record_is_told_once(tmp_path: Path, noted: Noted) -> None:
    """While the file grows, across a resumption that cuts it back, and with what is written last."""
    metrics = tmp_path / "metrics.jsonl"
    with tracked("json", metrics):
        append(metrics, step(1), step(2), validation(2), step(3))
        assert noted.heard.wait(30)
        whole = metrics.read_text().splitlines(keepends=True)
        metrics.write_text("".join(whole[:2]) + '{"step": 3, "tok')  # and a line half-written
        noted.heard.clear()
        metrics.write_text("".join(whole[:2]))
        append(metrics, validation(2), step(3), step(4))
        assert noted.heard.wait(30)
        append(metrics, step(5), validation(5))
    assert [(n, "validation_nats_per_token" in values) for n, values in noted.told] == [
        (1, False),
        (2, False),
        (2, True),
        (3, False),
        (4, False),
        (5, False),
        (5, True),
    ]
    assert noted.told[3][1] == {
        "tokens": 192,
        "tokens_by_source/real": 144,
        "tokens_by_source/synthetic": 48,
        "loss_nats_per_token": 5 / 3,
    }
    assert noted.times_closed == 1


def test_a_tracker_that_breaks_ends_alone(
    tmp_path: Path, noted: Noted, capsys: pytest.CaptureFixture[str]
) -> None:
    noted.breaks_at = 2
    append(tmp_path / "metrics.jsonl", step(1), step(2), step(3))
    with tracked("json", tmp_path / "metrics.jsonl"):
        pass
    assert [number for number, _ in noted.told] == [1]
    assert capsys.readouterr().err == "json is fed no longer: OSError: no space left\n"


def test_a_training_that_fails_closes_its_tracker(tmp_path: Path, noted: Noted) -> None:
    append(tmp_path / "metrics.jsonl", step(1))
    with pytest.raises(KeyboardInterrupt), tracked("json", tmp_path / "metrics.jsonl"):
        raise KeyboardInterrupt
    assert (len(noted.told), noted.times_closed) == (1, 1)


def test_no_tracker_and_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracked(None, tmp_path / "metrics.jsonl"):
        pass
    with pytest.raises(ConfigError, match=r"tracker = 'tensorbord': .*did you mean 'tensorboard'"):
        tracked("tensorbord", tmp_path / "metrics.jsonl").__enter__()
    monkeypatch.setattr(trackers, "TRACKERS", {"no_such_package": Noted})
    with pytest.raises(
        ConfigError, match=r"tracker = 'no_such_package' needs a package .* pip install no_such"
    ):
        tracked("no_such_package", tmp_path / "metrics.jsonl").__enter__()
    assert list(tmp_path.iterdir()) == []


def write_some(metrics: Path) -> None:
    """Three steps, one of them without a finite number, and a validation."""
    append(metrics, step(1), step(2, loss=math.nan), step(3), validation(3))


def test_tensorboard_shows_what_the_file_has(tmp_path: Path) -> None:
    """Also after a second start, which begins the folder anew."""
    pytest.importorskip("tensorboard", reason="tensorboard (extra [tracking]) is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_some(tmp_path / "metrics.jsonl")
    for _ in range(2):
        with tracked("tensorboard", tmp_path / "metrics.jsonl"):
            pass
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {
        "tokens",
        "tokens_by_source/real",
        "tokens_by_source/synthetic",
        "loss_nats_per_token",
        "validation_nats_per_token",
        "seconds",
    }
    losses = [(event.step, event.value) for event in events.Scalars("loss_nats_per_token")]
    assert losses[0] == (1, 5.0)
    assert math.isnan(losses[1][1])
    assert losses[2] == (3, pytest.approx(5 / 3))
    assert [(e.step, e.value) for e in events.Scalars("validation_nats_per_token")] == [(3, 2.0)]


@pytest.mark.filterwarnings("ignore")  # of MLflow's own use of SQLAlchemy
def test_mlflow_keeps_what_the_file_has(tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="mlflow (extra [tracking]) is not installed")
    write_some(tmp_path / "metrics.jsonl")
    for _ in range(2):
        with tracked("mlflow", tmp_path / "metrics.jsonl"):
            pass
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "sbp_bayes"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "loss_nats_per_token")
    assert [m.step for m in history] == [1, 2, 3]
    assert history[2].value == 5 / 3


def test_wandb_writes_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb (extra [tracking]) is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    write_some(tmp_path / "metrics.jsonl")
    with tracked("wandb", tmp_path / "metrics.jsonl"):
        pass
    (run,) = tmp_path.glob("wandb/wandb/offline-run-*/*.wandb")
    assert run.stat().st_size > 0
