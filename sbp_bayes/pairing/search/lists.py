"""Lists of rows that lie together: spherical k-means (Dhillon and Modha 2001), fitted on a sample."""

import dataclasses

import numpy as np
import torch

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.threads import blocks, map_threads
from sbp_bayes.pairing.search.audit import Audit
from sbp_bayes.pairing.search.quantise import Codes, quantise
from sbp_bayes.pairing.search.scan import QUERIES_AT_ONCE, best_keys
from sbp_bayes.pairing.search.vocabulary import pack, unpack

SAMPLED_ROWS_PER_LIST = 40
ROUNDS = 5
FEWEST_ROWS = 16
"""A list of fewer is left out, and its rows go to the next nearest: few of their neighbours are in it."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Lists(ArrayRecord):
    """Rows by list.

    Attributes:
        order: int64 (N,), the rows, list by list; "places" are indices of it.
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

    @property
    def places(self) -> np.ndarray:
        """Each row's place, int64 (N,)."""
        places = np.empty_like(self.order)
        places[self.order] = np.arange(len(places))
        return places


def number_of_lists(num_rows: int) -> int:
    """Return the power of two nearest to 2√N: fewer hold keys far apart, more take longer to make."""
    return min(num_rows, int(2 ** np.round(1 + np.log2(num_rows) / 2)))


def make_lists(unit: np.ndarray, codes: Codes, number: int) -> Lists:
    """Return the rows in at most `number` lists, each row in that of its nearest centre; the same each time.

    Args:
        unit: unit rows, float32 (N, D).
        codes: `unit` in 8 bits.
        number: at most N.
    """
    generator = numpy_generator(0, "inverted lists")
    size = min(len(unit), SAMPLED_ROWS_PER_LIST * number)
    sample = np.sort(generator.choice(len(unit), size, replace=False))
    sampled, sampled_codes = unit[sample], codes.rows(torch.from_numpy(sample))
    centres = sampled[np.sort(generator.choice(size, number, replace=False))]
    for _ in range(ROUNDS):
        centres = _means(sampled, nearest_centres(sampled_codes.codes, quantise(centres), 1)[:, 0])
    coded = quantise(centres)
    nearest = nearest_centres(codes.codes, coded, 1)[:, 0]
    counts = np.bincount(nearest, minlength=len(coded))
    kept = np.flatnonzero(counts >= min(FEWEST_ROWS, counts.max()))
    list_of = np.full(len(coded), -1)
    list_of[kept] = np.arange(len(kept))
    chosen, left = list_of[nearest], coded.rows(torch.from_numpy(kept))
    others = np.flatnonzero(chosen < 0)
    chosen[others] = nearest_centres(codes.codes[torch.from_numpy(others)], left, 1)[:, 0]
    order = np.argsort(chosen, kind="stable")
    return Lists(
        order=order,
        starts=np.concatenate([[0], np.cumsum(np.bincount(chosen, minlength=len(left)))]),
        codes=codes.rows(torch.from_numpy(order)),
        centres=left,
    )


def nearest_centres(queries_ND: torch.Tensor, centres: Codes, number: int) -> np.ndarray:
    """Return the nearest centres of each row of int8 (N, D), the nearest first, int64 (N, number)."""
    nearest = np.empty((len(queries_ND), number), np.int64)

    def search(block: slice) -> None:
        columns, scores = best_keys(queries_ND[block], centres, number)
        nearest[block] = columns if number == 1 else unpack(np.sort(pack(scores, columns), axis=1))[0]

    map_threads(search, blocks(len(queries_ND), QUERIES_AT_ONCE))
    return nearest


def probes_needed(lists: Lists, codes: Codes, audit: Audit, share: float) -> int:
    """Return how many nearest lists must be probed to meet `share` of the audited rows' true neighbours."""
    nearest = nearest_centres(codes.codes[torch.from_numpy(audit.rows)], lists.centres, len(lists))
    rank = np.argsort(nearest, axis=1)
    list_of_neighbour = np.searchsorted(lists.starts, lists.places[audit.ids], side="right") - 1
    needed = np.sort(np.take_along_axis(rank, list_of_neighbour, axis=1).reshape(-1))
    return int(needed[int(np.ceil(share * len(needed))) - 1]) + 1


def _means(vectors: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Return the unit mean of each group's vectors; a group whose mean is zero keeps its first vector."""
    order = np.argsort(nearest, kind="stable")
    starts = np.flatnonzero(np.diff(nearest[order], prepend=-1))
    rows, bags = torch.from_numpy(order), torch.from_numpy(starts)
    sums = torch.nn.functional.embedding_bag(rows, torch.from_numpy(vectors), bags, mode="sum").numpy()
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(norms > 1e-6, sums / np.maximum(norms, 1e-6), vectors[order[starts]])
