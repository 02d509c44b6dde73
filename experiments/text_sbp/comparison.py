"""The compute-matched comparison on test: losses, paired differences and the share of the oracle's gain."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.text_sbp.run import ARMS, CHECKPOINTS, RunOutput
from sbp_bayes.base.log_space import perplexity
from sbp_bayes.evaluation import (
    Arm,
    Interval,
    difference_interval,
    loss_interval,
    pair_arms,
    share_interval,
)


def compare(output: RunOutput) -> dict[str, Any]:
    """Return "arms" and "share_of_oracle_gain" of the report.

    Every interval is over test documents, paired between arms, and over seeds where there are several.
    Headline ("best"): every arm at its best checkpoint on validation, the baseline also at its best weight
    decay; as in the paper ("last"): every arm at its last, all with one weight decay.
    """
    scores = {
        checkpoint: {arm: {run.seed: run.scores(arm, checkpoint) for run in output.seeds} for arm in ARMS}
        for checkpoint in CHECKPOINTS
    }
    references = {
        "delta_vs_baseline_last": scores["last"]["baseline"],
        "delta_vs_baseline_best": scores["best_validation"]["baseline"],
    }
    arms = [
        _arm(output, arm, checkpoint, scores[checkpoint][arm])
        | {name: _difference(scores[checkpoint][arm], reference) for name, reference in references.items()}
        for checkpoint in CHECKPOINTS
        for arm in ARMS
    ]
    shares = {
        name: _share(scores[checkpoint])
        for name, checkpoint in (("best", "best_validation"), ("last", "last"))
    }
    return {"arms": arms, "share_of_oracle_gain": shares}


def _arm(output: RunOutput, arm: str, checkpoint: str, scores: Arm) -> dict[str, Any]:
    (loss_SD,), tokens_D = pair_arms(scores)
    loss = loss_interval(loss_SD, tokens_D)
    stages = [run.pretraining(arm, checkpoint) for run in output.seeds]
    rows = [row for row in output.rows("") if (row.arm, row.checkpoint) == (arm, checkpoint)]
    return {
        "arm": arm,
        "checkpoint": checkpoint,
        "nats_per_token": loss.estimate,
        "nats_low": loss.low,
        "nats_high": loss.high,
        "bits_per_byte": _mean([row.bits_per_byte for row in rows]),
        "perplexity": perplexity(loss.estimate),
        "per_seed": [row.loss_nats_per_token for row in rows],
        "tokens_seen": _mean([row.tokens_seen for row in rows]),
        "unique_tokens": _mean([row.unique_tokens for row in rows]),
        "total_flops": _mean([row.total_flops for row in rows]),
        "weight_decay": [stage.config["optimiser"]["weight_decay"] for stage in stages],
        "epochs_of_real": _mean([stage.counts["epochs_by_source"]["real"] for stage in stages]),
    }


def _share(scores: Mapping[str, Arm]) -> dict[str, Any]:
    (baseline_SD, sbp_SD, oracle_SD), tokens_D = pair_arms(*(scores[arm] for arm in ARMS))
    share = share_interval(baseline_SD, sbp_SD, oracle_SD, tokens_D)
    return {
        **({"value": None, "low": None, "high": None} if share is None else _interval(share)),
        "defined": share is not None,
        "gain": _difference(scores["baseline"], scores["sbp"]),
        "oracle_gain": _difference(scores["baseline"], scores["oracle"]),
    }


def _difference(first: Arm, second: Arm) -> dict[str, Any]:
    (first_SD, second_SD), tokens_D = pair_arms(first, second)
    return _interval(difference_interval(first_SD, second_SD, tokens_D))


def _interval(interval: Interval) -> dict[str, Any]:
    return {"value": interval.estimate, "low": interval.low, "high": interval.high}


def _mean(values: list[Any]) -> float:
    return float(np.mean(values))
