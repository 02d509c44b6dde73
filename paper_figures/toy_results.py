"""The numbers of the toy worlds that are committed with the claims; losses in nats per token."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sbp_bayes.results import ResultError, read_table


@dataclasses.dataclass(frozen=True)
class ToyResults:
    """What `python -m experiments.claims` kept.

    Attributes:
        worlds: by name, the record of `toy_validation`.
        phase_diagram: the record of `toy_phase_diagram`; None where there is none.
        rounds: the record of `toy_rounds`; None where there is none.
        predictions: gains foretold and measured, in settings of the phase diagram and in other worlds.
    """

    worlds: Mapping[str, Mapping[str, Any]]
    phase_diagram: Mapping[str, Any] | None
    rounds: Mapping[str, Any] | None
    predictions: Mapping[str, list[Mapping[str, Any]]]


def read_claims(directory: Path) -> ToyResults:
    """Read the folder that `python -m experiments.claims` wrote.

    Raises:
        ResultError: it is missing, or a file is damaged.
    """
    records = sorted(directory.glob("toy_validation_*.json"))
    if not records:
        raise ResultError(f"{directory}: no toy worlds' numbers (python -m experiments.claims writes them)")
    return ToyResults(
        worlds={path.stem.removeprefix("toy_validation_"): read_table(path) for path in records},
        phase_diagram=_read_if_kept(directory / "toy_phase_diagram.json"),
        rounds=_read_if_kept(directory / "toy_rounds.json"),
        predictions=read_table(directory / "predictions.json"),
    )


def _read_if_kept(path: Path) -> Any:
    return read_table(path) if path.exists() else None
