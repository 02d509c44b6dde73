"""Ordered pairs of a corpus's documents: on disk and in memory, and while they are still being chosen."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.store import atomic_path, read_json, write_json

PAIRS, SIMILARITIES, META = "pairs.parquet", "similarities.npz", "meta.json"

_COLUMNS = ("first", "second", "similarity", "rank_of_second", "rank_of_first")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PairSet(ArrayRecord):
    """P ordered pairs (d1, d2) of one corpus's documents, by d1 and then by falling similarity.

    Attributes:
        first, second: int64 (P,), indices of d1 and d2 in the corpus.
        similarity: float32 (P,), ⟨d1, d2⟩ of the unit vectors.
        rank_of_second: int32 (P,), d2's rank among d1's neighbours, 1 the nearest; -1: it isn't among the k.
        rank_of_first: likewise d1's among d2's. One of the two is a rank.
        corpus_fingerprint: of the corpus that the indices mean.
        counts: neighbours found, those dropped by reason (see `rules.REJECTIONS`), and pairs kept.
        neighbour_similarities: float32, a sample over all neighbours found, before any rule.
        random_similarities: float32, a sample over random pairs of different documents.
        search: how the neighbours were found and with what recall, see `SearchReport`, and its `flops`.
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray
    rank_of_second: np.ndarray
    rank_of_first: np.ndarray
    corpus_fingerprint: str
    counts: Mapping[str, int]
    neighbour_similarities: np.ndarray
    random_similarities: np.ndarray
    search: Mapping[str, str | float] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def empty(cls, corpus_fingerprint: str, counts: Mapping[str, int]) -> "PairSet":
        """Return no pairs of a corpus."""
        none = np.zeros(0, np.int64)
        return cls(
            first=none,
            second=none,
            similarity=none.astype(np.float32),
            rank_of_second=none.astype(np.int32),
            rank_of_first=none.astype(np.int32),
            corpus_fingerprint=corpus_fingerprint,
            counts=counts,
            neighbour_similarities=none.astype(np.float32),
            random_similarities=none.astype(np.float32),
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits (SHA-256) of the corpus, the pairs and their similarities.

        Ranks say how a pair was found, not which it is: they're left out.
        """
        digest = hashlib.sha256(self.corpus_fingerprint.encode())
        for array in (self.first, self.second, self.similarity):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def save(self, directory: Path) -> None:
        """Write the pairs to `directory`, each file atomically and `meta.json` last.

        Raises:
            StoreError: the disk is full or the folder cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        directory = Path(directory)
        columns = {name: pa.array(getattr(self, name)) for name in _COLUMNS}
        with atomic_path(directory / PAIRS) as temporary:
            pq.write_table(pa.table(columns), temporary, compression="zstd", write_page_checksum=True)
        with atomic_path(directory / SIMILARITIES) as temporary, open(temporary, "wb") as file:
            np.savez(file, neighbour=self.neighbour_similarities, random=self.random_similarities)
        record = {"corpus": self.corpus_fingerprint, "fingerprint": self.fingerprint}
        write_json(directory / META, record | {"counts": dict(self.counts), "search": dict(self.search)})

    @classmethod
    def load(cls, directory: Path) -> "PairSet":
        """Read the pairs that `save` wrote.

        Raises:
            StoreError: a file is missing or damaged; the message names it.
        """
        meta = read_json(Path(directory) / META)
        columns = _load_columns(Path(directory) / PAIRS)
        samples = _load_samples(Path(directory) / SIMILARITIES)
        pairs = cls(
            **columns,
            corpus_fingerprint=meta["corpus"],
            counts=meta["counts"],
            search=meta.get("search", {}),
            neighbour_similarities=samples[0],
            random_similarities=samples[1],
        )
        if pairs.fingerprint != meta["fingerprint"]:
            raise StoreError(f"{directory}: damaged, its content has changed since it was written")
        return pairs


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Edges(ArrayRecord):
    """Ordered pairs (d1, d2).

    Attributes:
        first, second: int64 (P,).
        similarity: float32 (P,).
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def take(self, index: np.ndarray) -> "Edges":
        """Return some of the pairs, by int64 or bool index."""
        return Edges(first=self.first[index], second=self.second[index], similarity=self.similarity[index])

    def split(self, part: np.ndarray, number: int) -> list["Edges"]:
        """Return `number` parts, given each pair's, int64 (P,)."""
        ordered = self.take(np.argsort(part, kind="stable"))
        ends = np.cumsum(np.bincount(part, minlength=number))
        return [ordered.take(np.arange(start, end)) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    @classmethod
    def joined(cls, parts: list["Edges"]) -> "Edges":
        """Return the pairs of all parts, of which there is one at least."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _load_columns(path: Path) -> dict[str, np.ndarray]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise StoreError(f"{path}: no such file")
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        return {name: table[name].to_numpy() for name in _COLUMNS}
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise StoreError(f"{path}: damaged ({' '.join(str(error).split())})") from error


def _load_samples(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import zipfile

    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            return arrays["neighbour"], arrays["random"]
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such file") from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path}: damaged ({error})") from error
