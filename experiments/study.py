"""The study: all arms over several seeds, and one setting after another changed at one seed.

`python -m experiments.study with best` runs the regime of text_sbp's `best` with every arm and five seeds,
and its sweeps. Every cell is a run of text_sbp in one workspace, so cells share the stages that they have in
common, a study that was stopped goes on where it was, and a cell that is finished is only read.
"""

import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.runner import (
    make_experiment,
    run_command_line,
    run_folder,
    settings_of,
    workspace,
)
from experiments.text_sbp.comparison import compare
from experiments.text_sbp.config import CONFIGS, ON_TEXT, WITH_CONTROLS, TextSbpConfig
from experiments.text_sbp.content import report_content
from experiments.text_sbp.run import run
from experiments.text_sbp.table import print_table
from paper_figures.numbers import plain, signed
from sbp_bayes.arms import ARMS
from sbp_bayes.base.config import assign, decode, encode
from sbp_bayes.base.progress import progress
from sbp_bayes.base.stage import Workspace
from sbp_bayes.base.store import write_json
from sbp_bayes.base.workers import side_by_side
from sbp_bayes.comparison import gauges_of

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One setting of `text_sbp`, such as "pairs.rules.alpha", and the values that it takes."""

    setting: str
    values: tuple[Any, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What is run.

    Attributes:
        text_sbp: the regime, with its arms and seeds.
        sweeps: settings of the regime that are changed, one at a time, all else as it is.
        sweep_arms: the arms of every sweep, which has the first seed alone.
    """

    text_sbp: TextSbpConfig
    sweeps: tuple[Sweep, ...]
    sweep_arms: tuple[str, ...] = WITH_CONTROLS

    def __post_init__(self) -> None:
        for setting, value in self.cells:
            self.changed(setting, value)

    @property
    def cells(self) -> list[tuple[str, Any]]:
        """Setting and value of every cell of a sweep, in order."""
        return [(sweep.setting, value) for sweep in self.sweeps for value in sweep.values]

    def changed(self, setting: str, value: Any) -> TextSbpConfig:
        """Return the settings of one cell of a sweep.

        Raises:
            ConfigError: there is no such setting, or it cannot have this value.
        """
        settings = encode(self.text_sbp)
        assign(settings, setting, encode(value))
        config = decode(TextSbpConfig, settings)
        return dataclasses.replace(config, arms=self.sweep_arms, seeds=self.text_sbp.seeds[:1])


def run_study(config: StudyConfig, work: Workspace, num_workers: int | None = None) -> list[dict[str, Any]]:
    """Run every cell that `work` does not hold yet, side by side; return a record for each cell of a sweep.

    A record has the setting, its value, and "arms", "best_control" and "gauges" as the report of text_sbp.
    The seeds of the regime itself are left in `work`; `text_sbp.run` finds them finished.
    """
    seeds = [dataclasses.replace(config.text_sbp, seeds=(seed,)) for seed in config.text_sbp.seeds]
    calls = [functools.partial(_numbers, one, work) for one in seeds]
    calls += [functools.partial(_numbers, config.changed(*cell), work) for cell in config.cells]
    with progress("study", len(calls), "cells") as advance:
        numbers = side_by_side(calls, num_workers, on_done=lambda _: advance(1))
    found = zip(config.cells, numbers[len(seeds) :], strict=True)
    return [{"setting": setting, "value": encode(value), **record} for (setting, value), record in found]


def _numbers(config: TextSbpConfig, work: Workspace) -> dict[str, Any]:
    output = run(config, work, num_workers=1)
    return compare(output) | {"gauges": gauges_of(output.runs)}


def print_sweeps(records: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each cell: every arm's test loss, and SBP's less that of its best control."""
    for setting in dict.fromkeys(record["setting"] for record in records):
        own = [record for record in records if record["setting"] == setting]
        best = [
            {
                arm["arm"]: arm["loss"]["value"]
                for arm in record["arms"]
                if arm["checkpoint"] == "best_validation"
            }
            for record in own
        ]
        print(f"\n{setting}: nats per token on test, at best checkpoints on validation; one seed")
        for record, losses in zip(own, best, strict=True):
            arms = "; ".join(f"{ARMS[arm].label} {plain(loss)}" for arm, loss in losses.items())
            print(f"  {record['value']}: {arms}; {_against(record['best_control'])}")


def _against(control: Mapping[str, Any] | None) -> str:
    if control is None:
        return "no control"
    delta = control["delta"]
    between = "" if delta["low"] is None else f" [{signed(delta['low'])}, {signed(delta['high'])}]"
    return f"SBP − {ARMS[control['arm']].label} {signed(delta['value'])}{between}"


_SMOKE = dataclasses.replace(CONFIGS["smoke"], arms=WITH_CONTROLS, unique_tokens=4_000, repetitions=3.0)
_STUDIES = {
    "smoke": StudyConfig(text_sbp=_SMOKE, sweeps=(Sweep("synthetic_share", (0.25,)),)),
    "best": StudyConfig(
        text_sbp=dataclasses.replace(CONFIGS["best"], arms=ON_TEXT, seeds=(0, 1, 2, 3, 4)),
        sweeps=(
            Sweep("synthetic_share", (0.25, 0.5, 0.75)),
            Sweep("pairs.rules.alpha", (0.2, 0.4)),
            Sweep("pairs.k", (1, 2, 8, 16)),
            Sweep("repetitions", (4.0, 10.0, 40.0)),
            Sweep("unique_tokens", (45_000, 90_000)),
            Sweep("pairs.embedder.kind", ("bm25", "minilm")),
            Sweep("tune.marginal", ("documents",)),
            Sweep("tune.word_dropout", (0.1, 0.3)),
        ),
    ),
}
"""The named studies: `best` in the regime of text_sbp's `best`, whose own values the sweeps leave out."""

experiment = make_experiment("study", _STUDIES, default="best")


@experiment.main
def main(_config: dict[str, Any], _run: Any) -> dict[str, Any]:
    """Run the study, print its tables, and keep study.json in the run's folder."""
    config, work = decode(StudyConfig, settings_of(_config)), workspace(_config)
    sweeps = run_study(config, work)
    content = report_content(run(config.text_sbp, work), "study", str(_run._id))
    folder = run_folder(experiment)
    if folder is not None:
        keep(content, sweeps, folder)
    print_table(content)
    print_sweeps(sweeps)
    return {"best_control": content["best_control"]}


def keep(content: Mapping[str, Any], sweeps: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write study.json: the report of the regime over its seeds, and the sweeps' cells."""
    write_json(
        folder / "study.json", {"schema_version": SCHEMA_VERSION, "report": content, "sweeps": list(sweeps)}
    )


if __name__ == "__main__":
    sys.exit(run_command_line(experiment, sys.argv[1:]))
