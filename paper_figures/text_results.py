"""The numbers of one run of the text experiment, as figures and tables need them.

Read from the committed tables `dynamics.json` and `comparison.json` of one configuration, or from
the `report.json` of a finished run. Losses are in nats per token; a difference is arm − baseline, so
below zero is better than the baseline.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sbp_bayes.results import ResultError

ARMS = ("baseline", "sbp", "oracle")
NAMES = {"baseline": "Baseline", "tuned_baseline": "Tuned baseline", "sbp": "SBP", "oracle": "Oracle"}

Against = Literal["best", "last"]
"""The baseline compared with: at its best weight decay and checkpoint on validation (the headline), or with
the weight decay of all arms at its last checkpoint."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate and its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        """Whether the interval cannot tell the value from zero."""
        return self.low <= 0 <= self.high

    def __neg__(self) -> "Interval":
        return Interval(-self.value, -self.high, -self.low)


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """Validation loss of one arm against tokens seen, averaged over seeds or of one of them."""

    tokens: np.ndarray
    nats_per_token: np.ndarray


@dataclasses.dataclass(frozen=True)
class Comparison:
    """SBP and oracle against one baseline checkpoint, in nats per token on the test split.

    Attributes:
        baseline: loss of the baseline.
        deltas: arm − baseline, by arm ("sbp", "oracle").
        checkpoints: which weights of each arm were scored: "last" or "best_validation".
        weight_decays: each arm's, one a seed.
        bits_per_byte_per_nat: factor from nats per token to bits per byte on this split.
        share: of the oracle's gain that SBP recovers; None where it is undefined.
    """

    against: Against
    baseline: Interval
    deltas: Mapping[str, Interval]
    checkpoints: Mapping[str, str]
    weight_decays: Mapping[str, tuple[float, ...]]
    bits_per_byte_per_nat: float
    share: Interval | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextResults:
    """Losses, training curves and budget of all arms of one configuration.

    Attributes:
        config_name: "demo", "laptop", …
        seeds: seeds of the training runs that are averaged.
        budget: tokens an arm, repetitions of the unique tokens, synthetic share.
        dynamics: validation curves, one for each arm and seed.
        arms: test losses, one for each arm and checkpoint.
        share_of_oracle_gain: by the baseline compared with.
        over_seeds_alone: whether the test documents' scores were not kept, so that no interval could be over
            documents too.
    """

    config_name: str
    seeds: tuple[int, ...]
    budget: Mapping[str, float]
    dynamics: tuple[Mapping[str, Any], ...]
    arms: tuple[Mapping[str, Any], ...]
    share_of_oracle_gain: Mapping[str, Mapping[str, Any]]
    over_seeds_alone: bool = False

    @property
    def intervals_over(self) -> str:
        """What the 95% intervals generalise over, with the number of seeds."""
        seeds = len(self.seeds)
        if self.over_seeds_alone:
            return f"{seeds} seeds alone"
        return "documents alone, one seed" if seeds == 1 else f"documents and {seeds} seeds"

    def seed_curves(self, arm: str) -> list[Curve]:
        """Return the validation curve of each seed of `arm`."""
        return [
            Curve(np.asarray(row["tokens"], float), np.asarray(row["validation_nats_per_token"], float))
            for row in self.dynamics
            if row["arm"] == arm
        ]

    @property
    def drawn_arms(self) -> tuple[str, ...]:
        """The arms that have a curve: the three, and the tuned baseline where one was trained."""
        tuned = any(row["arm"] == "tuned_baseline" for row in self.dynamics)
        return ("baseline", "tuned_baseline", *ARMS[1:]) if tuned else ARMS

    def mean_curve(self, arm: str) -> Curve:
        """Return the mean over seeds, on the first seed's validation points."""
        curves = self.seed_curves(arm)
        tokens = curves[0].tokens
        return Curve(tokens, np.mean([np.interp(tokens, c.tokens, c.nats_per_token) for c in curves], axis=0))

    def arm(self, name: str, checkpoint: str) -> Mapping[str, Any]:
        """Return the scores of arm `name` at `checkpoint`, or at its only checkpoint."""
        rows = [row for row in self.arms if row["arm"] == name]
        return next((row for row in rows if row["checkpoint"] == checkpoint), rows[-1])

    def comparison(self, against: Against) -> Comparison:
        """Compare SBP and oracle with the baseline; each arm at the same kind of checkpoint."""
        checkpoint = {"best": "best_validation", "last": "last"}[against]
        rows = {name: self.arm(name, checkpoint) for name in ARMS}
        baseline = rows["baseline"]
        share = self.share_of_oracle_gain[against]
        return Comparison(
            against=against,
            baseline=Interval(*(baseline[key] for key in ("nats_per_token", "nats_low", "nats_high"))),
            deltas={name: _interval(rows[name][f"delta_vs_baseline_{against}"]) for name in ARMS[1:]},
            checkpoints={name: row["checkpoint"] for name, row in rows.items()},
            weight_decays={name: tuple(row["weight_decay"]) for name, row in rows.items()},
            bits_per_byte_per_nat=baseline["bits_per_byte"] / baseline["nats_per_token"],
            share=_interval(share) if share["defined"] else None,
        )


def from_report(report: Mapping[str, Any], where: str = "report") -> TextResults:
    """Take the numbers out of a run's report.

    Raises:
        ResultError: a part is missing; the message names it and `where` it was looked for.
    """
    try:
        results = TextResults(
            config_name=report["config_name"],
            seeds=tuple(report["seeds"]),
            budget=report["budget"],
            dynamics=tuple(report["dynamics"]),
            arms=tuple(report["arms"]),
            share_of_oracle_gain=report["share_of_oracle_gain"],
            over_seeds_alone=report.get("over_seeds_alone", False),
        )
        for arm in ARMS:
            results.mean_curve(arm)
        results.comparison("best"), results.comparison("last")
    except (KeyError, IndexError, TypeError) as error:
        raise ResultError(f"{where}: not the numbers of a text_sbp run ({error!r})") from error
    return results


def read_committed(directory: Path) -> TextResults:
    """Read the tables committed for one configuration, `dynamics.json` and `comparison.json`.

    Raises:
        ResultError: a file is missing, is not JSON, or lacks a part.
    """
    tables = [_read_json(Path(directory) / name) for name in ("dynamics.json", "comparison.json")]
    return from_report({**tables[0], **tables[1]}, str(directory))


def read_newest_run(runs: Path) -> TextResults:
    """Read the newest `report.json` under `runs`; only a finished run has one.

    Raises:
        ResultError: there is none, or it lacks a part.
    """
    reports = sorted(Path(runs).rglob("report.json"), key=lambda path: (path.stat().st_mtime_ns, str(path)))
    if not reports:
        raise ResultError(f"{runs}: no finished run (no report.json)")
    return from_report(_read_json(reports[-1]), str(reports[-1]))


def _interval(values: Mapping[str, float]) -> Interval:
    return Interval(values["value"], values["low"], values["high"])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: cannot be read ({error})") from error
