"""Embeddings on disk by content: computed once, a window of documents at a time, and memory-mapped.

A folder holds the vectors of one embedder for one corpus: vectors.npy, float32 (N, D), written in place, and
windows.jsonl, a line for each window that is written, with its checksum. A window whose line is missing or
whose bytes differ from the checksum is computed again, so a kill loses one window at most.
"""

import dataclasses
import hashlib
import json
import logging
from pathlib import Path

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.lock import locked
from sbp_bayes.base.progress import progress
from sbp_bayes.base.store import append_json_line, atomic_path, write_text, writing_to
from sbp_bayes.corpus import Corpus
from sbp_bayes.pairing.embed.batches import windows
from sbp_bayes.pairing.embed.embedder import Embedder, content_fingerprint

VECTORS, WINDOWS = "vectors.npy", "windows.jsonl"

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Window:
    """The record of one window: its first document, the SHA-256 of its rows, and what it cost."""

    start: int
    sha256: str
    num_truncated: int
    flops: float


@dataclasses.dataclass(frozen=True, eq=False)
class _Kept(ArrayRecord):
    vectors: np.ndarray
    records: list[_Window]


class CachedEmbedder:
    """An embedder whose vectors are kept on disk by its fingerprint and the content of the corpus.

    The vectors are those of the embedder itself, to the bit. Memory holds one window of them. Two processes
    that want the same vectors don't compute them twice: the second waits.

    Args:
        embedder: fitted.
        directory: receives a folder for each corpus; each can be removed at any time.
    """

    def __init__(self, embedder: Embedder, directory: Path) -> None:
        self.embedder, self.directory = embedder, Path(directory)
        self.fingerprint, self.fit_flops = embedder.fingerprint, embedder.fit_flops
        self._kept: dict[Path, _Kept] = {}

    def embed(self, corpus: Corpus) -> np.ndarray:
        """Return the embedder's rows, float32 (N, D), memory-mapped and read-only.

        Raises:
            StoreError: the folder cannot be written, or the disk is full.
        """
        return self._read(corpus).vectors if len(corpus) else self.embedder.embed(corpus)

    def flops(self, corpus: Corpus) -> float:
        """Return what the vectors took when they were computed."""
        return sum(record.flops for record in self._read(corpus).records) if len(corpus) else 0.0

    def num_truncated(self, corpus: Corpus) -> int:
        """Return how many documents are longer than what is read of them."""
        return sum(record.num_truncated for record in self._read(corpus).records) if len(corpus) else 0

    def folder(self, corpus: Corpus) -> Path:
        """Where the vectors of `corpus` lie."""
        return self.directory / f"{self.fingerprint}-{content_fingerprint(corpus)}"

    def _read(self, corpus: Corpus) -> _Kept:
        folder = self.folder(corpus)
        if folder not in self._kept:
            with locked(folder):
                records = _intact(folder, len(corpus))
                if len(records) < len(windows(len(corpus))):
                    self._complete(folder, corpus, records)
            vectors = np.load(folder / VECTORS, mmap_mode="r")
            self._kept[folder] = _Kept(vectors, [records[window.start] for window in windows(len(corpus))])
        return self._kept[folder]

    def _complete(self, folder: Path, corpus: Corpus, records: dict[int, _Window]) -> None:
        """Compute the windows that have no record, and add their records."""
        with progress("embedding", len(corpus), "documents") as advance:
            for window in windows(len(corpus)):
                if window.start not in records:
                    part = corpus.select(window)
                    vectors = np.ascontiguousarray(self.embedder.embed(part), np.float32)
                    assert len(vectors) == len(window)
                    _write_rows(folder / VECTORS, window.start, vectors, len(corpus))
                    records[window.start] = record = _Window(
                        start=window.start,
                        sha256=hashlib.sha256(vectors.data).hexdigest(),
                        num_truncated=self.embedder.num_truncated(part),
                        flops=float(self.embedder.flops(part)),
                    )
                    append_json_line(folder / WINDOWS, dataclasses.asdict(record))
                advance(len(window))


def _write_rows(path: Path, start: int, vectors: np.ndarray, num_rows: int) -> None:
    """Write rows in place, into a file that is made with its first ones.

    A record is written after its rows. Should the machine lose power and keep the record alone, the
    checksum tells.
    """
    shape = (num_rows, vectors.shape[1])
    if not path.exists():
        with atomic_path(path) as temporary:
            np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
    stored = np.load(path, mmap_mode="r")
    assert stored.shape == shape
    # Not through memory: on a full disk that would end the process without a word.
    with writing_to(path), open(path, "r+b") as file:
        file.seek(stored.offset + start * vectors[:1].nbytes)
        file.write(vectors.data)


def _intact(folder: Path, num_rows: int) -> dict[int, _Window]:
    """Return the records, by first document, of the windows whose rows are as they were written.

    What is damaged is told as a warning, and what would be in the way of a further record is removed.
    """
    if not (folder / WINDOWS).exists():
        return {}
    lines = (folder / WINDOWS).read_bytes().split(b"\n")
    records = {record.start: record for line in lines[:-1] if (record := _record(line)) is not None}
    vectors = _vectors(folder / VECTORS, num_rows)
    rows = {window.start: window for window in windows(num_rows)}
    intact = {
        start: record
        for start, record in records.items()
        if vectors is not None
        and start in rows
        and _sha256(folder / VECTORS, vectors, rows[start]) == record.sha256
    }
    num_damaged = len(lines) - 1 - len(intact)
    if num_damaged:
        _logger.warning("%s: %d of %d windows are damaged: computed again", folder, num_damaged, len(rows))
    if num_damaged or lines[-1]:  # a kill may have torn the last line
        kept = [json.dumps(dataclasses.asdict(record)) + "\n" for record in intact.values()]
        write_text(folder / WINDOWS, "".join(kept))
    if vectors is None:
        (folder / VECTORS).unlink(missing_ok=True)
    return intact


def _record(line: bytes) -> _Window | None:
    try:
        record = _Window(**json.loads(line))
        return dataclasses.replace(record, num_truncated=int(record.num_truncated), flops=float(record.flops))
    except (ValueError, TypeError):
        return None


def _vectors(path: Path, num_rows: int) -> np.memmap | None:
    """Return the stored array, or None if it isn't one of so many rows."""
    try:
        vectors: np.memmap = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    fits = vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == num_rows
    return vectors if fits else None


def _sha256(path: Path, vectors: np.memmap, window: range) -> str:
    """Return the checksum of stored rows, read from the file: mapped pages would count as memory."""
    width = vectors.shape[1]
    start = vectors.offset + 4 * width * window.start
    rows = np.fromfile(path, np.float32, width * len(window), offset=start)
    return hashlib.sha256(rows.data).hexdigest()
