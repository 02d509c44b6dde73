"""Approximate neighbours by a hierarchical navigable small world graph (Malkov and Yashunin 2016)."""

from pathlib import Path

import numpy as np
import torch

from sbp_bayes.base.errors import PairingError, StoreError
from sbp_bayes.base.store import atomic_path, read_json, write_json
from sbp_bayes.pairing.search.vocabulary import Found, best_without_own, pack

LINKS, EF_CONSTRUCTION = 16, 200
FIRST_EF, LAST_EF = 64, 2048
GRAPH, META = "graph.bin", "meta.json"
SELF_QUERIES = 32


def refuse_repeated(ids: np.ndarray) -> None:
    """Raise a `PairingError` that names the first of the ids, int64 (N,), that occurs twice."""
    distinct, counts = np.unique(ids, return_counts=True)
    if len(distinct) < len(ids):
        raise PairingError(
            f"id {distinct[counts > 1][0]} occurs more than once ({(counts > 1).sum()} such ids)"
        )


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
        refuse_repeated(ids)
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
            ids, distances = self._graph.knn_query(unit, k=k, num_threads=torch.get_num_threads())
        except RuntimeError:
            return None
        return ids.astype(np.int64), 1.0 - distances

    def search_packed(self, unit: np.ndarray, own: np.ndarray, k: int) -> np.ndarray | None:
        """Return what `pack` makes of the k best but each row's own id, int64 (N, min(k, rows)).

        Args:
            unit: float32 (N, D).
            own: int64 (N,), each row's own id, -1 for none; `NOTHING` stands where it leaves fewer.
            k: neighbours wanted.
        """
        found = self.search(unit, min(k + 1, len(self)))
        if found is None:
            return None
        return best_without_own(pack(found[1], found[0]), own, min(k, len(self)))

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


def efforts(k: int) -> list[int]:
    """Return the rising ef that a search for k neighbours tries, each twice the one before."""
    tried = [max(FIRST_EF, 2 * (k + 1))]
    while 2 * tried[-1] <= max(LAST_EF, 4 * (k + 1)):
        tried.append(2 * tried[-1])
    return tried


def bytes_per_vector(dimension: int) -> float:
    """Return what the graph holds of a row: float32 components, two links a bottom-layer link, a label."""
    return 4.0 * dimension + 4 * (2 * LINKS + 1) + 8
