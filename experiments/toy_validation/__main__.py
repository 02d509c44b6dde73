"""`python -m experiments.toy_validation with world=fact_views`: SBP where every probability is known."""

import sys
from typing import TYPE_CHECKING, Any

from experiments.runner import (
    make_experiment,
    run_command_line,
    run_folder,
    settings_of,
    workspace,
)
from experiments.toy_validation.run import run
from experiments.toy_validation.table import print_arms, summary
from experiments.toy_validation.worlds import BEST, decode_toy, open_settings, toy_config
from sbp_bayes.base.store import write_json

if TYPE_CHECKING:
    from sacred.run import Run

CONFIGS = {
    "paper": open_settings(toy_config("fact_views")),
    "best": open_settings(toy_config("fact_views", **BEST)),
}
"""The named configurations, each for any `world=`: as in the paper, and what makes the most of every arm."""

experiment = make_experiment("toy_validation", CONFIGS, default="paper")


@experiment.main
def main(_config: dict[str, Any], _run: "Run") -> dict[str, Any]:
    """Run the arms in one world, print them, and keep their numbers in the run's folder."""
    config = decode_toy(settings_of(_config))
    results = run(config, workspace(_config))
    record = summary(config, results)
    folder = run_folder(experiment)
    if folder is not None:
        write_json(folder / "toy_validation.json", record)
    for result in results:
        for checkpoint, loss in result.losses.items():
            _run.log_scalar(f"{result.arm}.{checkpoint}.loss_nats_per_token", loss, result.seed)
    print_arms(record)
    if folder is not None:
        print(f"\nrun {_run._id}   numbers {folder / 'toy_validation.json'}")
    return {arm["arm"]: arm["best_validation"]["mean"] for arm in record["arms"]}


if __name__ == "__main__":
    sys.exit(run_command_line(experiment, sys.argv[1:]))
