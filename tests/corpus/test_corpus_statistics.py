"""Statistics of a corpus against a count by hand."""

import numpy as np
import pytest

from sbp_bayes.corpus import Corpus, Document, statistics
from sbp_bayes.corpus.cleaning import language_of
from sbp_bayes.corpus.statistics import split_statistics

LENGTHS = [0, 1, 3, 4, 7, 8, 40, 40]


@pytest.fixture
def corpus() -> Corpus:
    """Random documents but the last, which repeats one token 40 times."""
    draws = np.random.default_rng(0)
    tokens = [*(draws.permutation(50)[:n] + 2 for n in LENGTHS[:-1]), np.full(40, 7)]
    records = [
        Document(id=str(i), text="ä" * n, source="ab"[i % 2], metadata={"language": "en"} if i < 2 else {})
        for i, n in enumerate(LENGTHS)
    ]
    return Corpus.from_tokens(records, tokens, vocab_size=300)


@pytest.mark.parametrize("together", [1, 45, 1 << 20])
def test_counts(corpus, monkeypatch, together):
    monkeypatch.setattr(statistics, "TOKENS_TOGETHER", together)
    found = split_statistics(corpus)
    assert (found.documents, found.tokens, found.bytes) == (8, sum(LENGTHS) + 8, 2 * sum(LENGTHS))
    assert found.lengths == {0: 1, 1: 1, 2: 1, 4: 2, 8: 1, 32: 2}
    assert found.languages == {"en": 2, "not stated": 6}
    assert found.sources == {"a": 4, "b": 4}
    assert (found.repeated_tokens, found.repetitive) == (39, 1)  # all but the first of the last document
    assert found.tokens_per_byte == found.tokens / found.bytes
    assert found.repeated_share == 39 / sum(LENGTHS)
    assert (
        split_statistics(corpus.select([0, 2, 4, 6])) + split_statistics(corpus.select([1, 3, 5, 7])) == found
    )


def test_nothing_has_statistics_too(corpus):
    found = split_statistics(corpus.select([]))
    assert (found.tokens, found.tokens_per_byte, found.repeated_share, found.lengths) == (0, 0, 0, {})


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({"language": "de"}, "de"),
        ({"lang": "fr"}, "fr"),
        ({"language_id_whole_page_fasttext": {"en": 0.2, "de": 0.7}}, "de"),
        ({"language_id_whole_page_fasttext": {"en": None}}, None),
        ({"language": 3, "lang": ""}, None),
        ({}, None),
    ],
)
def test_the_language_that_a_record_states(metadata, language):
    assert language_of(metadata) == language
