"""Approximate neighbours by a hierarchical navigable small world graph (Malkov and Yashunin 2016)."""

import numpy as np

from sbp_bayes.base.errors import PairingError
from sbp_bayes.pairing.index import exact_neighbours

LINKS, EF_CONSTRUCTION = 16, 200
FIRST_EF, LAST_EF = 64, 2048
AUDITED_ROWS = 500
MIN_RECALL = 0.98


def hnsw_neighbours(unit: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and similarities (N, k) as `nearest_neighbours` does, approximately.

    The graph is built by one thread, so that it's the same each time. Its recall is measured against
    exact search on up to 500 evenly spaced rows, and the search widened until it reaches 98%.

    Args:
        unit: unit rows, float32 (N, D).
        k: below N.

    Raises:
        PairingError: the recall stays below 98% with the widest search.
    """
    import hnswlib

    index = hnswlib.Index(space="ip", dim=unit.shape[1])
    index.init_index(max_elements=len(unit), M=LINKS, ef_construction=EF_CONSTRUCTION, random_seed=0)
    index.add_items(unit, np.arange(len(unit)), num_threads=1)
    assert index.get_current_count() == len(unit)
    audited = np.unique(np.linspace(0, len(unit) - 1, min(AUDITED_ROWS, len(unit))).astype(np.int64))
    truth = exact_neighbours(unit, k, audited)[1]
    ef, recall = max(FIRST_EF, 2 * (k + 1)), 0.0
    while ef <= max(LAST_EF, 4 * (k + 1)):
        recall = _recall(_search(index, unit, k, audited, ef), truth)
        if recall >= MIN_RECALL:
            found = _search(index, unit, k, np.arange(len(unit)), ef)
            if found is not None:
                return found
        ef *= 2
    raise PairingError(f"the HNSW index finds {recall:.1%} of the {k} neighbours: use backend = exact")


def _search(
    index: "hnswlib.Index",  # type: ignore[name-defined] # noqa: F821 - imported lazily
    unit: np.ndarray,
    k: int,
    rows: np.ndarray,
    ef: int,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Search for `rows`; None where the graph reaches fewer than k other rows from one of them."""
    index.set_ef(ef)
    try:
        ids, distances = index.knn_query(unit[rows], k=k + 1)
    except RuntimeError:
        return None
    ids = ids.astype(np.int64)
    kept = ids != rows[:, None]
    kept[kept.all(axis=1), -1] = False  # a row that didn't find itself drops its farthest
    shape = (len(rows), k)
    return ids[kept].reshape(shape), (1.0 - distances[kept]).reshape(shape).astype(np.float32)


def _recall(found: tuple[np.ndarray, np.ndarray] | None, truth: np.ndarray) -> float:
    """Share of found similarities that reach the true k-th one: equally near rows count alike."""
    return 0.0 if found is None else float((found[1] >= truth[:, -1:] - 1e-5).mean())
