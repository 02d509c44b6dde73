"""Intervals hold the truth as often as they say, with few seeds too: simulated, with the real functions."""

import numpy as np
import pytest

from sbp_bayes.evaluation import difference_interval, mean_over_seeds_and_documents, share_interval

NUM_WORLDS = 2000
LOSSES = np.array([4.0, 3.9, 3.4])
"""Of baseline, arm and oracle, nats per token: a difference of −0.1 and a share of 1/6."""

REGIMES = {"seeds dominate": (0.1, 0.05), "documents dominate": (0.0, 0.5), "both matter": (0.06, 0.5)}
"""Standard deviations over seeds and over documents, nats per token; single entries have 0.05 more."""


def worlds(num_seeds: int, regime: str, num_documents: int = 60):
    """Yield losses (arms, seeds, documents) in nats and tokens: documents of unequal length, heavy tails.

    Seeds and documents move all arms alike in part, as hard documents do.
    """
    generator = np.random.default_rng([num_seeds, len(regime)])
    over_seeds, over_documents = REGIMES[regime]
    for _ in range(NUM_WORLDS):
        tokens_D = generator.integers(50, 400, num_documents)
        seed_AS1 = generator.normal(size=(3, num_seeds, 1)) + generator.normal(size=(1, num_seeds, 1))
        document_A1D = generator.standard_t(6, (3, 1, num_documents)) + generator.normal(
            size=(1, 1, num_documents)
        )
        entry_ASD = generator.normal(size=(3, num_seeds, num_documents))
        yield (
            (
                LOSSES[:, None, None]
                + over_seeds * seed_AS1
                + over_documents * document_A1D / np.sqrt(2)
                + 0.05 * entry_ASD
            )
            * tokens_D,
            tokens_D,
        )


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize("regime", REGIMES)
def test_95_percent_intervals_hold_the_truth_in_95_percent(num_seeds: int, regime: str) -> None:
    """±1.5 points; the mean of 2,000 worlds has a standard error of 0.49."""
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
