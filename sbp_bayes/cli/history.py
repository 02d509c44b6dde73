"""The command that lists, shows and compares past runs."""

import argparse
import json
from pathlib import Path
from textwrap import shorten
from typing import Any

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.cli.tables import table
from sbp_bayes.runs import Run, config_differences, flatten, headline_losses, list_runs, mean_losses, read_run

WIDTH = 60
"""Characters of a configuration in the list of runs, which one run in full shows whole."""


def show_runs(arguments: argparse.Namespace) -> str:
    """Return a list of all runs, one run in full, or what differs between two.

    Raises:
        ConfigError: more than two ids.
        StoreError, ResultError: no such run, or a damaged one.
    """
    directory, ids = Path(arguments.runs), arguments.ids
    if not ids:
        return _list(list_runs(directory), directory)
    if len(ids) > 2:
        raise ConfigError(f"runs {' '.join(ids)}: expected two ids at most")
    runs = [read_run(directory, run_id) for run_id in ids]
    return _show(runs[0]) if len(runs) == 1 else _compare(*runs)


def _list(runs: list[Run], directory: Path) -> str:
    if not runs:
        return f"no runs in {directory}"
    head = ("id", "experiment", "config", "seed", "status", "started (UTC)", "minutes", "nats per token")
    rows = [
        (
            run.id,
            run.experiment,
            shorten(_config(run), WIDTH, placeholder=" …"),
            _seeds(run),
            run.status,
            _started(run),
            f"{run.seconds / 60:.1f}",
            _headline(run),
        )
        for run in runs
    ]
    return "\n".join(table([head, *rows]))


def _show(run: Run) -> str:
    facts = [
        ("experiment", run.experiment),
        ("config", _config(run)),
        ("code", _code(run)),
        ("status", run.status),
        ("started (UTC)", _started(run)),
        ("minutes", f"{run.seconds / 60:.1f}"),
        ("headline", _headline(run)),
        ("folder", str(run.directory)),
        ("files", ", ".join(sorted(path.name for path in run.directory.iterdir()))),
    ]
    losses = [
        (x.split, x.checkpoint, x.arm, f"{x.nats_per_token:.4f}", str(x.num_seeds))
        for x in mean_losses(run.results)
    ]
    results = (
        table([("split", "checkpoint", "arm", "nats per token", "seeds"), *losses])
        if losses
        else ["no results"]
    )
    config = table((key, _value(value)) for key, value in flatten(run.config))
    return "\n".join([f"run {run.id}", *table(facts), "", *results, "", "settings", *config])


def _compare(first: Run, second: Run) -> str:
    names = (f"run {first.id}", f"run {second.id}")
    settings = [(key, _value(a), _value(b)) for key, a, b in config_differences(first, second)]
    lines = table([("setting", *names), *settings]) if settings else ["the same settings"]
    one, other = (
        {(x.split, x.checkpoint, x.arm): x.nats_per_token for x in mean_losses(run.results)}
        for run in (first, second)
    )
    losses = [
        (
            *key,
            *(f"{loss[key]:.4f}" if key in loss else "-" for loss in (one, other)),
            _difference(one, other, key),
        )
        for key in dict.fromkeys([*one, *other])
    ]
    head = ("split", "checkpoint", "arm", *names, "difference")
    return "\n".join([*lines, "", *(table([head, *losses]) if losses else ["no results"])])


def _difference(one: dict[Any, float], other: dict[Any, float], key: Any) -> str:
    return f"{other[key] - one[key]:+.4f}" if key in one and key in other else "-"


def _headline(run: Run) -> str:
    losses = headline_losses(run.results)
    parts = [f"{arm} {loss:.3f}" for arm, loss in losses.items()]
    if {"baseline", "sbp", "oracle"} <= losses.keys() and losses["baseline"] > losses["oracle"]:
        gain = (losses["baseline"] - losses["sbp"]) / (losses["baseline"] - losses["oracle"])
        parts.append(f"{gain:.0%} of the oracle's gain")
    return ", ".join(parts) or "-"


def _config(run: Run) -> str:
    """Return the named configurations and what the command line changed of them."""
    changes = [f"{key}={_value(value)}" for key, value in run.changes.items()]
    return " ".join([*(run.named_configs or ["default"]), *changes])


def _code(run: Run) -> str:
    if not run.code:
        return "not recorded"
    commit = f"commit {run.code['commit']}" if run.code.get("commit") else run.code.get("note", "no commit")
    clean = run.code.get("clean")
    state = "" if clean is None else "clean" if clean else "with changes that are not committed"
    return ", ".join(part for part in (run.code.get("version"), commit, state) if part)


def _seeds(run: Run) -> str:
    return _value(run.config.get("seeds", run.config.get("seed", "-")))


def _started(run: Run) -> str:
    return f"{run.started:%Y-%m-%d %H:%M}" if run.started else "-"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
