"""Neighbours of many rows at once by an inverted file: each list against all the rows that are near to it.

A graph of neighbours asks every row. So a list of vectors is read once, for all its askers together, as one
integer matrix product, where an index that answers query by query reads it again for each of them. A row's
home list, the nearest one, comes first; what other lists offer counts only if it beats the k-th neighbour
found there, which few do, so hardly anything is sorted.

Lists are spherical k-means of the rows (Dhillon and Modha 2001), fitted on a sample.
"""

import dataclasses
import functools

import numpy as np
import torch

from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.pairing.audit import Audit, Found, SearchReport, audited_rows, filled, search_with_audit
from sbp_bayes.pairing.exact import ExactKeys
from sbp_bayes.pairing.quantise import Codes, quantise
from sbp_bayes.pairing.scan import (
    NOTHING,
    QUERIES_AT_ONCE,
    best_keys,
    dot_products,
    keys_above,
    pack,
    pack_products,
    queries_for,
    unpack,
)
from sbp_bayes.pairing.threads import blocks, map_threads

SAMPLED_ROWS_PER_LIST = 40
ROUNDS = 5
MOST_DOUBLINGS = 4

MARGIN = 0.01
"""Recall that the number of lists is chosen for beyond what's asked: 8 bits and the sample cost some."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lists:
    """Rows by list.

    Attributes:
        order: int64 (N,), the rows, list by list; "places" below are indices of it.
        starts: int64 (number of lists + 1,), where each begins in `order`.
        codes: the rows in this order.
        centres: of the lists.
    """

    order: np.ndarray
    starts: np.ndarray
    codes: Codes
    centres: Codes

    def __len__(self) -> int:
        return len(self.centres)

    def part(self, number: int) -> slice:
        """Return the places of a list."""
        return slice(int(self.starts[number]), int(self.starts[number + 1]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Askers:
    """Rows that ask for neighbours, by home list.

    Attributes:
        unit: unit rows, float32 (M, D), among them those that ask.
        rows: int64 (Q,), of `unit`, home list by home list.
        starts: int64 (number of lists + 1,), where each list's begin in `rows`.
        codes: the Q rows in this order.
        own: int64 (Q,), the place that a row mustn't find, as it's itself; -1 for none.
    """

    unit: torch.Tensor
    rows: np.ndarray
    starts: np.ndarray
    codes: Codes
    own: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, number: int) -> slice:
        """Return which of them have this home list."""
        return slice(int(self.starts[number]), int(self.starts[number + 1]))


class InvertedKeys:
    """Keys in lists, to be asked by any rows.

    Args:
        unit: unit rows, float32 (N, D).
    """

    def __init__(self, unit: np.ndarray) -> None:
        codes = quantise(unit)
        self._unit, self._lists = unit, make_lists(unit, codes, number_of_lists(len(unit)))
        self._place = np.empty(len(unit), np.int64)
        self._place[self._lists.order] = np.arange(len(unit))

    def search_packed(self, queries: np.ndarray, own: np.ndarray, k: int, effort: int) -> np.ndarray:
        """Return what `scan.pack` makes of each query's k nearest keys, approximately, int64 (Q, min(k, N)).

        Args:
            queries: unit rows, float32 (Q, D); the more at once, the more each list's product is worth.
            own: int64 (Q,), the key that a query mustn't find; -1 for none.
            k: neighbours wanted; `scan.NOTHING` where the lists asked have fewer.
            effort: lists asked; beyond their number, a multiple of it for as many times the candidates.
        """
        lists, codes = self._lists, quantise(queries)
        home = _nearest(codes.codes, lists.centres, 1)[:, 0]
        rows = np.argsort(home, kind="stable")
        askers = Askers(
            unit=torch.from_numpy(queries),
            rows=rows,
            starts=np.concatenate([[0], np.cumsum(np.bincount(home, minlength=len(lists)))]),
            codes=codes.rows(torch.from_numpy(rows)),
            own=np.where(own >= 0, self._place[own], -1)[rows],
        )
        probes, care = min(effort, len(lists)), max(1, effort // len(lists))
        found = np.empty((len(queries), min(k, len(self._unit))), np.int64)
        found[rows] = _search(self._unit, lists, askers, found.shape[1], probes=probes, care=care)
        return found


def efforts(num_rows: int) -> list[int]:
    """Return the rising efforts that a search of so many keys tries: lists, then candidates."""
    lists = number_of_lists(num_rows)
    probes = sorted({tried << power for power in range(lists.bit_length()) for tried in (1, 3)})
    most = [lists << doublings for doublings in range(MOST_DOUBLINGS + 1)]
    return [number for number in probes if number < lists] + most


def inverted_neighbours(unit: np.ndarray, k: int, min_recall: float) -> tuple[Found, SearchReport]:
    """Return ids and similarities (N, k) as `nearest_neighbours` does, approximately, and the report.

    How many lists a row asks follows from where the true neighbours of the audited rows lie. If the recall
    measured afterwards isn't enough, lists and candidates are doubled, up to all lists and 16 times the
    candidates (8 bits alone can't order near-copies).

    Args:
        unit: unit rows, float32 (N, D).
        k: below N.
        min_recall: lowest share of true neighbours that is accepted.

    Raises:
        PairingError: the recall stays lower with the most effort.
    """
    codes = quantise(unit)
    lists = make_lists(unit, codes, number_of_lists(len(unit)))
    keys, sampled = ExactKeys(unit, codes), audited_rows(len(unit))
    ids, similarities = unpack(keys.search(unit[sampled], sampled, k))
    audit = Audit(rows=sampled, ids=ids, similarities=similarities)
    first = probes_needed(lists, codes, audit, min(1.0, min_recall + MARGIN))
    everybody = Askers(
        unit=torch.from_numpy(unit),
        rows=lists.order,
        starts=lists.starts,
        codes=lists.codes,
        own=np.arange(len(unit)),
    )

    def search_exactly(rows: np.ndarray) -> np.ndarray:
        return keys.search(unit[rows], rows, k)

    @functools.lru_cache(maxsize=1)
    def search_all(doublings: int) -> Found | None:
        probes = min(first << doublings, len(lists))
        packed = np.empty((len(unit), k), np.int64)
        packed[lists.order] = _search(unit, lists, everybody, k, probes=probes, care=1 << doublings)
        return filled(packed, search_exactly)

    def search(doublings: int, rows: np.ndarray) -> Found | None:
        found = search_all(doublings)
        return None if found is None else (found[0][rows], found[1][rows])

    efforts = range(max(MOST_DOUBLINGS, len(lists).bit_length()) + 1)
    found, doublings, recall = search_with_audit(
        "inverted file", search, efforts=efforts, audit=audit, num_rows=len(unit), min_recall=min_recall
    )
    report = SearchReport(
        backend="inverted",
        recall=recall,
        effort=min(first << doublings, len(lists)),
        bytes_per_vector=float(codes.bytes_per_vector),
    )
    return found, report


def number_of_lists(num_rows: int) -> int:
    """Return the power of two nearest to 2√N: fewer lists hold strangers, more cost more to make."""
    return min(num_rows, int(2 ** np.round(1 + np.log2(num_rows) / 2)))


def make_lists(unit: np.ndarray, codes: Codes, number: int) -> Lists:
    """Return the rows in at most `number` lists, none empty; the same each time."""
    generator = numpy_generator(0, "inverted lists")
    size = min(len(unit), SAMPLED_ROWS_PER_LIST * number)
    sample = np.sort(generator.choice(len(unit), size, replace=False))
    sampled, sampled_codes = unit[sample], codes.rows(torch.from_numpy(sample))
    centres = sampled[np.sort(generator.choice(size, number, replace=False))]
    for _ in range(ROUNDS):
        centres = _means(sampled, _nearest(sampled_codes.codes, quantise(centres), 1)[:, 0])
    coded = quantise(centres)
    used, list_of = np.unique(_nearest(codes.codes, coded, 1)[:, 0], return_inverse=True)
    order = np.argsort(list_of, kind="stable")
    return Lists(
        order=order,
        starts=np.concatenate([[0], np.cumsum(np.bincount(list_of))]),
        codes=codes.rows(torch.from_numpy(order)),
        centres=coded.rows(torch.from_numpy(used)),
    )


def probes_needed(lists: Lists, codes: Codes, audit: Audit, share: float) -> int:
    """Return how many nearest lists must be asked to meet `share` of the audited rows' true neighbours."""
    nearest = _nearest(codes.codes[torch.from_numpy(audit.rows)], lists.centres, len(lists))
    rank = np.argsort(nearest, axis=1)
    place = np.empty_like(lists.order)
    place[lists.order] = np.arange(len(place))
    list_of_neighbour = np.searchsorted(lists.starts, place[audit.ids], side="right") - 1
    needed = np.sort(np.take_along_axis(rank, list_of_neighbour, axis=1).reshape(-1))
    return int(needed[int(np.ceil(share * len(needed))) - 1]) + 1


def _search(unit: np.ndarray, lists: Lists, askers: Askers, k: int, *, probes: int, care: int) -> np.ndarray:
    """Search each asker's `probes` nearest lists; return packed similarities and keys, int64 (Q, k).

    Args:
        unit: unit rows, float32 (N, D), the keys.
        lists: of them.
        askers: by these lists.
        k: at most N.
        probes: lists asked, the home list first.
        care: candidates kept, and 8-bit scores trusted less, by this factor.
    """
    keys_ND = torch.from_numpy(unit)
    found = np.full((len(askers), k), NOTHING)

    def search_home(number: int) -> None:
        here, asking = lists.part(number), askers.part(number)
        keys = lists.codes.rows(here)
        count = min((k + k // 2 + 4) * care, len(keys))
        for within in blocks(asking.stop - asking.start, QUERIES_AT_ONCE):
            block = slice(asking.start + within.start, asking.start + within.stop)
            own = askers.own[block]
            places, _ = best_keys(askers.codes.codes[block], keys, count, own - here.start)
            places += here.start
            packed = pack_products(askers.unit, askers.rows[block], lists.order[places], keys_ND)
            packed = np.sort(np.where(places == own[:, None], NOTHING, packed), axis=1)[:, :k]
            found[block, : packed.shape[1]] = packed

    map_threads(search_home, range(len(lists)))
    reached = np.where(found[:, -1] == NOTHING, -np.inf, unpack(found[:, -1])[1]).astype(np.float32)
    offers = _offers(lists, askers, reached, probes, care)
    found_at = np.searchsorted(offers, np.arange(len(askers) + 1) << 32)

    def merge(block: slice) -> None:
        offsets = found_at[block.start : block.stop + 1]
        places, lengths = offers[offsets[0] : offsets[-1]] & 0xFFFFFFFF, np.diff(offsets)
        others = lists.order[places]
        products = dot_products(askers.unit, askers.rows[block], offsets - offsets[0], others, keys_ND)
        is_own = places == np.repeat(askers.own[block], lengths)
        table = np.full((len(lengths), lengths.max()), NOTHING)
        is_used = np.arange(table.shape[1]) < lengths[:, None]
        table[is_used] = np.where(is_own, NOTHING, pack(products, others))
        found[block] = np.sort(np.concatenate([found[block], table], axis=1), axis=1)[:, :k]

    map_threads(merge, blocks(len(askers), QUERIES_AT_ONCE))
    return found


def _offers(lists: Lists, askers: Askers, reached: np.ndarray, probes: int, care: int) -> np.ndarray:
    """Return what other lists than an asker's home have that seems nearer than what it has reached.

    Args:
        lists: of all keys.
        askers: by these lists.
        reached: float32 (Q,), similarity of each one's k-th neighbour so far; -inf for none.
        probes: lists asked.
        care: by how many of its own steps an asker distrusts an 8-bit score.

    Returns:
        asker · 2³² + offered place, sorted.
    """
    if probes == 1:
        return np.empty(0, np.int64)
    others = _nearest(askers.codes.codes, lists.centres, probes)[:, 1:]
    asked = np.sort(((others << 32) | np.arange(len(others))[:, None]).reshape(-1))
    ends = np.searchsorted(asked, np.arange(len(lists) + 1) << 32)
    least = reached / askers.codes.scales.numpy() - care

    def ask(number: int) -> np.ndarray:
        keys, start = lists.codes.rows(lists.part(number)), lists.part(number).start
        asking = asked[ends[number] : ends[number + 1]] & 0xFFFFFFFF
        offered = [np.empty(0, np.int64)]
        for block in blocks(len(asking), queries_for(len(keys))):
            numbers = asking[block]
            queries_QD = askers.codes.codes.index_select(0, torch.from_numpy(numbers))
            columns, offsets = keys_above(queries_QD, keys, least[numbers])
            offered.append((np.repeat(numbers, np.diff(offsets)) << 32) | (columns + start))
        return np.concatenate(offered)

    return np.sort(np.concatenate(map_threads(ask, range(len(lists)))))


def _nearest(queries_ND: torch.Tensor, centres: Codes, number: int) -> np.ndarray:
    """Return the nearest centres of each row, the nearest first, int64 (N, number)."""
    nearest = np.empty((len(queries_ND), number), np.int64)

    def search(block: slice) -> None:
        columns, scores = best_keys(queries_ND[block], centres, number)
        nearest[block] = unpack(np.sort(pack(scores, columns), axis=1))[0]

    map_threads(search, blocks(len(queries_ND), QUERIES_AT_ONCE))
    return nearest


def _means(vectors: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Return the unit mean of each group's vectors; a group whose mean is zero keeps its first vector."""
    order = np.argsort(nearest, kind="stable")
    starts = np.flatnonzero(np.diff(nearest[order], prepend=-1))
    sums = np.add.reduceat(vectors[order], starts, axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(norms > 1e-6, sums / np.maximum(norms, 1e-6), vectors[order[starts]])
