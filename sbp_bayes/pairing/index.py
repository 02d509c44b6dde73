"""Nearest neighbours among a corpus's own vectors."""

from typing import Literal

import numpy as np
import torch

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import PairingError

Backend = Literal["auto", "exact", "hnsw"]

EXACT_UP_TO = 50_000
"""Rows up to which `auto` compares all pairs: below, an index costs more than it saves."""

BLOCK_ENTRIES = 1 << 24


def nearest_neighbours(
    vectors: np.ndarray, k: int, backend: Backend = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's k nearest other rows by cosine, the nearest first.

    Args:
        vectors: float (N, D); scaled to unit length here.
        k: neighbours wanted, 1 ≤ k < N.
        backend: "exact" compares all pairs; "hnsw" is approximate, its recall audited; "auto" is exact
            up to 50,000 rows.

    Returns:
        ids, int64 (N, k), and similarities, float32 (N, k), a row's own id left out.

    Raises:
        PairingError: a row that is zero or not finite (named), k ≥ N, or an index that fails its audit.
        ConfigError: k below 1 or an unknown backend.
    """
    require(backend in ("auto", "exact", "hnsw"), "backend", backend, "auto, exact or hnsw")
    require(k >= 1, "k", k, "at least 1")
    unit = unit_rows(vectors)
    if k >= len(unit):
        raise PairingError(f"k = {k} neighbours asked of {len(unit)} documents: k must be below their number")
    if backend == "exact" or (backend == "auto" and len(unit) <= EXACT_UP_TO):
        return exact_neighbours(unit, k, np.arange(len(unit)))
    from sbp_bayes.pairing.hnsw import hnsw_neighbours

    return hnsw_neighbours(unit, k)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Return `vectors` (N, D) scaled to unit rows, float32.

    Raises:
        PairingError: not a matrix, or a row that is zero or not finite; the message names the first one.
    """
    if vectors.ndim != 2:
        raise PairingError(f"vectors of shape {vectors.shape}: expected one row a document")
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        kind = "zero" if norms[bad[0]] == 0 else "not finite"
        raise PairingError(f"the vector of row {bad[0]} is {kind} ({len(bad)} such rows)")
    return (vectors / norms).astype(np.float32)


def exact_neighbours(unit: np.ndarray, k: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and similarities (len(rows), k) of the given rows' neighbours, comparing all pairs.

    Args:
        unit: unit rows, float32 (N, D).
        k: below N.
        rows: int64 indices of the rows to search for.
    """
    keys = torch.from_numpy(unit)
    ids, similarities = np.empty((len(rows), k), np.int64), np.empty((len(rows), k), np.float32)
    block = max(1, BLOCK_ENTRIES // len(unit))
    for start in range(0, len(rows), block):
        own = torch.from_numpy(rows[start : start + block])
        scores = keys[own] @ keys.T
        scores[torch.arange(len(own)), own] = -torch.inf
        top = scores.topk(k)
        ids[start : start + block], similarities[start : start + block] = top.indices, top.values
    return ids, similarities
