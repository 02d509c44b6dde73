"""The true nearest neighbours, found in 8 bits and proved in float32.

Search in 8 bits yields candidates, float32 ranks them. Since ⟨a, b⟩ and ⟨â, b̂⟩ differ by at most
|a − â| + |â|·|b − b̂|, a row is done when no key outside its candidates can reach the k-th of them; the few
other rows are compared in float32 with all keys that can.
"""

import numpy as np
import torch

from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.pairing.quantise import Codes, quantisation_errors, quantise
from sbp_bayes.pairing.scan import (
    QUERIES_AT_ONCE,
    best_keys,
    dot_products,
    keys_above,
    pack,
    rank_again,
    unpack,
)
from sbp_bayes.pairing.threads import blocks, map_threads


def exact_neighbours(
    unit: np.ndarray, k: int, rows: np.ndarray, quantised: Codes | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and similarities (len(rows), k) of the given rows' neighbours among all rows.

    Of equally similar neighbours, the one with the smaller id comes first. The result doesn't depend on
    the number of threads.

    Args:
        unit: unit rows, float32 (N, D).
        k: below N.
        rows: int64 indices of the rows to search for.
        quantised: `unit` in 8 bits, where the caller has it.
    """
    codes = quantise(unit) if quantised is None else quantised
    errors = quantisation_errors(unit, codes)
    slack = errors + (1 + errors) * errors.max() + rounding(unit.shape[1])
    count = min(num_candidates(k), len(unit) - 1)
    unit_ND = torch.from_numpy(unit)
    ids, similarities = np.empty((len(rows), k), np.int64), np.empty((len(rows), k), np.float32)
    is_proved = np.empty(len(rows), bool)

    def search(block: slice) -> None:
        own = rows[block]
        queries = codes.rows(torch.from_numpy(own))
        candidates, scores = best_keys(queries.codes, codes, count, own)
        ids[block], similarities[block] = rank_again(unit_ND, own, candidates, k)
        highest_outside = scores.min(axis=1) * queries.scales.numpy() + slack[own]
        is_proved[block] = (similarities[block, -1] > highest_outside) | (count == len(unit) - 1)

    map_threads(search, blocks(len(rows), QUERIES_AT_ONCE))
    unproved = np.flatnonzero(~is_proved)
    if len(unproved):
        asked = rows[unproved]
        least = similarities[unproved, -1] - slack[asked]
        ids[unproved], similarities[unproved] = _search_again(unit, codes, asked, least, k)
    return ids, similarities


def num_candidates(k: int) -> int:
    """Candidates that are ranked again: enough that nearly every row of common data is proved by them."""
    return 4 * k + 24


def rounding(width: int) -> float:
    """Return what a float32 product of unit vectors can be off by, both roads' errors together."""
    return 4 * width * float(np.finfo(np.float32).eps)


def _search_again(
    unit: np.ndarray, codes: Codes, rows: np.ndarray, least: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and similarities (len(rows), k), comparing each row with all that score `least` in 8 bits.

    Equal vectors are compared once, so that a corpus of copies isn't compared copy by copy.
    """
    distinct, group = _groups_of_equal(unit)
    members = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    starts = np.cumsum(sizes) - sizes
    unit_GD, keys = torch.from_numpy(unit[distinct]), codes.rows(torch.from_numpy(distinct))
    ids, similarities = np.empty((len(rows), k), np.int64), np.empty((len(rows), k), np.float32)
    asked, first, asker = np.unique(group[rows], return_index=True, return_inverse=True)
    by_group = np.argsort(asker, kind="stable")
    ends = np.cumsum(np.bincount(asker))

    def search(block: slice) -> None:
        queries = keys.rows(torch.from_numpy(asked[block]))
        near, offsets = keys_above(queries.codes, keys, least[first[block]] / queries.scales.numpy())
        products = dot_products(unit_GD, asked[block], offsets, near)
        taken = np.minimum(sizes[near], k + 1)  # the smallest ids of a group, one of which may be the row
        stops = np.cumsum(taken)
        documents = members[np.repeat(starts[near] - stops + taken, taken) + np.arange(stops[-1])]
        lengths = np.diff(np.concatenate([[0], stops])[offsets])
        table = np.full((len(lengths), lengths.max()), np.iinfo(np.int64).max)
        table[np.arange(table.shape[1]) < lengths[:, None]] = pack(np.repeat(products, taken), documents)
        table = np.sort(table, axis=1)[:, : k + 1]
        places = by_group[ends[block.start - 1] if block.start else 0 : ends[block.stop - 1]]
        found = table[asker[places] - block.start]
        is_own = unpack(found)[0] == rows[places, None]
        found = np.sort(np.where(is_own, np.iinfo(np.int64).max, found), axis=1)[:, :k]
        ids[places], similarities[places] = unpack(found)

    map_threads(search, blocks(len(asked), QUERIES_AT_ONCE))
    return ids, similarities


def _groups_of_equal(unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each distinct vector, and each row's index among these, by rising row."""
    multipliers = numpy_generator(0, "equal vectors").integers(1 << 63, size=unit.shape[1], dtype=np.uint64)
    hashes = np.empty(len(unit), np.uint64)

    def digest(rows: slice) -> None:
        bits = (unit[rows] + np.float32(0)).view(np.uint32)  # the sum makes -0 a 0
        hashes[rows] = bits.astype(np.uint64) @ (2 * multipliers + np.uint64(1))

    map_threads(digest, blocks(len(unit), QUERIES_AT_ONCE))
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    first = np.arange(len(unit))
    suspects = np.flatnonzero(counts[inverse] > 1)
    _, first_suspect, same = np.unique(
        unit[suspects] + np.float32(0), axis=0, return_index=True, return_inverse=True
    )
    first[suspects] = suspects[first_suspect[same]]
    distinct, group = np.unique(first, return_inverse=True)
    return distinct, group
