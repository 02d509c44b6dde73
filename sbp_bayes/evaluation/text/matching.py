"""Longest verbatim matches of documents in other documents, exactly, by one suffix array.

All suffixes of queries and references are ranked together by prefix doubling, each round over the
suffixes that still tie (Manber and Myers 1993; Larsson and Sadakane 2007). The longest match of a
position in any set of references is then with its nearest neighbour in that order, on one side or
the other, and its length is read off the ranks of all rounds. NumPy sorts numbers throughout, and
text that repeats itself or is copied whole costs no more than other text.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.corpus import Corpus

MOST_SYMBOLS = 3_037_000_499
"""Tokens and document ends that can be ranked: a pair of ranks is one int64, which holds its square."""


class MatchIndex:
    """The suffixes of reference documents and of query documents, in one order.

    A position is an offset into the queries' tokens laid end to end (`queries.tokens`).
    """

    def __init__(self, references: Corpus, queries: Corpus) -> None:
        """Rank all suffixes, up to the length of the longest query.

        Raises:
            CorpusError: more tokens and documents than can be ranked.
        """
        assert references.offsets[-1] > 0, "no reference tokens"
        text, self._reference_suffix, self._query_suffix = _end_to_end(references, queries)
        longest = int(queries.lengths.max(initial=0))
        self._levels = list(_ranks(text, until=longest + 1))  # a query's end is its own: no query ties
        self._reference_document = np.repeat(np.arange(len(references)), references.lengths)
        self._query = np.repeat(np.arange(len(queries)), queries.lengths)

    def in_own(self, reference_of_query: Int[np.ndarray, " Q"]) -> Int[np.ndarray, " positions"]:
        """Return the length of the longest match that starts at each position, int64 (positions,).

        Args:
            reference_of_query: the one reference that counts for each query, int64 (queries,).
        """
        size = len(self._levels[0])
        keys = self._reference_document * size + self._rank(self._reference_suffix)
        order = np.argsort(keys)
        wanted = reference_of_query[self._query]
        place = np.searchsorted(keys[order], wanted * size + self._rank(self._query_suffix))
        below, above = (order[np.clip(p, 0, len(order) - 1)] for p in (place - 1, place))
        return np.maximum(
            self._matches(below, self._reference_document[below] == wanted),
            self._matches(above, self._reference_document[above] == wanted),
        )

    def in_any(self, except_own: Int[np.ndarray, " Q"] | None = None) -> Int[np.ndarray, " positions"]:
        """Return the length of the longest match that starts at each position, int64 (positions,).

        Args:
            except_own: the one reference that does not count for each query, int64 (queries,):
                itself, where the queries are references too. Without it every reference counts.
        """
        ranks = self._rank(self._reference_suffix)
        order = np.argsort(ranks)
        place = np.searchsorted(ranks[order], self._rank(self._query_suffix))
        below, above = place - 1, place
        if except_own is not None:
            documents, own = self._reference_document[order], except_own[self._query]
            below, above = _step_over(documents, own, below, above)
        last = len(order) - 1
        return np.maximum(
            self._matches(order[np.maximum(below, 0)], below >= 0),
            self._matches(order[np.minimum(above, last)], above <= last),
        )

    def _rank(self, suffix: np.ndarray) -> np.ndarray:
        return self._levels[-1][suffix]

    def _matches(self, reference_position: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Length of each position's match with a reference suffix; 0 where it does not count."""
        length = np.zeros(len(counts), np.int64)
        (alive,) = counts.nonzero()
        first, second = self._query_suffix[alive], self._reference_suffix[reference_position[alive]]
        for level in reversed(range(len(self._levels))):
            equal = self._levels[level][first] == self._levels[level][second]
            step = equal.astype(np.int64) << level
            first, second = first + step, second + step
        length[alive] = first - self._query_suffix[alive]
        return length


def _end_to_end(references: Corpus, queries: Corpus) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all documents, each closed by a symbol of its own, and where each token went."""
    lengths = np.concatenate([references.lengths, queries.lengths])
    num_symbols = int(lengths.sum()) + len(lengths)
    if num_symbols > MOST_SYMBOLS:
        raise CorpusError(
            f"{num_symbols:,} tokens and documents: matches are searched among {MOST_SYMBOLS:,} at most, "
            "two of whose ranks take 64 bits"
        )
    tokens = np.concatenate([references.tokens, queries.tokens]).astype(np.int64)
    suffix = np.arange(len(tokens)) + np.repeat(np.arange(len(lengths)), lengths)
    text = np.empty(len(tokens) + len(lengths), np.int64)
    text[suffix] = tokens
    text[np.cumsum(lengths + 1) - 1] = tokens.max() + 1 + np.arange(len(lengths))
    return text, suffix[: references.offsets[-1]], suffix[references.offsets[-1] :]


def _ranks(text: np.ndarray, until: int) -> Iterator[np.ndarray]:
    """Yield, for blocks of 1, 2, 4, … symbols up to at least `until`, how many blocks are smaller.

    Equal ranks of one level mean equal blocks.
    """
    counts = np.bincount(text)
    rank = (np.cumsum(counts) - counts)[text]
    tied = np.flatnonzero(counts[text] > 1)
    block = 1
    dtype = np.int32 if len(text) <= 1 << 31 else np.int64
    yield rank.astype(dtype)
    while block < until and len(tied) > 0:
        following = np.append(rank[block:], np.zeros(block, np.int64))[tied]
        key = rank[tied] * len(text) + following
        order = np.argsort(key)
        tied, key = tied[order], key[order]
        starts = np.append(True, key[1:] != key[:-1])
        group = rank[tied]
        group_starts = np.append(True, group[1:] != group[:-1])
        rank = rank.copy()
        rank[tied] = group + _last_true(starts) - _last_true(group_starts)
        tied = tied[~(starts & np.append(starts[1:], True))]
        block *= 2
        yield rank.astype(dtype)


def _last_true(mask: np.ndarray) -> np.ndarray:
    """Return for each place the last place at or before it where `mask` holds; `mask[0]` must."""
    return np.maximum.accumulate(np.where(mask, np.arange(len(mask)), 0))


def _step_over(
    documents: np.ndarray, own: np.ndarray, below: np.ndarray, above: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Move places that fall on a suffix of a document's own down, or up, to the nearest of another."""
    last = len(documents) - 1
    bounds = np.flatnonzero(np.diff(documents, prepend=-1, append=-1))  # runs of one document
    run_below = np.searchsorted(bounds, np.maximum(below, 0), side="right") - 1
    run_above = np.searchsorted(bounds, np.minimum(above, last), side="right")
    below = np.where(documents[np.maximum(below, 0)] == own, bounds[run_below] - 1, below)
    above = np.where(documents[np.minimum(above, last)] == own, bounds[run_above], above)
    return below, above
