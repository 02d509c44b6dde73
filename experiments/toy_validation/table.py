"""The arms of one world side by side: how far each is above Bayes, and its share of the oracle's gain."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.toy_validation.config import ToyConfig
from experiments.toy_validation.run import CHECKPOINTS, ArmResult
from sbp_bayes.base.config import encode, fingerprint
from sbp_bayes.evaluation import mean_over_seeds, share_interval

SCHEMA_VERSION = 2


def summary(config: ToyConfig, results: Sequence[ArmResult]) -> dict[str, Any]:
    """Return everything that tables, claims and figures need of a run, as JSON types.

    For every arm and checkpoint: `mean` above Bayes in nats a token (above 0 where Bayes isn't known), its
    95% interval over seeds, `gain`, the same of the paired difference to the baseline, and `share`, the same
    of the gain over the oracle's, None where the oracle's gain cannot be told from 0. Seeds draw worlds and
    documents of their own, so there is one number per seed; one seed has no intervals.
    """
    trained = {result.arm for result in results}
    by_arm: dict[str, list[ArmResult]] = {
        arm: sorted((r for r in results if r.arm == arm), key=lambda r: r.seed)
        for arm in config.arms
        if arm in trained
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "config": encode(config),
        "config_fingerprint": fingerprint(encode(config)),
        "arms": [_arm(by_arm, arm) for arm in by_arm],
        "results": [encode(result) for result in results],
    }


def _arm(by_arm: Mapping[str, list[ArmResult]], arm: str) -> dict[str, Any]:
    own, baseline = by_arm[arm], by_arm.get("baseline", [])
    record: dict[str, Any] = {
        "arm": arm,
        "flops": float(np.mean([r.flops for r in own])),
        "tokens_seen": own[0].tokens_seen,
    }
    for checkpoint in CHECKPOINTS:
        record[checkpoint] = _interval(excess(own, checkpoint))
        if baseline:
            gain = excess(baseline, checkpoint) - excess(own, checkpoint)
            record[checkpoint]["gain"] = _interval(gain)
        if baseline and by_arm.get("oracle"):
            record[checkpoint]["share"] = _share(baseline, own, by_arm["oracle"], checkpoint)
    return record


def excess(results: Sequence[ArmResult], checkpoint: str) -> np.ndarray:
    """Return each seed's test loss above the Bayes-optimal one, nats a token, (seeds,)."""
    return np.array([r.losses[checkpoint] - (r.bayes or 0.0) for r in results])


def _interval(values: np.ndarray) -> dict[str, Any]:
    if len(values) < 2:
        return {"mean": float(values.mean()), "low": None, "high": None}
    interval = mean_over_seeds(values).interval()
    return {"mean": interval.estimate, "low": interval.low, "high": interval.high}


def _share(
    baseline: Sequence[ArmResult], own: Sequence[ArmResult], oracle: Sequence[ArmResult], checkpoint: str
) -> dict[str, Any] | None:
    base_S1, own_S1, oracle_S1 = (excess(results, checkpoint)[:, None] for results in (baseline, own, oracle))
    if len(own) < 2:
        gain, possible = float((base_S1 - own_S1).item()), float((base_S1 - oracle_S1).item())
        return {"mean": gain / possible, "low": None, "high": None} if possible > 0 else None
    share = share_interval(base_S1, own_S1, oracle_S1, np.ones(1))
    return None if share is None else {"mean": share.estimate, "low": share.low, "high": share.high}


def print_arms(record: Mapping[str, Any]) -> None:
    """Print one line an arm, at its best checkpoint on validation and at its last, with its total FLOPs."""
    config = record["config"]
    known = all(result["bayes"] is not None for result in record["results"])
    above = "above the Bayes-optimal loss" if known else "loss; Bayes has no closed form here"
    seeds = len(config["seeds"])
    over = "one seed: no intervals" if seeds == 1 else f"95% intervals over {seeds} seeds"
    print(f"{config['world']}: nats a token, {above}; {over}\n")
    print(f"{'arm':<18}{'best on validation':>28}{'gain':>27}{'share':>19}{'last':>10}{'FLOPs':>11}")
    for arm in record["arms"]:
        best, last = arm["best_validation"], arm["last"]
        gain = _text(best["gain"]) if "gain" in best else ""
        share = _text(best["share"], ".0%") if best.get("share") else ""
        print(
            f"{arm['arm']:<18}{_text(best):>28}{gain:>27}{share:>19}{last['mean']:>10.4f}{arm['flops']:>11.2e}"
        )


def _text(interval: Mapping[str, Any], digits: str = ".4f") -> str:
    if interval["low"] is None:
        return f"{interval['mean']:{digits}}"
    return f"{interval['mean']:{digits}} [{interval['low']:{digits}}, {interval['high']:{digits}}]"
