"""Keys of a range of ids: what one worker of a join holds, and what it answers to queries from anywhere."""

import functools
from typing import Literal

import numpy as np

from sbp_bayes.pairing.search.exact import ExactKeys
from sbp_bayes.pairing.search.hnsw import HnswIndex
from sbp_bayes.pairing.search.inverted import InvertedKeys
from sbp_bayes.pairing.search.vocabulary import shifted

Method = Literal["exact", "hnsw", "inverted"]


class Shard:
    """The keys `start` to `start` + N − 1 of a join. What a method needs is made at its first queries.

    Args:
        unit: unit rows, float32 (N, D).
        start: number of the first key.
    """

    def __init__(self, unit: np.ndarray, start: int) -> None:
        self.unit, self.start = unit, start

    @functools.cached_property
    def _exact(self) -> ExactKeys:
        return ExactKeys(self.unit)

    @functools.cached_property
    def _graph(self) -> HnswIndex:
        return HnswIndex.build(self.unit, np.arange(len(self.unit)))

    @functools.cached_property
    def _inverted(self) -> InvertedKeys:
        return InvertedKeys(self.unit)

    def answer(
        self, queries: np.ndarray, own: np.ndarray, k: int, method: Method, effort: int
    ) -> np.ndarray | None:
        """Return each query's k nearest keys of this shard, or all of them where they are fewer.

        Args:
            queries: unit rows, float32 (Q, D).
            own: int64 (Q,), each query's own key, in any shard; -1 for none.
            k: neighbours wanted.
            method: how they are searched.
            effort: ef of the graph, or see `InvertedKeys.search_packed`.

        Returns:
            packed neighbours, ascending, int64 (Q, min(k, N)), see `search.vocabulary`; `NOTHING`
            where a query's own key leaves fewer, or the lists probed have fewer. None where the graph reaches
            too few keys.
        """
        is_here = (own >= self.start) & (own < self.start + len(self.unit))
        own_here = np.where(is_here, own - self.start, -1)
        if method == "exact":
            found = self._exact.search(queries, own_here, k)
        elif method == "inverted":
            found = self._inverted.search_packed(queries, own_here, k, effort)
        else:
            self._graph.ef = effort
            reached = self._graph.search_packed(queries, own_here, k)
            if reached is None:
                return None
            found = reached
        return shifted(found, self.start)


def merge(parts: list[np.ndarray], k: int) -> np.ndarray:
    """Return the k best of the shards' answers to the same queries, int64 (Q, k), ascending.

    The k best of k bests are the k best of all: shards may be merged in any order and grouping.
    """
    return np.sort(np.concatenate(parts, axis=1), axis=1)[:, :k]
