"""The arms of one world side by side: how far each is above Bayes, and its share of the oracle's gain."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.toy_validation.config import ToyConfig
from experiments.toy_validation.run import ArmResult
from paper_figures.numbers import count
from sbp_bayes.arms import ARMS, CHECKPOINTS, in_order
from sbp_bayes.base.config import encode, fingerprint
from sbp_bayes.comparison import best_control, compared
from sbp_bayes.evaluation import mean_over_seeds

SCHEMA_VERSION = 3


def summary(config: ToyConfig, results: Sequence[ArmResult]) -> dict[str, Any]:
    """Return everything that tables, claims and figures need of a run, as JSON types.

    For every arm and checkpoint: `mean` above Bayes in nats a token (above 0 where Bayes isn't known), its
    95% interval over seeds, `gain`, the same of the paired difference to the baseline, and `share`, the same
    of the gain over the oracle's, None where the oracle's gain cannot be told from 0. Seeds draw worlds and
    documents of their own, so there is one number per seed; one seed has no intervals. `best_control` is the
    arm of repetition or control that is best on validation, with SBP's paired difference to it.
    """
    by_arm = {
        arm: sorted((r for r in results if r.arm == arm), key=lambda r: r.seed)
        for arm in in_order(result.arm for result in results)
    }
    losses = {
        checkpoint: {arm: excess(own, checkpoint)[:, None] for arm, own in by_arm.items()}
        for checkpoint in CHECKPOINTS
    }
    records = {(r["arm"], r["checkpoint"]): r for r in compared(losses, np.ones(1), against_tuned=False)}
    validation = {
        arm: np.array(
            [r.validation if r.validation is not None else r.losses["best_validation"] for r in own]
        )
        for arm, own in by_arm.items()
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "config": encode(config),
        "config_fingerprint": fingerprint(encode(config)),
        "arms": [
            {
                "arm": arm,
                "flops": float(np.mean([r.flops for r in own])),
                "tokens_seen": own[0].tokens_seen,
                **{checkpoint: _written(records[arm, checkpoint]) for checkpoint in CHECKPOINTS},
                "recall": _recall(own),
            }
            for arm, own in by_arm.items()
        ],
        "best_control": best_control(validation, losses["best_validation"], np.ones(1)),
        "results": [encode(result) for result in results],
    }


def _recall(own: Sequence[ArmResult]) -> dict[str, Any] | None:
    """Return the mean share of facts recalled with its interval over seeds, and the Bayes-optimal share."""
    known = [result.recall for result in own if result.recall is not None]
    if not known:
        return None
    bayes = float(np.mean([r["bayes"] for r in known]))
    return {**_over_seeds([r["recall"] for r in known]), "bayes": bayes}


def excess(results: Sequence[ArmResult], checkpoint: str) -> np.ndarray:
    """Return each seed's test loss above the Bayes-optimal one, nats a token, (seeds,)."""
    return np.array([r.losses[checkpoint] - (r.bayes or 0.0) for r in results])


def _written(record: Mapping[str, Any]) -> dict[str, Any]:
    delta, loss = record["delta"], record["loss"]
    written: dict[str, Any] = {"mean": loss["value"], "low": loss["low"], "high": loss["high"]}
    if delta is not None:
        ends = [None if delta[end] is None else -delta[end] for end in ("high", "low")]
        written["gain"] = {"mean": -delta["value"], "low": ends[0], "high": ends[1]}
        share = record["share"]
        written["share"] = share and {"mean": share["value"], "low": share["low"], "high": share["high"]}
    return written


def print_arms(record: Mapping[str, Any]) -> None:
    """Print a line for each arm, at its best checkpoint on validation and at its last, with its FLOPs."""
    config = record["config"]
    known = all(result["bayes"] is not None for result in record["results"])
    above = "above the Bayes-optimal loss" if known else "loss; Bayes has no closed form here"
    seeds = len(config["seeds"])
    over = "one seed: no intervals" if seeds == 1 else f"95% intervals over {seeds} seeds"
    print(f"{config['world']}: nats a token, {above}; {over}\n")
    head = ("best on validation", "gain", "share", "last", "tokens", "FLOPs")
    print(f"{'arm':<24}{head[0]:>26}{head[1]:>27}{head[2]:>17}{head[3]:>9}{head[4]:>9}{head[5]:>10}")
    for arm in record["arms"]:
        best, last = arm["best_validation"], arm["last"]
        gain = _text(best["gain"]) if "gain" in best else ""
        share = _text(best["share"], ".0%") if best.get("share") else ""
        numbers = f"{last['mean']:>9.4f}{count(arm['tokens_seen']):>9}{arm['flops']:>10.2e}"
        print(f"{ARMS[arm['arm']].label:<24}{_text(best):>26}{gain:>27}{share:>17}{numbers}")
    _print_gauges(record)
    _print_facts(record)
    if record["best_control"] is not None:
        control = record["best_control"]
        delta = {"mean": control["delta"]["value"]} | control["delta"]
        print(f"\nSBP − its best control ({ARMS[control['arm']].label}): {_text(delta)} nats a token")


def _print_gauges(record: Mapping[str, Any]) -> None:
    """Print what synthesizers learn of d2 from d1, beside I(d1; d2) where it is known."""
    by_arm: dict[str, list[Mapping[str, Any]]] = {}
    for result in record["results"]:
        if result["net_information"] is not None:
            by_arm.setdefault(result["arm"], []).append(result)
    if not by_arm:
        return
    print("\nwhat synthesizers learn of d2 from d1, nats a token")
    head = ("net information", "over exact P(d2)", "I(d1; d2)", "use of d1")
    print(f"{'':<24}{head[0]:>26}{head[1]:>27}{head[2]:>17}{head[3]:>26}")
    for arm, own in by_arm.items():
        columns = [_text(_over_seeds([result["net_information"] for result in own]))]
        exact = [result["synthesizer"] for result in own if result["synthesizer"]]
        columns.append(_text(_over_seeds([e["marginal"] - e["loss"] for e in exact])) if exact else "")
        columns.append(f"{np.mean([e['marginal'] - e['floor'] for e in exact]):.4f}" if exact else "")
        columns.append(_text(_over_seeds([result["use_of_d1"] for result in own])))
        print(f"{ARMS[arm].label:<24}{columns[0]:>26}{columns[1]:>27}{columns[2]:>17}{columns[3]:>26}")


def _over_seeds(values: Sequence[float]) -> dict[str, float | None]:
    """Return the mean over seeds with its interval; one seed has none."""
    if len(values) == 1:
        return {"mean": values[0], "low": None, "high": None}
    interval = mean_over_seeds(np.array(values)).interval()
    return {"mean": interval.estimate, "low": interval.low, "high": interval.high}


def _print_facts(record: Mapping[str, Any]) -> None:
    """Print the facts that each arm recalls, and what synthetic text states, in worlds that have them."""
    asked = [arm for arm in record["arms"] if arm.get("recall")]
    if asked:
        print(f"\nfacts recalled, closed book (nobody can exceed {asked[0]['recall']['bayes']:.3f})")
        for arm in asked:
            print(f"{ARMS[arm['arm']].label:<24}{_text(arm['recall'], '.3f'):>26}")
    seed = record["config"]["seeds"][0]
    read = {r["arm"]: r["statements"] for r in record["results"] if r["seed"] == seed and r.get("statements")}
    if read:
        any_arm = next(iter(read.values()))
        rows = {"real documents": any_arm["real"], "exact posterior": any_arm["exact"]}
        rows |= {ARMS[arm].label: statements["synthetic"] for arm, statements in read.items()}
        print(f"\nwhat documents state beside their seed document, shares (seed {seed})")
        print(f"{'':<24}" + "".join(f"{kind.replace('_', ' '):>17}" for kind in any_arm["real"]))
        for name, rates in rows.items():
            print(f"{name:<24}" + "".join(f"{rate['value']:>17.3f}" for rate in rates.values()))


def _text(interval: Mapping[str, Any], digits: str = ".4f") -> str:
    if interval["low"] is None:
        return f"{interval['mean']:{digits}}"
    return f"{interval['mean']:{digits}} [{interval['low']:{digits}}, {interval['high']:{digits}}]"
