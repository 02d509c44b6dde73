"""The numbers of one run of the text experiment, as figures and tables need them.

Read from the committed tables `dynamics.json` and `comparison.json` of one configuration, or from
the `report.json` of a finished run. Losses are in nats per token; a difference is arm − baseline, so
below zero is better than the baseline.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sbp_bayes.arms import ARMS, MUTED, in_order, reference_of
from sbp_bayes.results import ResultError, read_table

Against = Literal["best", "last"]
"""The arms compared at their best checkpoints on validation, with repetition at its best weight decay (the
headline), or at their last checkpoints, with one weight decay for all."""

CHECKPOINTS: Mapping[Against, str] = {"best": "best_validation", "last": "last"}


@dataclasses.dataclass(frozen=True)
class ReportedInterval:
    """An estimate and its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        """Whether the interval cannot tell the value from zero."""
        return self.low <= 0 <= self.high

    def __neg__(self) -> "ReportedInterval":
        return ReportedInterval(-self.value, -self.high, -self.low)


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """Validation loss of one arm against tokens seen, averaged over seeds or of one of them."""

    tokens: np.ndarray
    nats_per_token: np.ndarray


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All arms at one kind of checkpoint, in nats per token on the test split.

    Attributes:
        against: the kind of checkpoint.
        reference: the arm that the others are compared with.
        losses: loss of each arm, in the order of the table.
        deltas: arm − reference, of all other arms.
        shares: of the oracle's gain over the reference; None where it is undefined.
        records: of each arm: tokens seen, FLOPs, the hyper-parameters that were chosen, …
        bits_per_byte_per_nat: factor from nats per token to bits per byte on this split.
    """

    against: Against
    reference: str
    losses: Mapping[str, ReportedInterval]
    deltas: Mapping[str, ReportedInterval]
    shares: Mapping[str, ReportedInterval | None]
    records: Mapping[str, Mapping[str, Any]]
    bits_per_byte_per_nat: float

    @property
    def baseline(self) -> ReportedInterval:
        """Loss of the reference."""
        return self.losses[self.reference]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextResults:
    """Losses, training curves and budget of all arms of one configuration.

    Attributes:
        config_name: "demo", "laptop", …
        seeds: seeds of the training runs that are averaged.
        budget: tokens an arm, repetitions of the unique tokens, synthetic share.
        dynamics: validation curves, one for each arm and seed.
        arms: test losses, one for each arm and checkpoint.
        best_control: the arm of repetition or control that is best on validation, and SBP's difference to it;
            None where it was not run.
        over_seeds_alone: whether the test documents' scores were not kept, so that no interval could be over
            documents too.
    """

    config_name: str
    seeds: tuple[int, ...]
    budget: Mapping[str, float]
    dynamics: tuple[Mapping[str, Any], ...]
    arms: tuple[Mapping[str, Any], ...]
    best_control: Mapping[str, Any] | None
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
        """The arms whose curves are drawn: those with a colour of their own."""
        return tuple(
            arm for arm in in_order(row["arm"] for row in self.dynamics) if ARMS[arm].colour != MUTED
        )

    def mean_curve(self, arm: str) -> Curve:
        """Return the mean over seeds, on the first seed's validation points."""
        curves = self.seed_curves(arm)
        tokens = curves[0].tokens
        return Curve(tokens, np.mean([np.interp(tokens, c.tokens, c.nats_per_token) for c in curves], axis=0))

    def arm(self, name: str, checkpoint: str) -> Mapping[str, Any]:
        """Return the record of arm `name` at `checkpoint`."""
        return next(row for row in self.arms if (row["arm"], row["checkpoint"]) == (name, checkpoint))

    def comparison(self, against: Against) -> Comparison:
        """Compare all arms at one kind of checkpoint."""
        checkpoint = CHECKPOINTS[against]
        rows = {row["arm"]: row for row in self.arms if row["checkpoint"] == checkpoint}
        rows = {arm: rows[arm] for arm in in_order(rows)}
        reference = reference_of(rows, checkpoint)
        others = [arm for arm in rows if rows[arm]["delta"] is not None]
        return Comparison(
            against=against,
            reference=reference,
            losses={arm: _interval(row["loss"]) for arm, row in rows.items()},
            deltas={arm: _interval(rows[arm]["delta"]) for arm in others},
            shares={arm: _interval(share) if (share := rows[arm]["share"]) else None for arm in others},
            records=rows,
            bits_per_byte_per_nat=rows[reference]["bits_per_byte"] / rows[reference]["loss"]["value"],
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
            best_control=report["best_control"],
            over_seeds_alone=report.get("over_seeds_alone", False),
        )
        for against in CHECKPOINTS:
            for arm in results.comparison(against).records:
                results.mean_curve(arm)
    except (KeyError, IndexError, TypeError, StopIteration) as error:
        raise ResultError(f"{where}: not the numbers of a text_sbp run ({error!r})") from error
    return results


def read_committed(directory: Path) -> TextResults:
    """Read the tables committed for one configuration, `dynamics.json` and `comparison.json`.

    Raises:
        ResultError: a file is missing, is not JSON, or lacks a part.
    """
    tables = [read_table(Path(directory) / name) for name in ("dynamics.json", "comparison.json")]
    return from_report({**tables[0], **tables[1]}, str(directory))


def read_newest_run(runs: Path) -> TextResults:
    """Read the newest `report.json` under `runs`; only a finished run has one.

    Raises:
        ResultError: there is none, or it lacks a part.
    """
    reports = sorted(Path(runs).rglob("report.json"), key=lambda path: (path.stat().st_mtime_ns, str(path)))
    if not reports:
        raise ResultError(f"{runs}: no finished run (no report.json)")
    return from_report(read_table(reports[-1]), str(reports[-1]))


def _interval(values: Mapping[str, float]) -> ReportedInterval:
    return ReportedInterval(values["value"], values["low"], values["high"])
