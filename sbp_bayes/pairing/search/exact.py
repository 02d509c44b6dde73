"""The true nearest neighbours, found in 8 bits and proved in float32.

Search in 8 bits yields candidates, float32 ranks them. Since ⟨a, b⟩ and ⟨â, b̂⟩ differ by at most
|a − â| + |â|·|b − b̂|, a query is done when no key outside its candidates can reach the k-th of them; the few
other queries are compared in float32 with all keys that can.
"""

import dataclasses
import functools

import numpy as np
import torch

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.threads import blocks, map_threads
from sbp_bayes.pairing.search.quantise import ROWS_AT_ONCE, Codes, quantisation_errors, quantise
from sbp_bayes.pairing.search.scan import QUERIES_AT_ONCE, best_keys, dot_products, keys_above, pack_products
from sbp_bayes.pairing.search.vocabulary import NOTHING, best_without_own, pack, unpack


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
    return unpack(ExactKeys(unit, quantised).search(unit[rows], rows, k))


class ExactKeys:
    """Keys that any queries can be compared with.

    Args:
        unit: unit rows, float32 (N, D), the keys.
        quantised: `unit` in 8 bits, where the caller has it.
    """

    def __init__(self, unit: np.ndarray, quantised: Codes | None = None) -> None:
        self.unit = unit
        self.codes = quantise(unit) if quantised is None else quantised
        self._worst_error = quantisation_errors(unit, self.codes).max()

    def __len__(self) -> int:
        return len(self.unit)

    def search(self, queries: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
        """Return each query's k nearest keys, or all keys where they are fewer.

        A query's result depends on itself and the keys alone, to the last bit.

        Args:
            queries: unit rows, float32 (Q, D).
            own: int64 (Q,), each query's own key; -1 for none.
            k: neighbours wanted, at least 1.

        Returns:
            packed neighbours, int64 (Q, min(k, N)), ascending; `NOTHING` in the last column where a query's
            own key leaves fewer.
        """
        k = min(k, len(self))
        count = min(num_candidates(k), len(self))
        queries_QD, keys_ND = torch.from_numpy(queries), torch.from_numpy(self.unit)
        found, least = np.empty((len(queries), k), np.int64), np.empty(len(queries), np.float32)
        is_proved = np.empty(len(queries), bool)

        def search(block: slice) -> None:
            codes, rows = quantise(queries[block]), np.arange(block.start, block.stop)
            candidates, scores = best_keys(codes.codes, self.codes, count, own[block])
            products = pack_products(queries_QD, rows, candidates, keys_ND)
            found[block] = best_without_own(products, own[block], k)
            slack = self._slack(queries[block], codes)
            highest_outside = scores.min(axis=1) * codes.scales.numpy() + slack
            reached = unpack(found[block, -1])[1]
            is_proved[block] = (reached > highest_outside) | (count == len(self))
            least[block] = reached - slack

        map_threads(search, blocks(len(queries), QUERIES_AT_ONCE))
        unproved = np.flatnonzero(~is_proved)
        if len(unproved):
            found[unproved] = self._search_again(queries[unproved], own[unproved], least[unproved], k)
        return found

    def _slack(self, queries: np.ndarray, codes: Codes) -> np.ndarray:
        """Return by how much a query's 8-bit score and float32 product with any key can differ."""
        errors = quantisation_errors(queries, codes)
        return errors + (1 + errors) * self._worst_error + rounding(self.unit.shape[1])

    def _search_again(self, queries: np.ndarray, own: np.ndarray, least: np.ndarray, k: int) -> np.ndarray:
        """Return packed (Q, k) as `search`, comparing each query with all that score `least` in 8 bits.

        Equal vectors are compared once, so that a corpus of copies isn't compared copy by copy.
        """
        keys = self._distinct
        codes = quantise(queries)
        first, group = groups_of_equal(queries, codes)
        queries_GD, codes = torch.from_numpy(queries[first]), codes.rows(torch.from_numpy(first))
        thresholds = np.full(len(first), np.inf, np.float32)
        np.minimum.at(thresholds, group, least)
        thresholds /= codes.scales.numpy()
        by_group = np.argsort(group, kind="stable")
        ends = np.cumsum(np.bincount(group))
        found = np.empty((len(queries), k), np.int64)

        def search(block: slice) -> None:
            query, near, _ = keys_above(codes.codes[block], keys.codes, thresholds[block])
            near = near[np.argsort(query, kind="stable")]
            offsets = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=block.stop - block.start))])
            products = dot_products(queries_GD, np.arange(block.start, block.stop), offsets, near, keys.unit)
            taken = np.minimum(keys.sizes[near], k + 1)  # its smallest ids, one of which may be the query's
            stops = np.cumsum(taken)
            within = np.repeat(keys.starts[near] - stops + taken, taken) + np.arange(stops[-1])
            lengths = np.diff(np.concatenate([[0], stops])[offsets])
            table = np.full((len(lengths), lengths.max()), NOTHING)
            is_used = np.arange(table.shape[1]) < lengths[:, None]
            table[is_used] = pack(np.repeat(products, taken), keys.members[within])
            table = np.sort(table, axis=1)[:, : k + 1]
            places = by_group[ends[block.start - 1] if block.start else 0 : ends[block.stop - 1]]
            found[places] = best_without_own(table[group[places] - block.start], own[places], k)

        map_threads(search, blocks(len(first), QUERIES_AT_ONCE))
        return found

    @functools.cached_property
    def _distinct(self) -> "_Distinct":
        first, group = groups_of_equal(self.unit, self.codes)
        sizes = np.bincount(group)
        all_differ = len(first) == len(self.unit)  # and needn't be copied
        return _Distinct(
            unit=torch.from_numpy(self.unit if all_differ else self.unit[first]),
            codes=self.codes if all_differ else self.codes.rows(torch.from_numpy(first)),
            members=np.argsort(group, kind="stable"),
            starts=np.cumsum(sizes) - sizes,
            sizes=sizes,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Distinct(ArrayRecord):
    """The G distinct vectors among N keys; group g is members[starts[g] : starts[g] + sizes[g]]."""

    unit: torch.Tensor
    codes: Codes
    members: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray


def num_candidates(k: int) -> int:
    """Candidates that are ranked again: enough that nearly every row of common data is proved by them."""
    return 4 * k + 24


def rounding(width: int) -> float:
    """Return what a float32 product of unit vectors can be off by, both roads' errors together."""
    return 4 * width * float(np.finfo(np.float32).eps)


def groups_of_equal(unit: np.ndarray, codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each distinct vector, and each row's index among these, by rising row.

    Args:
        unit: float32 (N, D).
        codes: `unit` in 8 bits, which differ where vectors do, nearly always.
    """
    width = codes.codes.shape[1]
    multipliers = numpy_generator(0, "equal vectors").integers(1 << 63, size=-(-width // 8), dtype=np.uint64)
    hashes = np.empty(len(unit), np.uint64)

    def digest(rows: slice) -> None:
        padded = np.zeros((rows.stop - rows.start, 8 * len(multipliers)), np.int8)
        padded[:, :width] = codes.codes[rows].numpy()
        hashes[rows] = padded.view(np.uint64) @ (2 * multipliers + np.uint64(1))

    map_threads(digest, blocks(len(unit), ROWS_AT_ONCE))
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    first = np.arange(len(unit))
    suspects = np.flatnonzero(counts[inverse] > 1)
    _, first_suspect, same = np.unique(  # the sum makes -0 a 0
        unit[suspects] + np.float32(0), axis=0, return_index=True, return_inverse=True
    )
    first[suspects] = suspects[first_suspect[same]]
    distinct, group = np.unique(first, return_inverse=True)
    return distinct, group
