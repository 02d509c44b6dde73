"""`--observe URL`: a run stands in a database as well as in its folder."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sacred import Experiment

from experiments.observers import observe
from experiments.runner import make_experiment, run_command_line
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.progress import use_display


@pytest.fixture(autouse=True)
def _own_display() -> Iterator[None]:
    use_display(None)
    yield
    use_display(None)


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """An experiment whose result is no number, and which fails where it is told to."""
    monkeypatch.chdir(tmp_path)
    experiment = make_experiment("tiny", {"small": {"width": 3, "fails": False}}, default="small")

    @experiment.main
    def main(width: int, fails: bool) -> dict[str, float]:
        if fails:
            raise ConfigError("a mistake")
        return {"sbp": 3.25 * width}

    return experiment


def rows(path: Path) -> list[sqlite3.Row]:
    with sqlite3.connect(path) as database:
        database.row_factory = sqlite3.Row
        return database.execute("select * from run order by id").fetchall()


def test_sqlite_holds_every_run(tmp_path: Path, experiment: Experiment) -> None:
    """With its settings, its end and its result, and an id of its own beside the folder's."""
    pytest.importorskip("sqlalchemy", reason="sqlalchemy (extra [tracking]) is not installed")
    for used in ("1", "2"):
        (tmp_path / "runs" / used).mkdir(parents=True)
    option = ["-o", f"sqlite:///{tmp_path}/all.db"]
    assert run_command_line(experiment, [*option, "with", "small", "width=4"]) == 0
    assert run_command_line(experiment, [*option, "with", "fails=True"]) == 2
    first, second = rows(tmp_path / "all.db")
    assert (first["status"], second["status"]) == ("COMPLETED", "FAILED")
    assert (first["run_id"], second["run_id"]) == ("0", "2")
    assert json.loads(first["config"])["width"] == 4
    assert json.loads(first["info"])["result"] == {"sbp": 13.0}
    assert first["result"] is None
    assert first["stop_time"] is not None
    for folder, status in (("3", "COMPLETED"), ("4", "FAILED")):
        assert json.loads((tmp_path / "runs" / folder / "run.json").read_text())["status"] == status


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:////no/such/folder/x.db", "--observe sqlite:////no/such/folder/x.db: cannot be used"),
        ("nonsense", "--observe nonsense: cannot be used"),
        ("postgresql+none://me:secret@host/x", "--observe postgresql+none://me:…@host/x: cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line_without_its_password(
    experiment: Experiment, capsys: pytest.CaptureFixture[str], url: str, message: str
) -> None:
    pytest.importorskip("sqlalchemy", reason="sqlalchemy (extra [tracking]) is not installed")
    assert run_command_line(experiment, ["-o", url]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert "secret" not in line


def test_other_ranks_observe_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    observe("nonsense", None)
