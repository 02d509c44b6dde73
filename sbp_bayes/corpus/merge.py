"""The corpus stage's work on all shards together: duplicates, the tokenizer's text, and the splits.

What is held for each document is a few numbers; texts stay in the shards' files.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.progress import progress
from sbp_bayes.base.store import atomic_path, read_json, write_json
from sbp_bayes.base.workers import side_by_side
from sbp_bayes.corpus.config import CorpusConfig
from sbp_bayes.corpus.crowds import Common, Rarest, sampled
from sbp_bayes.corpus.dedup import CROWD, Meetings, Near, NearDuplicates, exact_survivors
from sbp_bayes.corpus.files import OFFSETS, TOKENS_TOGETHER, stored_batches, token_dtype, writing_corpus
from sbp_bayes.corpus.minhash import shingle_hashes, sorted_set
from sbp_bayes.corpus.shards import Shard, choose_rarest, save_array, save_arrays
from sbp_bayes.corpus.splits import POOL, SPLITS

OPEN_SHARDS = 256
LOOKUPS_TOGETHER = 256
COMPARED_TOGETHER = 1 << 14
"""Documents of a part of the search for near duplicates, which is not done again after a kill."""
NEAR = np.dtype([("removed", "<i8"), ("kept", "<i8"), ("similarity", "<f8")])
"""One near duplicate, as `Near` has it."""


class _Documents:
    """The documents of all shards, numbered through in order of (shard, position)."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = shards
        self.starts = np.concatenate([[0], np.cumsum([len(shard.index) for shard in shards])])
        self._column = functools.lru_cache(OPEN_SHARDS)(lambda k, name: shards[k].column(name))
        self._lookups = 0

    def __len__(self) -> int:
        return int(self.starts[-1])

    def index(self, field: str) -> np.ndarray:
        """Return one field of all documents' index."""
        return np.concatenate([shard.index[field] for shard in self.shards])

    def value(self, column: str, document: int) -> str:
        """Return one document's entry of a column of strings."""
        self._lookups += 1
        if self._lookups % LOOKUPS_TOGETHER == 0:
            self._column.cache_clear()  # pages of an open map count as this process's memory
        k = int(np.searchsorted(self.starts, document, side="right")) - 1
        return str(self._column(k, column)[int(document - self.starts[k])].as_py())

    def part(self, values: np.ndarray, k: int) -> np.ndarray:
        """Return what `values`, one a document, has for shard k."""
        return values[self.starts[k] : self.starts[k + 1]]


class _Keys(Sequence[np.ndarray]):
    """Each band's keys of the documents at `rows`, one band at a time."""

    def __init__(self, shards: Sequence[Shard], rows: np.ndarray) -> None:
        self._shards, self._rows = shards, rows

    def __len__(self) -> int:
        return len(self._shards[0].keys)

    def __getitem__(self, band: Any) -> Any:
        if band >= len(self):
            raise IndexError(band)
        return np.concatenate([shard.keys[band] for shard in self._shards])[self._rows]


class _Shingles:
    """The shingles of the documents at `rows`, computed when they are asked for."""

    def __init__(self, documents: _Documents, rows: np.ndarray) -> None:
        self._documents, self._rows = documents, rows

    def __getitem__(self, position: int) -> np.ndarray:
        text = self._documents.value("texts", self._rows[position])
        return shingle_hashes([text])[0]


def remove_duplicates(
    shards: Sequence[Shard],
    config: CorpusConfig,
    folder: Path,
    num_workers: int = 1,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Mark in every shard which documents are kept; return what was counted.

    Writes `duplicates.parquet` to `folder`: each removed document, the one that survives for it (the
    smallest (shard, position) that it is like), "exact" or "near", and their Jaccard similarity.

    Args:
        shards: all of them, read.
        config: of the corpus.
        folder: of the stage.
        num_workers: processes that share the shards where texts have to be read again.
        tick: called after each part of the work.

    Raises:
        CorpusError: two documents of one id.
    """
    marker = shards[0].folder / "kept.json"
    if marker.exists():
        return dict(read_json(marker))
    documents = _Documents(shards)
    _refuse_repeated_ids(documents)
    survivors = exact_survivors(documents.index("digest"))
    own = np.arange(len(documents))
    exact = survivors != own
    unique = np.flatnonzero(~exact)
    similarities = np.where(exact, 1.0, np.nan)
    for late, early, similarity in _near_duplicates(documents, unique, config, num_workers, tick):
        survivors[unique[late]], similarities[unique[late]] = unique[early], similarity
    survivors = survivors[survivors]  # an exact duplicate of a document that is itself removed
    removed = survivors != own
    _write_duplicates(documents, folder, survivors, exact, similarities)
    for k, shard in enumerate(shards):
        save_array(shard.file("kept.npy"), documents.part(~removed, k))
    cluster_sizes = np.unique(survivors[removed], return_counts=True)[1] + 1
    num_exact, num_removed = int(exact.sum()), int(removed.sum())
    counts = {
        "exact_duplicates": num_exact,
        "near_duplicates": num_removed - num_exact,
        "exact_duplicate_rate": num_exact / max(1, len(documents)),
        "near_duplicate_rate": (num_removed - num_exact) / max(1, len(documents)),
        "duplicate_clusters": len(cluster_sizes),
        "largest_cluster": int(cluster_sizes.max(initial=0)),
        "unique": len(documents) - num_removed,
    }
    write_json(marker, counts)
    return counts


def _near_duplicates(
    documents: _Documents,
    unique: np.ndarray,
    config: CorpusConfig,
    num_workers: int,
    tick: Callable[[], None],
) -> Iterator[Near]:
    """Yield the near duplicates among the documents at `unique`; each part of them is written when found."""
    verify, shingles = config.dedup_verify, _Shingles(documents, unique)
    meetings = Meetings.of(_Keys(documents.shards, unique), crowd=CROWD if verify else None)
    rarest = _rarest(documents, unique[meetings.crowded], config.dedup_threshold, num_workers)
    search = NearDuplicates(meetings, rarest, shingles, config.dedup_threshold, verify=verify)
    with progress("finding near duplicates", len(unique), "documents") as advance:
        for start in range(0, len(unique), COMPARED_TOGETHER):
            tick()
            stop = min(start + COMPARED_TOGETHER, len(unique))
            path = documents.shards[0].folder / f"near.{start // COMPARED_TOGETHER:06d}.npy"
            known = np.load(path).tolist() if path.exists() else None
            found = search.block(start, stop, known)
            if known is None:
                save_array(path, np.array(found, NEAR))
            yield from found
            advance(stop - start)


def _rarest(documents: _Documents, crowd: np.ndarray, threshold: float, num_workers: int) -> Rarest:
    """Return the rarest shingles of the documents at `crowd`, which the shards' processes find."""
    if not len(crowd):
        return Rarest.of((), Common.of(()), threshold)
    shards, path = documents.shards, documents.shards[0].folder / "common.npz"
    if not path.exists():
        shingles = _Shingles(documents, crowd)
        common = Common.of(sorted_set(shingles[i]) for i in sampled(range(len(crowd))))
        save_arrays(path, dataclasses.asdict(common))
    bounds = np.searchsorted(crowd, documents.starts)
    with progress("finding rare shingles", len(shards), "shards") as advance:
        calls = [
            functools.partial(
                choose_rarest, shard, crowd[bounds[k] : bounds[k + 1]] - documents.starts[k], path, threshold
            )
            for k, shard in enumerate(shards)
        ]
        paths = side_by_side(calls, num_workers, lambda _: advance(1))
    return Rarest.join(Rarest(**np.load(path)) for path in paths)


def tokenizer_texts(shards: Sequence[Shard], max_bytes: int) -> Iterator[str]:
    """Yield the pool's texts, in order; where they have more than `max_bytes`, a part chosen by hash."""
    chosen = [shard.kept & (shard.index["split"] == SPLITS.index(POOL)) for shard in shards]
    pairs = zip(shards, chosen, strict=True)
    total = sum(int(shard.index["num_bytes"][rows].sum()) for shard, rows in pairs)
    limit = np.uint64((1 << 64) - 1 if total <= max_bytes else (max_bytes << 64) // total)
    for shard, in_pool in zip(shards, chosen, strict=True):
        rows = in_pool & (shard.index["digest"][:, 0] <= limit)
        for start, batch in shard.batches():
            part = np.flatnonzero(rows[start : start + batch.num_rows])
            yield from batch.column("texts").take(part).to_pylist()


def write_split(
    shards: Sequence[Shard], name: str, num_tokens: int, vocab_size: int, directory: Path
) -> dict[str, Any]:
    """Write the corpus of one split from the shards' files; return its sizes."""
    import pyarrow as pa

    dtype = token_dtype(vocab_size)
    with writing_corpus(directory, dtype, num_tokens) as writer:
        for shard in shards:
            chosen, lengths = shard.kept & (shard.index["split"] == SPLITS.index(name)), None
            for start, batch in shard.batches():
                rows = np.flatnonzero(chosen[start : start + batch.num_rows])
                if len(rows):
                    lengths = np.load(shard.file("lengths.npy")) if lengths is None else lengths
                    part = batch.take(pa.array(rows))
                    writer.add_documents(part, lengths[start + rows], np.ones(len(rows), bool))
            with open(shard.file(f"{name}.tokens"), "rb") as file:
                while len(tokens := np.fromfile(file, dtype, TOKENS_TOGETHER)):
                    writer.add_tokens(tokens)
    return _sizes(directory)


def _sizes(directory: Path) -> dict[str, Any]:
    lengths = iter(np.diff(np.load(directory / OFFSETS)).tolist())
    by_source: dict[str, Counter[str]] = {}
    for batch in stored_batches(directory, "sources", "num_bytes"):
        for source, num_bytes in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            size = {"documents": 1, "tokens": next(lengths) + 1, "bytes": num_bytes}
            by_source.setdefault(source, Counter()).update(size)
    total = sum(by_source.values(), Counter(documents=0, tokens=0, bytes=0))
    names = ("documents", "tokens", "bytes")
    sizes: dict[str, Any] = {name: total[name] for name in names}
    return sizes | {"by_source": {source: dict(size) for source, size in by_source.items()}}


def _refuse_repeated_ids(documents: _Documents) -> None:
    hashes = documents.index("id")
    order = np.argsort(hashes, kind="stable")
    again = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    for first, second in zip(order[again], order[again + 1], strict=True):
        name = documents.value("ids", first)
        if name == documents.value("ids", second):
            raise CorpusError(f"two documents have the id {name!r}: give files of the same name one folder")


def _write_duplicates(
    documents: _Documents, folder: Path, survivors: np.ndarray, exact: np.ndarray, similarities: np.ndarray
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    removed = np.flatnonzero(survivors != np.arange(len(documents)))
    names = functools.partial(documents.value, "ids")
    table = pa.table(
        {
            "document": pa.array(map(names, removed), pa.large_string()),
            "survivor": pa.array(map(names, survivors[removed]), pa.large_string()),
            "kind": pa.array(np.where(exact[removed], "exact", "near")),
            "jaccard": pa.array(similarities[removed], from_pandas=True),
        }
    )
    with atomic_path(folder / "duplicates.parquet") as temporary:
        pq.write_table(table, temporary, compression="zstd")
