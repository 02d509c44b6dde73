"""Documents in company: each once, in the order of neighbours, positions as many as before."""

import numpy as np
import pytest

from sbp_bayes.comparison.related import packed_neighbours, stitched
from sbp_bayes.corpus import Corpus, Document, EpochStream
from sbp_bayes.synthesizer import IndexPairs

VOCAB = 50


def corpus_of(lengths: list[int], first: int = 2, seeds: list[int] | None = None) -> Corpus:
    """Documents whose tokens are their own number, from `first` on."""
    documents = [
        Document(
            id=f"d{i}",
            text=f"text {i}",
            source="test",
            metadata={} if seeds is None else {"seed_index": seeds[i], "sample": i},
        )
        for i in range(len(lengths))
    ]
    return Corpus.from_tokens(
        documents, [np.full(n, first + i) for i, n in enumerate(lengths)], vocab_size=VOCAB
    )


def parts(corpus: Corpus, index: int) -> list[int]:
    """The number of each document within a joined one."""
    pieces = np.split(corpus.document(index), np.flatnonzero(corpus.document(index) == 0))
    return [int(piece[piece != 0][0]) - 2 for piece in pieces]


def test_paths_go_to_the_nearest_that_was_not_visited() -> None:
    corpus = corpus_of([3, 1, 4, 2, 5, 2])
    first, second = np.array([0, 0, 1, 3, 4]), np.array([1, 4, 2, 2, 0])
    joined = packed_neighbours(corpus, IndexPairs(first, second, corpus.fingerprint), VOCAB)
    # 5 has no neighbour; 3 has one (2), whose other neighbour is 1, then 0, then 4.
    assert [parts(joined, i) for i in range(len(joined))] == [[5], [3, 2, 1, 0, 4]]


def test_every_token_is_there_once_and_rows_read_across() -> None:
    generator = np.random.default_rng(0)
    corpus = corpus_of(generator.integers(1, 9, 30).tolist())
    pairs = IndexPairs(generator.integers(0, 30, 40), generator.integers(0, 30, 40), corpus.fingerprint)
    joined = packed_neighbours(corpus, pairs, VOCAB)
    assert joined.num_tokens == corpus.num_tokens
    tokens = np.concatenate([joined.document(i) for i in range(len(joined))])
    assert sorted(tokens[tokens != 0]) == sorted(corpus.tokens)
    assert len(joined) < len(corpus)
    _, _, segments = EpochStream(joined, 0, corpus.num_tokens).row(0)
    assert len(set(segments.tolist())) == len(joined)


def test_samples_stand_behind_their_seed_document() -> None:
    unique = corpus_of([5, 2])
    synthetic = corpus_of([1, 2, 3], first=10, seeds=[1, 0, 1])
    joined = stitched(synthetic, unique, 3, VOCAB)
    assert [joined.document(i).tolist() for i in range(2)] == [
        [3, 3, 0, 10, 0, 12, 12, 12],
        [2, 2, 2, 0, 11, 11],
    ]


@pytest.mark.parametrize("last_is_whole", [True, False])
def test_a_document_that_was_cut_at_the_end_has_no_end(last_is_whole: bool) -> None:
    unique = corpus_of([2])
    synthetic = corpus_of([2, 2], first=10, seeds=[0, 0])
    object.__setattr__(synthetic, "complete", np.array([True, last_is_whole]))
    assert stitched(synthetic, unique, 5, VOCAB).complete.tolist() == [last_is_whole]
