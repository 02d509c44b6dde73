"""Approximate neighbours by a hierarchical navigable small world graph (Malkov and Yashunin 2016)."""

from pathlib import Path

import numpy as np

from sbp_bayes.base.errors import PairingError, StoreError
from sbp_bayes.base.store import atomic_path, read_json, write_json
from sbp_bayes.pairing.audit import Audit, Found, SearchReport, search_with_audit

LINKS, EF_CONSTRUCTION = 16, 200
FIRST_EF, LAST_EF = 64, 2048
GRAPH, META = "graph.bin", "meta.json"
SELF_QUERIES = 32


class HnswIndex:
    """A graph over unit rows, each with an id of the caller's.

    The graph is built by one thread, so that it's the same each time.

    Attributes:
        dimension: width of the rows.
        ef: candidates that a search keeps; hnswlib's own files forget it, `save` keeps it.
    """

    def __init__(self, graph: "hnswlib.Index", dimension: int, ef: int) -> None:  # type: ignore[name-defined] # noqa: F821 - imported lazily
        self._graph, self.dimension, self.ef = graph, dimension, ef

    def __len__(self) -> int:
        return int(self._graph.get_current_count())

    @classmethod
    def build(cls, unit: np.ndarray, ids: np.ndarray, ef: int = FIRST_EF) -> "HnswIndex":
        """Index rows float32 (N, D) under ids int64 (N,).

        Raises:
            PairingError: an id that occurs twice, or another number of ids than of rows.
        """
        import hnswlib

        if len(ids) != len(unit):
            raise PairingError(f"{len(ids)} ids for {len(unit)} vectors")
        distinct, counts = np.unique(ids, return_counts=True)
        if len(distinct) < len(ids):
            raise PairingError(
                f"id {distinct[counts > 1][0]} occurs more than once ({(counts > 1).sum()} such ids)"
            )
        graph = hnswlib.Index(space="ip", dim=unit.shape[1])
        graph.init_index(max_elements=len(unit), M=LINKS, ef_construction=EF_CONSTRUCTION, random_seed=0)
        graph.add_items(unit, ids, num_threads=1)
        assert graph.get_current_count() == len(unit)
        return cls(graph, unit.shape[1], ef)

    def search(self, unit: np.ndarray, k: int) -> Found | None:
        """Return ids and similarities (N, k) of rows (N, D); None where the graph reaches fewer than k.

        Raises:
            PairingError: rows of another width, or k above the number of rows indexed.
        """
        if unit.ndim != 2 or unit.shape[1] != self.dimension:
            raise PairingError(f"vectors of shape {unit.shape} asked of an index of width {self.dimension}")
        if k > len(self):
            raise PairingError(f"k = {k} neighbours asked of an index of {len(self)} rows")
        self._graph.set_ef(max(self.ef, k))
        try:
            ids, distances = self._graph.knn_query(unit, k=k)
        except RuntimeError:
            return None
        return ids.astype(np.int64), 1.0 - distances

    def save(self, directory: Path) -> None:
        """Write the graph to `directory`, then what's needed to check it.

        Raises:
            StoreError: the folder cannot be written.
        """
        with atomic_path(Path(directory) / GRAPH) as temporary:
            self._graph.save_index(str(temporary))
        size = (Path(directory) / GRAPH).stat().st_size
        write_json(
            Path(directory) / META,
            {"rows": len(self), "dimension": self.dimension, "ef": self.ef, "bytes": size},
        )

    @classmethod
    def load(cls, directory: Path) -> "HnswIndex":
        """Read what `save` wrote, and ask it for some of its own rows.

        Raises:
            StoreError: a file is missing, cut short or not this index's.
        """
        import hnswlib

        path, meta = Path(directory) / GRAPH, read_json(Path(directory) / META)
        if not path.exists():
            raise StoreError(f"{path}: no such file")
        if path.stat().st_size != meta["bytes"]:
            raise StoreError(f"{path}: damaged, {path.stat().st_size} bytes instead of {meta['bytes']}")
        graph = hnswlib.Index(space="ip", dim=meta["dimension"])
        try:
            graph.load_index(str(path))
        except (RuntimeError, MemoryError) as error:
            raise StoreError(f"{path}: damaged ({error})") from error
        index = cls(graph, meta["dimension"], meta["ef"])
        if len(index) != meta["rows"]:
            raise StoreError(f"{path}: damaged, {len(index)} rows instead of {meta['rows']}")
        index._check_that_it_finds_itself(path)
        return index

    def _check_that_it_finds_itself(self, path: Path) -> None:
        """Ask for rows by their own vectors: the nearest must be as near as the row is to itself."""
        labels = np.sort(self._graph.get_ids_list())[:: max(1, len(self) // SELF_QUERIES)]
        own = np.asarray(self._graph.get_items(labels), np.float32)
        found = self.search(own, 1)
        norms = (own**2).sum(axis=1)
        if (
            found is None
            or not np.allclose(norms, 1, atol=1e-3)
            or (found[1][:, 0] < norms - 1e-3).mean() > 0.1
        ):
            raise StoreError(f"{path}: damaged, it doesn't find its own rows")


def hnsw_neighbours(unit: np.ndarray, k: int, min_recall: float) -> tuple[Found, SearchReport]:
    """Return ids and similarities (N, k) as `nearest_neighbours` does, approximately, and the report.

    The recall is measured against exact search on up to 500 evenly spaced rows, and the search widened
    until it suffices.

    Args:
        unit: unit rows, float32 (N, D).
        k: below N.
        min_recall: lowest share of true neighbours that is accepted.

    Raises:
        PairingError: the recall stays lower with the widest search.
    """
    index, audit = HnswIndex.build(unit, np.arange(len(unit))), Audit.of(unit, k)

    def search(ef: int, rows: np.ndarray) -> Found | None:
        index.ef = ef
        found = index.search(unit[rows], k + 1)
        return None if found is None else _without_own(*found, rows)

    efforts = []
    ef = max(FIRST_EF, 2 * (k + 1))
    while ef <= max(LAST_EF, 4 * (k + 1)):
        efforts.append(ef)
        ef *= 2
    found, ef, recall = search_with_audit(
        "HNSW index", search, efforts=efforts, audit=audit, num_rows=len(unit), min_recall=min_recall
    )
    links = 4 * (2 * LINKS + 1)
    report = SearchReport(
        backend="hnsw", recall=recall, effort=ef, bytes_per_vector=4.0 * unit.shape[1] + links + 8
    )
    return found, report


def _without_own(ids: np.ndarray, similarities: np.ndarray, rows: np.ndarray) -> Found:
    """Drop the row itself from k + 1 found, and order equally near ones by id."""
    kept = ids != rows[:, None]
    kept[kept.all(axis=1), -1] = False  # a row that didn't find itself drops its farthest
    shape = (len(rows), ids.shape[1] - 1)
    ids, similarities = ids[kept].reshape(shape), similarities[kept].reshape(shape).astype(np.float32)
    order = np.lexsort((ids, -similarities), axis=1)
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(similarities, order, axis=1)
