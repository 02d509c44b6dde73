"""The compute-matched comparison on test: losses, paired differences and the share of the oracle's gain."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.text_sbp.run import ARMS, CHECKPOINTS, RunOutput
from sbp_bayes.base.log_space import perplexity
from sbp_bayes.evaluation import Arm, Bootstrap, Interval


def compare(output: RunOutput) -> dict[str, Any]:
    """Return "arms" and "share_of_oracle_gain" of the report.

    Every interval is over test documents, paired between arms, and over seeds where there are several.
    Headline ("best"): every arm at its best checkpoint on validation, the baseline also at its best weight
    decay; as in the paper ("last"): every arm at its last, all with one weight decay.
    """
    bootstrap = Bootstrap(num_resamples=output.config.num_resamples)
    scores = {
        checkpoint: {arm: {run.seed: run.scores(arm, checkpoint) for run in output.seeds} for arm in ARMS}
        for checkpoint in CHECKPOINTS
    }
    references = {
        "delta_vs_baseline_last": scores["last"]["baseline"],
        "delta_vs_baseline_best": scores["best_validation"]["baseline"],
    }
    arms = [
        _arm(output, arm, checkpoint, scores[checkpoint][arm], bootstrap)
        | {
            name: _interval(bootstrap.difference(scores[checkpoint][arm], reference))
            for name, reference in references.items()
        }
        for checkpoint in CHECKPOINTS
        for arm in ARMS
    ]
    shares = {
        name: _share(bootstrap, scores[checkpoint])
        for name, checkpoint in (("best", "best_validation"), ("last", "last"))
    }
    return {"arms": arms, "share_of_oracle_gain": shares}


def _arm(output: RunOutput, arm: str, checkpoint: str, scores: Arm, bootstrap: Bootstrap) -> dict[str, Any]:
    loss = bootstrap.loss(scores)
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


def _share(bootstrap: Bootstrap, scores: Mapping[str, Arm]) -> dict[str, Any]:
    found = bootstrap.share_of_gain(baseline=scores["baseline"], arm=scores["sbp"], oracle=scores["oracle"])
    share = {"value": None, "low": None, "high": None} if found.share is None else _interval(found.share)
    return {
        **share,
        "defined": found.share is not None,
        "gain": _interval(found.gain),
        "oracle_gain": _interval(found.oracle_gain),
    }


def _interval(interval: Interval) -> dict[str, Any]:
    return {"value": interval.estimate, "low": interval.low, "high": interval.high}


def _mean(values: list[Any]) -> float:
    return float(np.mean(values))
