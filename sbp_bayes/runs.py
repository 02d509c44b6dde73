"""Past experiments, read from the folder that Sacred wrote as plain JSON; standard library only.

A run is a folder RUNS/ID with `run.json`, `config.json` and, where it got so far, `results.jsonl`.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.store import read_json
from sbp_bayes.results import ResultError, ResultRow, read_results

RUN, CONFIG, RESULTS = "run.json", "config.json", "results.jsonl"

SILENCE = timedelta(minutes=2)
"""A running experiment writes a heartbeat every 10 seconds; after so long without one it was killed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One run of an experiment.

    Attributes:
        id: name of the run's folder.
        directory: the folder.
        status: Sacred's, in lower case; "killed" for a run that says it is running and is not.
        experiment: name of the experiment.
        named_configs: those chosen on the command line, for instance ("demo",).
        changes: settings changed on the command line, for instance {"corpus.paths": ["my.jsonl"]}.
        code: version, commit and cleanness of the code, where the run recorded them.
        started: in UTC; None if it never started.
        seconds: from the start to the end, or to the last sign of life.
        config: the whole configuration, without the seed that Sacred adds to it.
        results: rows of `results.jsonl`; empty where there is none.
    """

    id: str
    directory: Path
    status: str
    experiment: str = "unknown"
    named_configs: tuple[str, ...] = ()
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    code: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    started: datetime | None = None
    seconds: float = 0.0
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    results: Sequence[ResultRow] = ()


def list_runs(directory: Path, *, now: datetime | None = None) -> list[Run]:
    """Return the runs in `directory` by their ids, numbers in their order.

    A run whose files are damaged (Sacred does not write them atomically) has the status "damaged".

    Raises:
        StoreError: the folder is missing.
    """
    if not Path(directory).is_dir():
        raise StoreError(f"{directory}: no such folder of runs")
    ids = [path.parent.name for path in Path(directory).glob(f"*/{RUN}")]
    ids.sort(key=lambda run_id: (not run_id.isdigit(), int(run_id) if run_id.isdigit() else 0, run_id))
    runs = []
    for run_id in ids:
        try:
            runs.append(read_run(directory, run_id, now=now))
        except (StoreError, ResultError):
            runs.append(Run(id=run_id, directory=Path(directory) / run_id, status="damaged"))
    return runs


def read_run(directory: Path, run_id: str, *, now: datetime | None = None) -> Run:
    """Read one run.

    Args:
        directory: folder of the runs.
        run_id: the run's.
        now: the time at which a silent run counts as killed; the present by default.

    Raises:
        StoreError: there is no such run, or one of its files is damaged.
        ResultError: its results are damaged.
    """
    folder = Path(directory) / run_id
    if not (folder / RUN).exists():
        raise StoreError(f"{directory}: no run {run_id!r}")
    record = _read_object(folder / RUN)
    started, heartbeat, stopped = (_time(record.get(key)) for key in ("start_time", "heartbeat", "stop_time"))
    last_sign = stopped or heartbeat or started
    status = str(record.get("status", "unknown")).lower()
    if status == "running" and (last_sign is None or (now or datetime.now(UTC)) - last_sign > SILENCE):
        status = "killed"
    meta = record.get("meta", {})
    config = _read_object(folder / CONFIG) if (folder / CONFIG).exists() else {}
    changes = dict(flatten(meta.get("config_updates") or {}))
    if any(key.rpartition(".")[2] == "seeds" for key, _ in flatten(config)):
        # The experiment draws from its own seeds; Sacred puts a random one beside them.
        config, changes = ({k: v for k, v in x.items() if k != "seed"} for x in (config, changes))
    return Run(
        id=run_id,
        directory=folder,
        status=status,
        experiment=str(record.get("experiment", {}).get("name", "unknown")),
        named_configs=tuple(meta.get("named_configs", ())),
        changes=changes,
        code=record.get("host", {}).get("code", {}),
        started=started,
        seconds=(last_sign - started).total_seconds() if started and last_sign else 0.0,
        config=config,
        results=read_results(folder / RESULTS) if (folder / RESULTS).exists() else [],
    )


@dataclasses.dataclass(frozen=True)
class Loss:
    """One arm's loss on one split at one checkpoint, the mean of `num_seeds` seeds' rows."""

    split: str
    checkpoint: str
    arm: str
    nats_per_token: float
    num_seeds: int


def mean_losses(rows: Iterable[ResultRow]) -> list[Loss]:
    """Return the mean over seeds of each arm's loss at the end of its training.

    Of several rows of one arm, seed, split and checkpoint, the one with most tokens seen counts.
    """
    last: dict[tuple[str, str, str, int], ResultRow] = {}
    for row in rows:
        key = (row.split, row.checkpoint, row.arm, row.seed)
        if key not in last or row.tokens_seen > last[key].tokens_seen:
            last[key] = row
    groups: dict[tuple[str, str, str], list[float]] = {}
    for (split, checkpoint, arm, _), row in last.items():
        groups.setdefault((split, checkpoint, arm), []).append(row.loss_nats_per_token)
    return [Loss(*key, nats_per_token=fmean(losses), num_seeds=len(losses)) for key, losses in groups.items()]


def headline_losses(rows: Iterable[ResultRow]) -> dict[str, float]:
    """Return each arm's loss in nats per token: on test at the best validation checkpoint, if measured."""
    losses = mean_losses(rows)
    for split, checkpoint in (
        ("test", "best_validation"),
        ("test", "last"),
        ("validation", "best_validation"),
    ):
        found = {x.arm: x.nats_per_token for x in losses if (x.split, x.checkpoint) == (split, checkpoint)}
        if found:
            return found
    return {}


def flatten(config: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a nested configuration as ("model.width", 64)."""
    for key, value in config.items():
        name = f"{within}.{key}" if within else str(key)
        if isinstance(value, Mapping) and value:
            yield from flatten(value, name)
        else:
            yield name, value


def config_differences(first: Run, second: Run) -> list[tuple[str, Any, Any]]:
    """Return (key, first's value, second's value) where two runs' configurations differ.

    A setting that one of them lacks is None there.
    """
    one, other = dict(flatten(first.config)), dict(flatten(second.config))
    keys = sorted(one.keys() | other.keys())
    return [(key, one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)]


def _read_object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise StoreError(f"{path}: damaged, not a JSON object")
    return value


def _time(value: str | None) -> datetime | None:
    """Read Sacred's timestamp, which is in UTC and does not say so."""
    return None if value is None else datetime.fromisoformat(value).replace(tzinfo=UTC)
