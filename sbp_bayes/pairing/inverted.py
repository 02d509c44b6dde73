"""Neighbours of all rows at once by an inverted file: each list against all the rows that are near to it.

A graph of neighbours asks every row. So a list of vectors is read once, for all its askers together, as one
integer matrix product, where an index that answers query by query reads it again for each of them. A row's
own list comes first; what other lists offer counts only if it beats the k-th neighbour found there, which
few do, so hardly anything is sorted.

Lists are spherical k-means of the rows (Dhillon and Modha 2001), fitted on a sample.
"""

import dataclasses
import functools

import numpy as np
import torch

from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.pairing.audit import Audit, Found, SearchReport, search_with_audit
from sbp_bayes.pairing.quantise import Codes, quantise
from sbp_bayes.pairing.scan import (
    QUERIES_AT_ONCE,
    best_keys,
    dot_products,
    keys_above,
    pack,
    queries_for,
    rank_again,
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
    audit = Audit.of(unit, k, codes)
    first = probes_needed(lists, codes, audit, min(1.0, min_recall + MARGIN))

    @functools.lru_cache(maxsize=1)
    def search_all(doublings: int) -> Found:
        return _search(unit, lists, k, probes=min(first << doublings, len(lists)), care=1 << doublings)

    def search(doublings: int, rows: np.ndarray) -> Found:
        ids, similarities = search_all(doublings)
        return ids[rows], similarities[rows]

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


def _search(unit: np.ndarray, lists: Lists, k: int, *, probes: int, care: int) -> Found:
    """Search each row's `probes` nearest lists.

    Args:
        unit: unit rows, float32 (N, D).
        lists: of them.
        k: below N.
        probes: lists asked, a row's own first.
        care: candidates kept, and 8-bit scores trusted less, by this factor.
    """
    unit_ND = torch.from_numpy(unit)
    ids, similarities = np.zeros((len(unit), k), np.int64), np.full((len(unit), k), -np.inf, np.float32)

    def search_own(number: int) -> None:
        places = lists.part(number)
        keys, rows = lists.codes.rows(places), lists.order[places]
        count = min((k + k // 2 + 4) * care, len(rows) - 1)
        for block in blocks(len(rows), QUERIES_AT_ONCE) if count else []:
            columns, _ = best_keys(keys.codes[block], keys, count, np.arange(block.start, block.stop))
            found = rank_again(unit_ND, rows[block], rows[columns], k)
            ids[rows[block], : min(k, count)], similarities[rows[block], : min(k, count)] = found

    map_threads(search_own, range(len(lists)))
    offers = _offers(lists, similarities[lists.order, -1], probes, care)
    found_at = np.searchsorted(offers, np.arange(len(unit) + 1) << 32)

    def merge(block: slice) -> None:
        rows = lists.order[block]
        offsets = found_at[block.start : block.stop + 1]
        others = lists.order[offers[offsets[0] : offsets[-1]] & 0xFFFFFFFF]
        lengths = np.diff(offsets)
        products = dot_products(unit_ND, rows, offsets - offsets[0], others)
        table = np.full((len(rows), lengths.max()), np.iinfo(np.int64).max)
        table[np.arange(table.shape[1]) < lengths[:, None]] = pack(products, others)
        table = np.concatenate([pack(similarities[rows], ids[rows]), table], axis=1)
        ids[rows], similarities[rows] = unpack(np.sort(table, axis=1)[:, :k])

    map_threads(merge, blocks(len(unit), QUERIES_AT_ONCE))
    return ids, similarities


def _offers(lists: Lists, reached: np.ndarray, probes: int, care: int) -> np.ndarray:
    """Return what other lists than a place's own have that seems nearer than what it has reached.

    Args:
        lists: of all rows.
        reached: float32 (N,), similarity of each place's k-th neighbour so far; -inf for none.
        probes: lists asked.
        care: by how many of its own steps a place distrusts an 8-bit score.

    Returns:
        asking place · 2³² + offered place, sorted.
    """
    if probes == 1:
        return np.empty(0, np.int64)
    others = _nearest(lists.codes.codes, lists.centres, probes)[:, 1:]
    asked = np.sort(((others << 32) | np.arange(len(others))[:, None]).reshape(-1))
    ends = np.searchsorted(asked, np.arange(len(lists) + 1) << 32)
    least = reached / lists.codes.scales.numpy() - care

    def ask(number: int) -> np.ndarray:
        keys, start = lists.codes.rows(lists.part(number)), lists.part(number).start
        askers = asked[ends[number] : ends[number + 1]] & 0xFFFFFFFF
        offered = [np.empty(0, np.int64)]
        for block in blocks(len(askers), queries_for(len(keys))):
            places = askers[block]
            queries_QD = lists.codes.codes.index_select(0, torch.from_numpy(places))
            columns, offsets = keys_above(queries_QD, keys, least[places])
            offered.append((np.repeat(places, np.diff(offsets)) << 32) | (columns + start))
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
