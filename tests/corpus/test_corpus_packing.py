"""Packing: every token once an epoch with its right target, whatever row is asked for first."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.base.records import EOS, IGNORE
from sbp_bayes.corpus import Corpus, Document, EpochStream, rows_of


def make_corpus(lengths: list[int], complete: list[bool] | None = None) -> Corpus:
    """Documents whose tokens are all different, so that a token tells its document and place."""
    starts = 2 + np.cumsum([0, *lengths])
    tokens = [np.arange(a, a + n) for a, n in zip(starts, lengths, strict=False)]
    records = [Document(id=str(i), text="", source="s") for i in range(len(lengths))]
    return Corpus.from_tokens(records, tokens, vocab_size=10_000, complete=complete)


def spelled_out(corpus: Corpus, index: int) -> list[tuple[int, int]]:
    """The positions of one document by the definition: (input, target)."""
    tokens = [int(t) for t in corpus.document(index)]
    last = EOS if corpus.complete[index] else IGNORE
    return list(zip([EOS, *tokens], [*tokens, last], strict=True))


def flat(stream: EpochStream, count: int) -> list[tuple[int, int]]:
    rows = [stream.row(r) for r in range(-(-count // stream.context_length))]
    pairs = [(int(a), int(b)) for inputs, targets, _ in rows for a, b in zip(inputs, targets, strict=True)]
    return pairs[:count]


corpora = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=8).map(
    lambda items: make_corpus([n for n, _ in items], [c for _, c in items])
)


@given(corpora, st.integers(0, 5), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_each_epoch_holds_every_document_once(corpus, seed, context_length):
    stream = EpochStream(corpus, seed, context_length)
    pairs = flat(stream, 3 * corpus.num_tokens)
    expected = sorted(pair for i in range(len(corpus)) for pair in spelled_out(corpus, i))
    for epoch in range(3):
        within = pairs[epoch * corpus.num_tokens : (epoch + 1) * corpus.num_tokens]
        assert sorted(within) == expected
        # Documents are contiguous: a document's input is the target before it.
        for before, after in itertools.pairwise(within):
            assert after[0] == EOS or after[0] == before[1]


@given(corpora, st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_no_segment_crosses_documents(corpus, context_length):
    stream = EpochStream(corpus, 0, context_length)
    for row in range(5):
        inputs, targets, segments = stream.row(row)
        assert segments[0] == 0
        starts = inputs[1:] == EOS
        assert np.array_equal(np.diff(segments), starts.astype(int))
        within = ~starts
        assert np.array_equal(inputs[1:][within], targets[:-1][within])
        assert {array.dtype for array in (inputs, targets, segments)} == {np.dtype(np.int64)}


@given(corpora, st.integers(1, 9), st.lists(st.integers(0, 60), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_a_row_is_the_same_by_random_access(corpus, context_length, wanted):
    ordered = EpochStream(corpus, 3, context_length)
    expected = [ordered.row(r) for r in range(61)]
    jumping = EpochStream(corpus, 3, context_length)
    for r in wanted:
        assert all(np.array_equal(a, b) for a, b in zip(jumping.row(r), expected[r], strict=True))


def test_row_length_does_not_change_the_stream():
    corpus = make_corpus([3, 0, 7, 12, 1])
    streams = [flat(EpochStream(corpus, 1, t), 200) for t in (1, 5, 64)]
    assert streams[0] == streams[1] == streams[2]


def test_seeds_and_epochs_have_orders_of_their_own():
    corpus = make_corpus([2] * 30)
    first, second = (flat(EpochStream(corpus, seed, 9), 2 * corpus.num_tokens) for seed in (0, 1))
    assert first != second
    assert first[: corpus.num_tokens] != first[corpus.num_tokens :]


def test_epoch_accounting():
    stream = EpochStream(make_corpus([4, 4]), 0, 4)
    assert (stream.num_tokens, stream.rows_per_epoch) == (10, 2)
    assert stream.epoch_of(5) == 2.0
    repeated = [t for r in range(stream.rows_per_epoch) for t in stream.row(r)[0] if t != EOS]
    assert len(set(repeated)) == len(repeated)


def test_fingerprint_names_corpus_seed_and_length():
    corpus, other = make_corpus([4, 4]), make_corpus([4, 5])
    streams = [(corpus, 0, 4), (other, 0, 4), (corpus, 1, 4), (corpus, 0, 5)]
    assert len({EpochStream(*s).fingerprint for s in streams}) == 4


def test_bad_arguments_are_named():
    with pytest.raises(CorpusError, match="no documents"):
        EpochStream(make_corpus([]), 0, 8)
    with pytest.raises(ConfigError, match="context_length = 0"):
        EpochStream(make_corpus([1]), 0, 0)
    with pytest.raises(ConfigError, match="context_length = 0"):
        list(rows_of(make_corpus([1]), 0))


@given(corpora, st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_windows_score_every_token_once(corpus, context_length):
    windows = list(rows_of(corpus, context_length))
    assert all(1 <= len(w.inputs) == len(w.targets) <= context_length for w in windows)
    assert [w.document for w in windows] == sorted(w.document for w in windows)
    for i in range(len(corpus)):
        mine = [w for w in windows if w.document == i]
        pairs = [p for w in mine for p in zip(w.inputs.tolist(), w.targets.tolist(), strict=True)]
        assert pairs == spelled_out(corpus, i)
