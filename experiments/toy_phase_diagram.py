"""Where SBP helps: number of concepts × documents per concept, in one world.

`python -m experiments.toy_phase_diagram with toy.world=fact_views` trains the baseline, SBP and the oracle in
every cell of the grid and tables what SBP gains beside what is known of the world before any training.
"""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.runner import (
    make_experiment,
    run_command_line,
    run_folder,
    settings_of,
    workspace,
)
from experiments.toy_validation.config import ToyConfig
from experiments.toy_validation.data import repetitions
from experiments.toy_validation.run import ArmResult, run
from experiments.toy_validation.table import excess
from experiments.toy_validation.worlds import decode_toy, open_settings, toy_config
from sbp_bayes.base.config import decode, encode, fingerprint
from sbp_bayes.base.stage import Workspace
from sbp_bayes.base.store import write_json
from sbp_bayes.evaluation import mean_over_seeds

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseConfig:
    """The grid.

    Attributes:
        toy: everything else; its world has finitely many concepts.
        num_concepts, documents_per_concept: values of the two axes.
    """

    toy: ToyConfig
    num_concepts: tuple[int, ...] = (5, 10, 20, 40, 80)
    documents_per_concept: tuple[int, ...] = (6, 18, 54, 162)


def run_grid(config: PhaseConfig, work: Workspace, num_workers: int | None = None) -> list[dict[str, Any]]:
    """Return one record a cell; see `cell`."""
    cells = []
    for num_concepts in config.num_concepts:
        for documents_per_concept in config.documents_per_concept:
            toy = dataclasses.replace(
                config.toy,
                parameters={**config.toy.parameters, "num_concepts": num_concepts},
                documents_per_concept=documents_per_concept,
            )
            cells.append(cell(toy, run(toy, work, num_workers)))
            print(_line(cells[-1]), flush=True)
    return cells


def cell(toy: ToyConfig, results: list[ArmResult]) -> dict[str, Any]:
    """Return what was known before training, and what the training gave, over seeds.

    `information` is I(d1; d2) in nats a token by Monte Carlo over held-out pairs. Losses are those of best
    checkpoints on validation; gains are baseline − arm, nats a token, with 95% intervals over seeds.
    `learned` is each seed's share of I(d1; d2) by which the synthesizer is better than P(d2), and `flops` the
    mean over seeds of what each arm takes in all.
    """
    by_arm = {
        arm: sorted((r for r in results if r.arm == arm), key=lambda r: r.seed)
        for arm in ("baseline", "sbp", "oracle")
    }
    losses = {arm: excess(own, "best_validation") for arm, own in by_arm.items()}
    measures = [r.synthesizer for r in by_arm["sbp"] if r.synthesizer is not None]
    gains = losses["baseline"] - losses["sbp"]
    interval = mean_over_seeds(gains).interval() if len(gains) > 1 else None
    return {
        "world": toy.world,
        "num_concepts": toy.parameters["num_concepts"],
        "documents_per_concept": toy.documents_per_concept,
        "unique_documents": toy.parameters["num_concepts"] * toy.documents_per_concept,
        "repetitions": repetitions(toy),
        "information": float(np.mean([m["marginal"] - m["floor"] for m in measures])),
        "baseline": float(losses["baseline"].mean()),
        "gain": float(gains.mean()),
        "gain_half_width": None if interval is None else interval.high - interval.estimate,
        "oracle_gain": float((losses["baseline"] - losses["oracle"]).mean()),
        "synthesizer_kl": float(np.mean([m["kl"] for m in measures])),
        "flops": {arm: float(np.mean([r.flops for r in own])) for arm, own in by_arm.items()},
        "learned": [(m["marginal"] - m["loss"]) / (m["marginal"] - m["floor"]) for m in measures],
    }


def _line(record: Mapping[str, Any]) -> str:
    return (
        f"{record['num_concepts']:>5} concepts × {record['documents_per_concept']:>3} documents: "
        f"I(d1;d2) {record['information']:.4f}, baseline {record['baseline']:.4f} above Bayes, "
        f"SBP gains {record['gain']:+.4f}, oracle {record['oracle_gain']:+.4f}"
    )


DEFAULT = PhaseConfig(toy=toy_config("fact_views", arms=("baseline", "sbp", "oracle"), seeds=(0, 1, 2)))
_SETTINGS = encode(DEFAULT) | {"toy": open_settings(DEFAULT.toy)}
experiment = make_experiment("toy_phase_diagram", {"fact_views": _SETTINGS}, default="fact_views")


@experiment.main
def main(_config: dict[str, Any]) -> dict[str, Any]:
    """Run the grid and keep its cells in the run's folder."""
    settings = settings_of(_config)
    config = decode(PhaseConfig, settings | {"toy": encode(decode_toy(settings["toy"]))})
    cells = run_grid(config, workspace(_config))
    folder = run_folder(experiment)
    if folder is not None:
        record = {"schema_version": SCHEMA_VERSION, "config_fingerprint": fingerprint(encode(config))}
        write_json(folder / "toy_phase_diagram.json", record | {"config": encode(config), "cells": cells})
    return {"largest_gain": max(record["gain"] for record in cells)}


if __name__ == "__main__":
    sys.exit(run_command_line(experiment, sys.argv[1:]))
