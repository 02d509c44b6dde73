"""Neighbours of all rows at once by an inverted file: groups of queries against whole lists.

A graph of neighbours asks every row, and rows of one list need the same other lists. So a list's rows are one
block of queries, scored in 8 bits against the lists that most of them are near to by one integer matrix
product, where an index that answers query by query reads each list again for each of them.

Lists are spherical k-means of the rows (Dhillon and Modha 2001), fitted on a sample.
"""

import dataclasses
import functools

import numpy as np
import torch

from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.pairing.audit import Audit, Found, SearchReport, search_with_audit
from sbp_bayes.pairing.quantise import Codes, quantise
from sbp_bayes.pairing.scan import QUERIES_AT_ONCE, best_keys, pack, rank_again, unpack
from sbp_bayes.pairing.threads import blocks, map_threads

SAMPLED_ROWS_PER_LIST = 40
ROUNDS = 5
NEAR_LISTS = 8
"""Nearest lists of each row, which vote for those that its own list is searched with."""

MOST_DOUBLINGS = 4

MARGIN = 0.01
"""Recall that the number of lists is chosen for beyond what's asked: 8 bits and the sample cost some."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lists:
    """Rows by list, and the order in which each list searches the others.

    Attributes:
        order: int64 (N,), the rows, list by list.
        starts: int64 (number of lists + 1,), where each begins in `order`.
        list_of: int64 (N,), each row's list.
        probes: int64 (number of lists, number of lists); a list's own comes first.
    """

    order: np.ndarray
    starts: np.ndarray
    list_of: np.ndarray
    probes: np.ndarray

    def __len__(self) -> int:
        return len(self.probes)


def inverted_neighbours(unit: np.ndarray, k: int, min_recall: float) -> tuple[Found, SearchReport]:
    """Return ids and similarities (N, k) as `nearest_neighbours` does, approximately, and the report.

    How many lists are searched follows from where the true neighbours of the audited rows lie. If the recall
    measured afterwards isn't enough, lists and candidates are doubled, up to 16 times and more, to all lists
    (more than 8 bits tell apart only where a corpus is full of near-copies).

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
    by_list = codes.rows(torch.from_numpy(lists.order))

    first = probes_needed(lists, audit, min(1.0, min_recall + MARGIN))

    @functools.lru_cache(maxsize=1)
    def search_all(doublings: int) -> Found:
        count = min((k + k // 2 + 4) << doublings, len(unit) - 1)
        return _search(unit, by_list, lists, k, probes=first << doublings, count=count)

    def search(doublings: int, rows: np.ndarray) -> Found:
        ids, similarities = search_all(doublings)
        return ids[rows], similarities[rows]

    efforts = range(max(MOST_DOUBLINGS, len(lists).bit_length()) + 1)
    found, doublings, recall = search_with_audit(
        "inverted file", search, efforts=efforts, audit=audit, num_rows=len(unit), min_recall=min_recall
    )
    probes = min(first << doublings, len(lists))
    report = SearchReport(
        backend="inverted", recall=recall, effort=probes, bytes_per_vector=float(codes.bytes_per_vector)
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
        nearest = _nearest_centres(sampled_codes, quantise(centres), 1)[:, 0]
        centres = _means(sampled, nearest)
    near = _nearest_centres(codes, quantise(centres), min(NEAR_LISTS, len(centres)))
    used, list_of = np.unique(near[:, 0], return_inverse=True)
    place = np.full(len(centres), -1)
    place[used] = np.arange(len(used))
    return Lists(
        order=np.argsort(list_of, kind="stable"),
        starts=np.concatenate([[0], np.cumsum(np.bincount(list_of))]),
        list_of=list_of,
        probes=_probes(place[near], centres[used]),
    )


def probes_needed(lists: Lists, audit: Audit, share: float) -> int:
    """Return how many lists must be searched to meet `share` of the audited rows' true neighbours."""
    rank = np.empty_like(lists.probes)
    np.put_along_axis(rank, lists.probes, np.arange(len(lists))[None], axis=1)
    needed = np.sort(rank[lists.list_of[audit.rows][:, None], lists.list_of[audit.ids]].reshape(-1))
    return int(needed[int(np.ceil(share * len(needed))) - 1]) + 1


def _search(unit: np.ndarray, by_list: Codes, lists: Lists, k: int, *, probes: int, count: int) -> Found:
    """Search each list's rows in the first `probes` lists of its order, or more where these hold too few."""
    unit_ND = torch.from_numpy(unit)
    ids, similarities = np.empty((len(unit), k), np.int64), np.empty((len(unit), k), np.float32)
    sizes = np.diff(lists.starts)

    def search_list(own: int) -> None:
        order = lists.probes[own]
        enough = int(np.searchsorted(np.cumsum(sizes[order]), count + 1)) + 1
        parts = [slice(lists.starts[i], lists.starts[i + 1]) for i in order[: max(probes, enough)]]
        keys = Codes(
            codes=torch.cat([by_list.codes[part] for part in parts]),
            scales=torch.cat([by_list.scales[part] for part in parts]),
        )
        key_rows = np.concatenate([lists.order[part] for part in parts])
        for block in blocks(int(sizes[own]), QUERIES_AT_ONCE):
            itself = np.arange(block.start, block.stop)
            columns, _ = best_keys(keys.codes[block], keys, count, itself)
            rows = key_rows[block]
            ids[rows], similarities[rows] = rank_again(unit_ND, rows, key_rows[columns], k)

    map_threads(search_list, range(len(lists)))
    return ids, similarities


def _nearest_centres(codes: Codes, centres: Codes, number: int) -> np.ndarray:
    """Return each row's nearest centres, the nearest first, int64 (N, number)."""
    nearest = np.empty((len(codes), number), np.int64)

    def search(block: slice) -> None:
        nobody = np.full(block.stop - block.start, -1)
        columns, scores = best_keys(codes.codes[block], centres, number, nobody)
        nearest[block] = unpack(np.sort(pack(scores, columns), axis=1))[0]

    map_threads(search, blocks(len(codes), QUERIES_AT_ONCE))
    return nearest


def _means(vectors: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Return the unit mean of each group's vectors; a group whose mean is zero keeps its first vector."""
    order = np.argsort(nearest, kind="stable")
    starts = np.flatnonzero(np.diff(nearest[order], prepend=-1))
    sums = np.add.reduceat(vectors[order], starts, axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(norms > 1e-6, sums / np.maximum(norms, 1e-6), vectors[order[starts]])


def _probes(near: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return each list's order of search: by votes of its rows, the nearer the more, then by nearness."""
    number = len(centres)
    voted = near >= 0
    pairs = (near[:, :1] * number + near)[voted]
    weights = np.broadcast_to(np.arange(near.shape[1], 0, -1), near.shape)[voted]
    votes = np.bincount(pairs, weights, minlength=number * number).reshape(number, number)
    np.fill_diagonal(votes, np.inf)
    cosines = np.clip(centres @ centres.T, -1, 1)
    return np.argsort(-(votes + 0.4 * cosines), axis=1, kind="stable")
