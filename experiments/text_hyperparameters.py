"""Which learning rate and weight decay serve the repetition baseline best, on validation alone.

`python -m experiments.text_hyperparameters with demo` pretrains the baseline of a text_sbp
configuration once for every pair of values and tables the validation losses. Other arms then take the
baseline's best settings: nobody wins by a badly tuned baseline (arXiv 2509.14786 tunes the weight decay
up to 30 times the usual value when text is repeated).
"""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Mapping
from typing import Any

from experiments.runner import (
    make_experiment,
    run_command_line,
    run_folder,
    settings_of,
    workspace,
)
from experiments.text_sbp.bench import load_data
from experiments.text_sbp.config import CONFIGS, TextSbpConfig
from experiments.text_sbp.content import VALIDATION_LOSS
from sbp_bayes.base.config import decode
from sbp_bayes.base.stage import Manifest, Workspace
from sbp_bayes.base.store import read_json_lines, write_json
from sbp_bayes.base.workers import side_by_side
from sbp_bayes.corpus import choose_unique, prepare_corpus
from sbp_bayes.pretraining import pretrain


@dataclasses.dataclass(frozen=True, kw_only=True)
class HyperparametersConfig:
    """The grid, and the experiment whose baseline is tuned.

    Attributes:
        text_sbp: the experiment; its first seed is used.
        peak_lrs, weight_decays: values tried, every one with every other.
    """

    text_sbp: TextSbpConfig
    peak_lrs: tuple[float, ...] = (5e-3, 1e-2, 2e-2)
    weight_decays: tuple[float, ...] = (0.1, 0.5, 2.0)


def run(config: HyperparametersConfig, work: Workspace) -> list[dict[str, Any]]:
    """Return one record a pair of values: both, and the baseline's best and last validation loss."""
    corpus = prepare_corpus(config.text_sbp.corpus, work)
    load_data(corpus, verify=True)
    grid = itertools.product(config.peak_lrs, config.weight_decays)
    calls = [functools.partial(_record, config.text_sbp, corpus, work, *values) for values in grid]
    return side_by_side(calls)


def _record(
    settings: TextSbpConfig, corpus: Manifest, work: Workspace, peak_lr: float, weight_decay: float
) -> dict[str, Any]:
    data, seed = load_data(corpus), settings.seeds[0]
    stage = pretrain(
        settings.pretrain(seed, peak_lr=peak_lr, weight_decay=weight_decay),
        choose_unique(data.pool, settings.unique_tokens, seed),
        None,
        data.validation,
        work,
        tokenizer=data.tokenizer,
        label=f"lr {peak_lr:g}, decay {weight_decay:g}",
    )
    return {
        "peak_lr": peak_lr,
        "weight_decay": weight_decay,
        "best_validation_nats_per_token": stage.counts["best_validation_nats_per_token"],
        "last_validation_nats_per_token": _last_validation(stage),
        "best_step": stage.counts["best_step"],
        "num_steps": stage.counts["num_steps"],
    }


def _last_validation(stage: Manifest) -> float:
    history = read_json_lines(stage.directory / "metrics.jsonl")
    return float([r[VALIDATION_LOSS] for r in history if VALIDATION_LOSS in r][-1])


def print_records(records: list[dict[str, Any]]) -> None:
    """Print the table, the best settings first."""
    print(f"{'peak_lr':>9}{'weight_decay':>14}{'best val':>10}{'last val':>10}{'best step':>11}")
    for r in sorted(records, key=lambda r: r["best_validation_nats_per_token"]):
        losses = f"{r['best_validation_nats_per_token']:>10.4f}{r['last_validation_nats_per_token']:>10.4f}"
        step = f"{r['best_step']}/{r['num_steps']}"
        print(f"{r['peak_lr']:>9g}{r['weight_decay']:>14g}{losses}{step:>11}")


_GRIDS: Mapping[str, HyperparametersConfig] = {
    name: HyperparametersConfig(text_sbp=config) for name, config in CONFIGS.items()
}
experiment = make_experiment("text_hyperparameters", _GRIDS, default="demo")


@experiment.main
def main(_config: dict[str, Any]) -> dict[str, Any]:
    """Run the grid, print its table and keep it in the run's folder."""
    records = run(decode(HyperparametersConfig, settings_of(_config)), workspace(_config))
    print_records(records)
    folder = run_folder(experiment)
    if folder is not None:
        write_json(folder / "hyperparameters.json", records)
    return min(records, key=lambda r: r["best_validation_nats_per_token"])


if __name__ == "__main__":
    sys.exit(run_command_line(experiment, sys.argv[1:]))
