"""The runs that claims are judged by, and what is kept of them in the repository."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.toy_validation.config import ToyConfig
from experiments.toy_validation.data import repetitions
from sbp_bayes.base.config import decode
from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.store import read_json, write_json
from sbp_bayes.runs import Run, list_runs

RESULTS = Path("experiments/results/claims")
NUMBERS = {
    "toy_validation": "toy_validation.json",
    "toy_phase_diagram": "toy_phase_diagram.json",
    "toy_rounds": "toy_rounds.json",
}
"""Experiment → the file of its numbers in a run's folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """The newest finished run of each question.

    Attributes:
        validations: by world, what `toy_validation` measured.
        phase_diagram, rounds: what those experiments measured; None where there is no run.
        sources: for each, the run's id, experiment, world, configuration's fingerprint and seconds.
    """

    validations: Mapping[str, Mapping[str, Any]]
    phase_diagram: Mapping[str, Any] | None
    rounds: Mapping[str, Any] | None
    sources: list[dict[str, Any]]

    def results(self, world: str, arm: str) -> list[Mapping[str, Any]]:
        """Return one arm's results in a world, by seed; empty where the arm was not run."""
        found = [r for r in self.validations[world]["results"] if r["arm"] == arm]
        return sorted(found, key=lambda result: result["seed"])

    def excess(self, world: str, arm: str) -> np.ndarray:
        """Return each seed's loss at the best checkpoint on validation above Bayes, nats a token."""
        return np.array(
            [r["losses"]["best_validation"] - (r["bayes"] or 0.0) for r in self.results(world, arm)]
        )

    def gain(self, world: str, over: str = "baseline") -> np.ndarray:
        """Return each seed's loss of the arm `over` less SBP's, at best checkpoints, nats a token."""
        return self.excess(world, over) - self.excess(world, "sbp")

    def measure(self, world: str, name: str, arm: str = "sbp") -> np.ndarray:
        """Return a measure of one arm's synthesizer, (seeds,); see `measure_synthesizer`."""
        return np.array([r["synthesizer"][name] for r in self.results(world, arm)])

    def is_measured(self, world: str) -> bool:
        """Whether a synthesizer was compared with the exact posterior predictive in this world."""
        return any(result["synthesizer"] for result in self.results(world, "sbp"))

    def information(self, world: str) -> float:
        """Return I(d1; d2) in nats a token, the mean over seeds; NaN where no synthesizer was tuned."""
        if not self.is_measured(world):
            return float("nan")
        return float(np.mean(self.measure(world, "marginal") - self.measure(world, "floor")))

    def repetitions(self, world: str) -> float:
        """Return how often the budget repeats D_unique in this world."""
        return repetitions(decode(ToyConfig, self.validations[world]["config"]))


def collect(runs: Path) -> Evidence:
    """Read the newest finished runs in the folder `runs`.

    Raises:
        StoreError: the folder is missing, or holds no finished run of `toy_validation`.
    """
    validations: dict[str, Any] = {}
    others: dict[str, Any] = {}
    sources: dict[tuple[str, str], dict[str, Any]] = {}
    for run, record in _finished(runs):
        config = record["config"]
        world = config.get("world") or config["toy"]["world"]
        if run.experiment == "toy_validation":
            validations[world] = record
            key = (run.experiment, world)
        else:
            others[run.experiment] = record
            key = (run.experiment, "")
        sources[key] = {
            "run": run.id,
            "experiment": run.experiment,
            "world": world,
            "config_fingerprint": record["config_fingerprint"],
            "seconds": run.seconds,
        }
    if not validations:
        raise StoreError(f"{runs}: no finished run of toy_validation (python -m experiments.toy_validation)")
    return Evidence(
        validations=validations,
        phase_diagram=others.get("toy_phase_diagram"),
        rounds=others.get("toy_rounds"),
        sources=list(sources.values()),
    )


def read_kept(directory: Path) -> Evidence:
    """Read what `keep` wrote, so that claims can be judged anew without the runs.

    Raises:
        StoreError: the folder holds no numbers of `toy_validation`, or a file is damaged.
    """
    start, end = NUMBERS["toy_validation"].split(".")
    records = {
        path.stem.removeprefix(f"{start}_"): read_json(path)
        for path in sorted(directory.glob(f"{start}_*.{end}"))
    }
    if not records:
        raise StoreError(f"{directory}: no numbers of toy_validation are kept here")
    others = {name: directory / NUMBERS[name] for name in ("toy_phase_diagram", "toy_rounds")}
    found = {name: read_json(path) if path.exists() else None for name, path in others.items()}
    sources = read_json(directory / "manifest.json")["sources"]
    ran = [source["world"] for source in sources if source["experiment"] == "toy_validation"]
    return Evidence(
        validations={world: records[world] for world in sorted(records, key=ran.index)},
        phase_diagram=found["toy_phase_diagram"],
        rounds=found["toy_rounds"],
        sources=sources,
    )


def _finished(runs: Path) -> Iterator[tuple[Run, dict[str, Any]]]:
    for run in list_runs(runs):
        if run.experiment in NUMBERS and run.status == "completed":
            path = run.directory / NUMBERS[run.experiment]
            if path.exists():
                yield run, read_json(path)


def keep(evidence: Evidence, directory: Path) -> None:
    """Write what the claims were judged by, and a manifest that names the runs, to `directory`."""
    for world, record in evidence.validations.items():
        write_json(directory / f"toy_validation_{world}.json", record)
    if evidence.phase_diagram is not None:
        write_json(directory / NUMBERS["toy_phase_diagram"], evidence.phase_diagram)
    if evidence.rounds is not None:
        write_json(directory / NUMBERS["toy_rounds"], evidence.rounds)
    write_json(directory / "manifest.json", {"sources": evidence.sources})
