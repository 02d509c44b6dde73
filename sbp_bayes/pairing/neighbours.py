"""Nearest neighbours among a corpus's own vectors."""

from typing import Literal, get_args

import numpy as np

from sbp_bayes.base.config import require, require_one_of
from sbp_bayes.base.errors import PairingError
from sbp_bayes.base.threads import blocks, map_threads
from sbp_bayes.pairing.join.join import Join, Rows, join_neighbours
from sbp_bayes.pairing.join.shard import Method
from sbp_bayes.pairing.search.audit import SearchReport
from sbp_bayes.pairing.search.inverted import inverted_neighbours
from sbp_bayes.pairing.search.quantise import ROWS_AT_ONCE
from sbp_bayes.pairing.search.vocabulary import Found, refuse_too_many

Backend = Literal["auto", "exact", "hnsw", "inverted"]

EXACT_UP_TO = 20_000
"""Rows up to which `auto` compares all pairs: both ways cost alike at 10,000 rows of 384, and up to 20,000
exact search takes less than 3 CPU-seconds.
"""

MIN_RECALL = 0.98


def nearest_neighbours(
    vectors: np.ndarray, k: int, backend: Backend = "auto", *, min_recall: float = MIN_RECALL
) -> Found:
    """Return each row's k nearest other rows by cosine, the nearest first.

    Results are the same in every run and for any number of threads; of equally similar rows that a search
    has met, the one with the smaller id comes first.

    Args:
        vectors: float (N, D); scaled to unit length here.
        k: neighbours wanted, 1 ≤ k < N.
        backend: "exact" compares all pairs; "inverted" and "hnsw" are approximate, their recall audited;
            "auto" is exact up to 20,000 rows and inverted beyond.
        min_recall: lowest share of the true neighbours, on audited rows, of an approximate backend.

    Returns:
        ids, int64 (N, k), and similarities, float32 (N, k), a row's own id left out.

    Raises:
        PairingError: a row that is zero or not finite (named), k ≥ N, more than 2³² rows, or an index that
            fails its audit.
        ConfigError: k below 1, an unknown backend or a recall that isn't within 0 to 1.
    """
    return find_neighbours(vectors, k, backend, min_recall=min_recall)[0]


def find_neighbours(
    vectors: np.ndarray,
    k: int,
    backend: Backend = "auto",
    *,
    min_recall: float = MIN_RECALL,
    join: Join | None = None,
) -> tuple[Found, SearchReport]:
    """Do as `nearest_neighbours`, as a sharded join where one is given, and return the report as well."""
    require_one_of("backend", backend, get_args(Backend))
    require(k >= 1, "k", k, "at least 1")
    require(0 < min_recall <= 1, "min_recall", min_recall, "above 0, at most 1")
    refuse_too_many(len(vectors))
    unit, join = unit_rows(vectors), Join() if join is None else join
    if k >= len(unit):
        raise PairingError(f"k = {k} neighbours asked of {len(unit)} documents: k must be below their number")
    method = resolved(backend, len(unit))
    if method == "inverted" and join.num_shards == 1:  # the audit then tells how many lists to ask
        return inverted_neighbours(unit, k, min_recall)
    rows = Rows.numbered(unit)
    return join_neighbours(rows, rows, k, method, min_recall=min_recall, join=join)


def resolved(backend: Backend, num_rows: int) -> Method:
    """Return the search that `backend` means for so many rows."""
    if backend == "auto":
        return "exact" if num_rows <= EXACT_UP_TO else "inverted"
    return backend


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Return `vectors` (N, D) scaled to unit rows, float32.

    Raises:
        PairingError: not a matrix, or a row that is zero or not finite; the message names the first one.
    """
    if vectors.ndim != 2:
        raise PairingError(f"vectors of shape {vectors.shape}: expected one row a document")
    norms, unit = np.empty((len(vectors), 1)), np.empty(vectors.shape, np.float32)

    def scale(rows: slice) -> None:
        block = vectors[rows].astype(np.float64)
        norms[rows] = np.linalg.norm(block, axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):  # such rows are named below
            unit[rows] = block / norms[rows]

    map_threads(scale, blocks(len(vectors), ROWS_AT_ONCE))
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        kind = "zero" if norms[bad[0]] == 0 else "not finite"
        raise PairingError(f"the vector of row {bad[0]} is {kind} ({len(bad)} such rows)")
    return unit
