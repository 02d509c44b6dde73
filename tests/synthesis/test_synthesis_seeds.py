"""Seed documents are uniform and independent of how many samples are drawn."""

import numpy as np
from scipy import stats

from sbp_bayes.synthesis import seed_document, stream_seed


def test_seed_documents_are_uniform() -> None:
    """Chi-squared over 50 documents and 20,000 samples; a false alarm once in 50,000 seeds."""
    drawn = np.bincount([seed_document(0, j, 50) for j in range(20_000)], minlength=50)
    assert stats.chisquare(drawn).pvalue > 2e-5


def test_seed_documents_are_serially_independent() -> None:
    pairs = np.zeros((5, 5))
    drawn = [seed_document(1, j, 5) for j in range(10_001)]
    np.add.at(pairs, (drawn[:-1], drawn[1:]), 1)
    assert stats.chi2_contingency(pairs).pvalue > 2e-5


def test_streams_differ_by_seed_document_and_sample() -> None:
    seeds = {stream_seed(s, d, j) for s in range(5) for d in ("a", "b", "a1") for j in range(20)}
    assert len(seeds) == 5 * 3 * 20
