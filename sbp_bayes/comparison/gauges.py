"""Net information and use of d1 of every arm that has a synthesizer, as a report has them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sbp_bayes.comparison.training import ArmRun
from sbp_bayes.evaluation import GAUGE_SCORES, Gauges, GaugeScores, Interval, gauges, mean_over_seeds


def gauges_of(runs: Sequence[ArmRun]) -> list[dict[str, Any]]:
    """Return one record for each arm with a synthesizer, in the order of the runs, as JSON types.

    Where random pairs were run, on the same held-out pairs, p(d2) is the better of the starting model and
    their synthesizer, for all other arms. Of several seeds it is the mean, with its interval over seeds; of
    one seed the interval is over held-out pairs.
    """
    scores = {(run.arm, run.seed): found for run in runs if (found := _scores(run)) is not None}
    records = []
    for arm in dict.fromkeys(arm for arm, _ in scores):
        own = []
        for seed in (seed for name, seed in scores if name == arm):
            random = scores.get(("random_pairs", seed)) if arm != "random_pairs" else None
            if random is not None and not scores[arm, seed].of_same_pairs(random):
                random = None  # of another embedder, or held out from the training pairs
            own.append(gauges(scores[arm, seed], random))
        records.append(_record(arm, own))
    return records


def _scores(run: ArmRun) -> GaugeScores | None:
    """Return what the gauge's stage scored; None without a synthesizer, or with too few held-out pairs."""
    stage = run.companion.gauge if run.companion else None
    if stage is None or "net_information" not in stage.counts:
        return None
    return GaugeScores.load(stage.directory / GAUGE_SCORES)


def _record(arm: str, own: Sequence[Gauges]) -> dict[str, Any]:
    return {
        "arm": arm,
        "net_information": _over_seeds(own, lambda one: one.net_information),
        "use_of_d1": _over_seeds(own, lambda one: one.use_of_d1),
        "loss": float(np.mean([one.loss for one in own])),
        "loss_without_d1": float(np.mean([one.loss_without_d1 for one in own])),
        "without_d1": sorted({one.without_d1 for one in own}),
        "num_pairs": [one.num_pairs for one in own],
    }


def _over_seeds(
    own: Sequence[Gauges], part: Callable[[Gauges], Interval]
) -> Mapping[str, float | list[float]]:
    found = [part(one) for one in own]
    per_seed = [interval.estimate for interval in found]
    interval = found[0] if len(found) == 1 else mean_over_seeds(np.array(per_seed)).interval()
    return {
        "estimate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "per_seed": per_seed,
    }
