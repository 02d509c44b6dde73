"""The comparison on test as the report has it: every arm's losses, differences and shares, and its cost."""

from typing import Any

import numpy as np

from experiments.text_sbp.run import RunOutput
from sbp_bayes.base.units import perplexity
from sbp_bayes.comparison import CHECKPOINTS, ArmRun, best_control, compared
from sbp_bayes.evaluation import pair_arms


def compare(output: RunOutput) -> dict[str, Any]:
    """Return "arms" and "best_control" of the report.

    Every interval is over test documents, paired between arms, and over seeds where there are several.
    """
    arms, losses = output.arms, {}
    for checkpoint in CHECKPOINTS:
        by_seed = [{run.seed: run.scores[checkpoint] for run in runs} for runs in arms.values()]
        loss_ASD, tokens_D = pair_arms(*by_seed)
        losses[checkpoint] = dict(zip(arms, loss_ASD, strict=True))
    records = [
        _record(record, arms[record["arm"]], record["checkpoint"]) for record in compared(losses, tokens_D)
    ]
    validation = {
        arm: np.array([run.validation_nats_per_token for run in runs]) for arm, runs in arms.items()
    }
    return {
        "arms": records,
        "best_control": best_control(validation, losses["best_validation"], tokens_D),
    }


def _record(record: dict[str, Any], runs: list[ArmRun], checkpoint: str) -> dict[str, Any]:
    loss, scores = record["loss"], [run.scores[checkpoint] for run in runs]
    chosen = [run.trained.config for run in runs]
    return record | {
        "perplexity": perplexity(loss["value"]),
        "bits_per_byte": _mean([one.bits_per_byte for one in scores]),
        "per_seed": [one.nats_per_token for one in scores],
        "tokens_seen": _mean([run.tokens_seen(checkpoint) for run in runs]),
        "unique_tokens": _mean([run.unique_tokens for run in runs]),
        "total_flops": _mean([run.total_flops(checkpoint) for run in runs]),
        "tries": len(runs[0].tries),
        "weight_decay": [config["optimiser"]["weight_decay"] for config in chosen],
        "dropout": [config["dropout"] for config in chosen],
        "epochs_of_real": _mean([run.trained.counts["epochs_by_source"]["real"] for run in runs]),
    }


def _mean(values: list[Any]) -> float:
    return float(np.mean(values))
