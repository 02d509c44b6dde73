"""Intervals hold the truth as often as they say, with few seeds too: simulated, with the real functions."""

import numpy as np
import pytest
import scipy.stats

from sbp_bayes.evaluation import (
    difference_interval,
    loss_interval,
    mean_over_seeds_and_documents,
    share_interval,
)

NUM_WORLDS = 1500
LOSSES = np.array([4.0, 3.9, 3.4])
"""Of baseline, arm and oracle, nats per token: a difference of −0.1 and a share of 1/6."""

REGIMES = {
    "seeds dominate": (0.1, 0.05, 0.05),
    "documents dominate": (0.0, 0.5, 0.05),
    "both matter": (0.06, 0.5, 0.05),
    "entries dominate": (0.0, 0.0, 0.5),
}
"""Standard deviations over seeds, documents and single entries (seed × document), nats per token."""


def worlds(num_seeds: int, regime: str, num_documents: int = 60):
    """Yield losses (arms, seeds, documents) in nats and tokens: documents of unequal length, heavy tails.

    Seeds and documents move all arms alike in part, as hard documents do.
    """
    generator = np.random.default_rng([num_seeds, len(regime)])
    over_seeds, over_documents, over_entries = REGIMES[regime]
    for _ in range(NUM_WORLDS):
        tokens_D = generator.integers(50, 400, num_documents)
        seed_AS1, seed_S1 = (generator.normal(size=(*arms, num_seeds, 1)) for arms in ((3,), ()))
        document_A1D, document_D = (generator.standard_t(6, (*arms, num_documents)) for arms in ((3, 1), ()))
        entry_ASD = generator.normal(size=(3, num_seeds, num_documents))
        nats_per_token_ASD = (
            LOSSES[:, None, None]
            + over_seeds * (seed_AS1 + seed_S1)
            + over_documents * (document_A1D + document_D) / np.sqrt(2)
            + over_entries * entry_ASD
        )
        yield nats_per_token_ASD * tokens_D, tokens_D


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize("regime", REGIMES)
def test_95_percent_intervals_hold_the_truth_in_95_percent(num_seeds: int, regime: str) -> None:
    """±1.5 points; coverage in 1,500 worlds has a standard error of 0.56 points."""
    differences, shares = [], []
    for (baseline_SD, arm_SD, oracle_SD), tokens_D in worlds(num_seeds, regime):
        difference = difference_interval(arm_SD, baseline_SD, tokens_D)
        differences.append(difference.low <= -0.1 <= difference.high)
        share = share_interval(baseline_SD, arm_SD, oracle_SD, tokens_D)
        if share is not None:  # an oracle's gain that cannot be told from 0 has no share
            shares.append(share.low <= 1 / 6 <= share.high)
    assert np.mean(differences) == pytest.approx(0.95, abs=0.015)
    assert len(shares) > 0.9 * NUM_WORLDS
    assert np.mean(shares) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("num_seeds", "worst"), [(3, 0.011), (5, 0.01), (10, 0.006)])
def test_coverage_by_integration_for_any_parts_of_the_variance(num_seeds: int, worst: float) -> None:
    """No simulation: 2,000 documents fix their part of the variance, and that of seeds is χ²-distributed."""
    document_D = np.sqrt(2000) * scipy.stats.zscore(
        scipy.stats.norm.ppf((np.arange(2000) + 0.5) / 2000), ddof=1
    )
    seed_S = np.sqrt(num_seeds) * scipy.stats.zscore(np.arange(num_seeds), ddof=1)

    def reach(seeds_part: float) -> float:
        """Half the width of the interval where V_seeds is `seeds_part` of the variance, which is 1."""
        table_SD = np.sqrt(seeds_part) * seed_S[:, None] + np.sqrt(1 - seeds_part) * document_D
        interval = loss_interval(table_SD, np.ones(2000))
        return interval.high - interval.estimate

    parts = np.linspace(0, 1, 101)
    reach_of_parts = [reach(part) for part in parts]
    chi2 = scipy.stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, num_seeds - 1) / (num_seeds - 1)
    for truth in np.linspace(0, 1, 21):
        variance = truth * chi2 + 1 - truth
        reaches = np.sqrt(variance) * np.interp(truth * chi2 / variance, parts, reach_of_parts)
        coverage = (2 * scipy.stats.norm.cdf(reaches) - 1).mean()
        assert coverage == pytest.approx(0.95, abs=worst)


def test_p_values_are_uniform_where_nothing_is_there() -> None:
    """Of 5 seeds, both matter: P(p < x) is x, within z < 5 and the approximation's 1.5 points at 0.05."""
    p_values = np.array(
        [
            mean_over_seeds_and_documents(first_SD - baseline_SD + 0.1 * tokens_D, tokens_D).p_value()
            for (baseline_SD, first_SD, _), tokens_D in worlds(5, "both matter")
        ]
    )
    for level in (0.05, 0.25, 0.5, 0.75):
        error = np.sqrt(level * (1 - level) / NUM_WORLDS)
        assert abs((p_values < level).mean() - level) < 0.015 + 5 * error
