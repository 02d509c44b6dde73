"""Neighbours of many queries at once by an inverted file: each list against all queries that probe it.

Here every row is a query. So a list of keys is read once, for all its queries together, as one integer matrix
product, where an index that answers query by query reads it again for each of them. A query's home list comes
first. A key of another list is an offer only if it reaches the query's threshold, which few do, so that
hardly anything is sorted. Float32 ranks the best of both. The words are those of `search.vocabulary`.
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.threads import blocks, map_threads
from sbp_bayes.pairing.search.audit import (
    Audit,
    SearchReport,
    audited_rows,
    filled,
    held_out_rows,
    search_with_audit,
)
from sbp_bayes.pairing.search.exact import ExactKeys
from sbp_bayes.pairing.search.lists import Lists, make_lists, nearest_centres, number_of_lists, probes_needed
from sbp_bayes.pairing.search.quantise import Codes, quantise
from sbp_bayes.pairing.search.scan import (
    KEYS_AT_ONCE,
    QUERIES_AT_ONCE,
    Part,
    best_keys,
    keys_above,
    pack_products,
    queries_for,
)
from sbp_bayes.pairing.search.vocabulary import NOTHING, Found, pack, unpack

MOST_DOUBLINGS = 4
FEWEST_AT_ONCE, OFFERS_AT_ONCE, LISTS_AT_ONCE = 1 << 12, 1 << 22, 1 << 24
"""Queries searched together, by what memory holds of them: a few k offers, and the lists that they probe."""

MORE_LISTS = 4
"""Lists probed before the next threshold, as a multiple of those before the last: so offers are a few k."""

SCORES_TOGETHER = 1 << 18
"""Scores of short lists that are selected from together: they fit into a core's cache."""

MARGIN = 0.01
"""Recall that the number of lists is chosen for beyond what is wanted: 8 bits and the sample cost some."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Queries(ArrayRecord):
    """Q queries, home list by home list.

    Attributes:
        unit: unit rows, float32 (M, D), among them the queries.
        rows: int64 (Q,), the queries' rows of `unit`.
        starts: int64 (number of lists + 1,), where the queries of each home list begin in `rows`.
        codes: the queries in this order.
        own: int64 (Q,), the place of a query's own key; -1 for none.
    """

    unit: torch.Tensor
    rows: np.ndarray
    starts: np.ndarray
    codes: Codes
    own: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, number: int) -> slice:
        """Return which queries have this home list."""
        return slice(int(self.starts[number]), int(self.starts[number + 1]))

    def some(self, block: slice) -> "Queries":
        """Return the queries of a slice, which ends within them."""
        return Queries(
            unit=self.unit,
            rows=self.rows[block],
            starts=np.clip(self.starts - block.start, 0, block.stop - block.start),
            codes=self.codes.rows(block),
            own=self.own[block],
        )


class InvertedKeys:
    """Keys in lists, for any queries.

    Args:
        unit: unit rows, float32 (N, D).
    """

    def __init__(self, unit: np.ndarray) -> None:
        codes = quantise(unit)
        self._unit, self._lists = unit, make_lists(unit, codes, number_of_lists(len(unit)))
        self._places = self._lists.places

    def search_packed(self, queries: np.ndarray, own: np.ndarray, k: int, effort: int) -> np.ndarray:
        """Return what `pack` makes of each query's k nearest keys, approximately, int64 (Q, min(k, N)).

        Args:
            queries: unit rows, float32 (Q, D); the more at once, the more each list's product is worth.
            own: int64 (Q,), each query's own key; -1 for none.
            k: neighbours wanted; `NOTHING` where the lists probed have fewer.
            effort: lists probed; beyond their number, a multiple of it for as many times the candidates.
        """
        lists, codes = self._lists, quantise(queries)
        home = nearest_centres(codes.codes, lists.centres, 1)[:, 0]
        rows = np.argsort(home, kind="stable")
        by_list = Queries(
            unit=torch.from_numpy(queries),
            rows=rows,
            starts=np.concatenate([[0], np.cumsum(np.bincount(home, minlength=len(lists)))]),
            codes=codes.rows(torch.from_numpy(rows)),
            own=np.where(own >= 0, self._places[own], -1)[rows],
        )
        probes, widening = min(effort, len(lists)), max(1, effort // len(lists))
        found = np.empty((len(queries), min(k, len(self._unit))), np.int64)
        found[rows] = _search(self._unit, lists, by_list, found.shape[1], probes=probes, widening=widening)
        return found


def num_candidates(k: int) -> int:
    """Return how many keys float32 ranks again: 8 bits put nearly all of the k nearest among them."""
    return k + k // 2 + 4


def efforts(num_rows: int) -> list[int]:
    """Return the rising efforts that a search of so many keys tries: lists, then candidates."""
    lists = number_of_lists(num_rows)
    probes = sorted({tried << power for power in range(lists.bit_length()) for tried in (1, 3)})
    most = [lists << doublings for doublings in range(MOST_DOUBLINGS + 1)]
    return [number for number in probes if number < lists] + most


def inverted_neighbours(unit: np.ndarray, k: int, min_recall: float) -> tuple[Found, SearchReport]:
    """Return ids and similarities (N, k) as `nearest_neighbours` does, approximately, and the report.

    How many lists a query probes follows from where the true neighbours of the audited rows lie. If the
    recall measured afterwards is not enough, lists and candidates are doubled, up to all lists and 16 times
    the candidates (8 bits alone cannot order near-copies).

    Args:
        unit: unit rows, float32 (N, D).
        k: below N.
        min_recall: lowest share of true neighbours that is accepted.

    Raises:
        PairingError: the recall stays lower with the most effort.
    """
    codes = quantise(unit)
    lists, keys = make_lists(unit, codes, number_of_lists(len(unit))), ExactKeys(unit, codes)
    all_rows = Queries(
        unit=torch.from_numpy(unit),
        rows=lists.order,
        starts=lists.starts,
        codes=lists.codes,
        own=np.arange(len(unit)),
    )
    audit, held_out = (Audit.of(keys, k, rows(len(unit))) for rows in (audited_rows, held_out_rows))
    first = probes_needed(lists, codes, audit, min(1.0, min_recall + MARGIN))

    def search_exactly(rows: np.ndarray) -> np.ndarray:
        return keys.search(unit[rows], rows, k)

    @functools.lru_cache(maxsize=1)
    def search_all(doublings: int) -> Found | None:
        probes = min(first << doublings, len(lists))
        packed = np.empty((len(unit), k), np.int64)
        packed[lists.order] = _search(unit, lists, all_rows, k, probes=probes, widening=1 << doublings)
        return filled(packed, search_exactly)

    def search(doublings: int, rows: np.ndarray) -> Found | None:
        found = search_all(doublings)
        return None if found is None else (found[0][rows], found[1][rows])

    efforts = range(max(MOST_DOUBLINGS, len(lists).bit_length()) + 1)
    found, doublings, recall = search_with_audit(
        "inverted file",
        search,
        efforts=efforts,
        audit=audit,
        held_out=held_out,
        num_rows=len(unit),
        min_recall=min_recall,
    )
    report = SearchReport(
        backend="inverted",
        recall=recall,
        effort=min(first << doublings, len(lists)),
        bytes_per_vector=float(codes.bytes_per_vector),
    )
    return found, report


def _search(
    unit: np.ndarray, lists: Lists, queries: Queries, k: int, *, probes: int, widening: int
) -> np.ndarray:
    """Search each query's `probes` nearest lists; return packed neighbours, int64 (Q, k).

    Args:
        unit: unit rows, float32 (N, D), the keys.
        lists: of them.
        queries: by these lists.
        k: at most N.
        probes: lists probed, the home list first.
        widening: multiplies the candidates kept, and lowers the threshold by as many quantisation steps.
    """
    keys_ND, found = torch.from_numpy(unit), np.full((len(queries), k), NOTHING)

    def search(some: Queries, found: np.ndarray) -> None:
        near = _at_home(lists, some, min(num_candidates(k) * widening, len(unit)))
        if probes > 1:
            nearest, probed = nearest_centres(some.codes.codes, lists.centres, probes), 1
            while probed < probes:
                thresholds = unpack(near[:, k - 1])[1] - widening
                thresholds[near[:, k - 1] == NOTHING] = -np.inf
                next_lists = slice(probed, MORE_LISTS * probed)
                _take_offers(near, k, *_offers(lists, some, thresholds, nearest[:, next_lists]))
                probed = next_lists.stop

        def rank(block: slice) -> None:
            candidates = near[block]
            places = np.where(candidates == NOTHING, 0, unpack(candidates)[0])
            packed = pack_products(some.unit, some.rows[block], lists.order[places], keys_ND)
            is_none = (candidates == NOTHING) | (places == some.own[block, None])
            packed = np.sort(np.where(is_none, NOTHING, packed), axis=1)[:, :k]
            found[block, : packed.shape[1]] = packed

        map_threads(rank, blocks(len(some), QUERIES_AT_ONCE))

    for block in blocks(len(queries), max(FEWEST_AT_ONCE, min(OFFERS_AT_ONCE // k, LISTS_AT_ONCE // probes))):
        search(queries.some(block), found[block])
    return found


def _at_home(lists: Lists, queries: Queries, count: int) -> np.ndarray:
    """Return each query's best places of its home list by score, packed, int64 (Q, count), ascending."""
    near = np.full((len(queries), count), NOTHING)

    def search(parts: list[Part]) -> None:
        width = min(count, max(held.stop - held.start for _, held in parts))
        places, scores = best_keys(queries.codes.codes, lists.codes, width, queries.own, parts)
        packed = np.sort(np.where(scores == -np.inf, NOTHING, pack(scores, places)), axis=1)
        rows = np.concatenate([np.arange(some.start, some.stop) for some, _ in parts])
        near[rows, :width] = packed

    map_threads(search, _home_parts(lists, queries))
    return near


def _home_parts(lists: Lists, queries: Queries) -> Iterator[list[Part]]:
    """Yield queries and their home lists, those of like length together: a table is what is chosen from."""
    parts: list[Part] = []
    num_queries = 0
    for number in np.argsort(np.diff(lists.starts), kind="stable").tolist():
        held, at_home = lists.part(number), queries.part(number)
        width = min(held.stop - held.start, KEYS_AT_ONCE)
        for within in blocks(at_home.stop - at_home.start, QUERIES_AT_ONCE):
            length = within.stop - within.start
            if parts and (num_queries + length) * width > SCORES_TOGETHER:
                yield parts
                parts, num_queries = [], 0
            parts.append((slice(at_home.start + within.start, at_home.start + within.stop), held))
            num_queries += length
    if parts:
        yield parts


def _offers(
    lists: Lists, queries: Queries, thresholds: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the offers of some lists: their keys that score at least a query's threshold.

    Args:
        lists: of all keys.
        queries: Q of them.
        thresholds: float32 (Q,).
        numbers: int64 (Q, P), the lists that each one probes.

    Returns:
        packed 8-bit scores and places, int64, query by query, and where the offers to each begin, (Q + 1,).
    """
    shape, ends = (len(queries), len(lists)), np.arange(len(queries) + 1) * numbers.shape[1]
    probing = sparse.csr_array((np.ones(numbers.size, bool), numbers.reshape(-1), ends), shape=shape).tocsc()

    def offers_of(number: int) -> tuple[np.ndarray, np.ndarray]:
        keys, start = lists.codes.rows(lists.part(number)), lists.part(number).start
        rows = probing.indices[probing.indptr[number] : probing.indptr[number + 1]]
        offered_to, offered = [np.empty(0, rows.dtype)], [np.empty(0, np.int64)]
        for block in blocks(len(rows), queries_for(len(keys))):
            some = rows[block]
            queries_QD = queries.codes.codes.index_select(0, torch.from_numpy(some))
            query, column, score = keys_above(queries_QD, keys, thresholds[some])
            offered_to.append(some[query])
            offered.append(pack(score, column + start))
        return np.concatenate(offered_to), np.concatenate(offered)

    parts = map_threads(offers_of, range(len(lists)))
    ends = np.concatenate([[0], np.cumsum([len(offered) for _, offered in parts])])
    offered_to, offered = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    del parts  # as large again
    by_list = sparse.csc_array((offered, offered_to, ends), shape=shape)
    by_query = by_list.tocsr()  # one pass, where sorting takes twenty
    return by_query.data, by_query.indptr


def _take_offers(near: np.ndarray, k: int, offers: np.ndarray, offsets: np.ndarray) -> None:
    """Keep in `near` (Q, C) the best of it and of the offers to each query, the k-th best at column k − 1."""
    count = near.shape[1]

    def take(block: slice) -> None:
        starts = offsets[block.start : block.stop + 1]
        lengths = np.diff(starts)
        table = np.full((len(lengths), count + lengths.max()), NOTHING)
        table[:, :count] = near[block]
        table[:, count:][np.arange(lengths.max()) < lengths[:, None]] = offers[starts[0] : starts[-1]]
        near[block] = np.partition(table, (k - 1, count - 1), axis=1)[:, :count]

    map_threads(take, blocks(len(near), QUERIES_AT_ONCE))
