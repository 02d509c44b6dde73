"""The corpus stage's work on one shard: read, clean, sketch; later, tokenise what is kept.

A shard is a file (or a packaged corpus, or a Hugging Face dataset). Its work goes to files of its own in a
scratch folder, with a marker written last, so that shards can be worked on in any order, by any number of
processes, and again after a kill, and the result is the same.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.store import atomic_path, read_json, write_json
from sbp_bayes.corpus.cleaning import clean_documents
from sbp_bayes.corpus.config import CorpusConfig
from sbp_bayes.corpus.crowds import Common, Rarest
from sbp_bayes.corpus.dedup import content_digests
from sbp_bayes.corpus.files import COLUMNS, documents_batch, documents_schema, token_dtype
from sbp_bayes.corpus.listing import LeftOut, shown
from sbp_bayes.corpus.minhash import Bands, band_keys, shingle_hashes, sorted_set
from sbp_bayes.corpus.reading import read_source, source_files, source_name
from sbp_bayes.corpus.records import Document, stored_metadata
from sbp_bayes.corpus.rejects import BadFileError, RejectLog
from sbp_bayes.corpus.splits import SPLITS, split_of
from sbp_bayes.corpus.tokenizer import Tokenizer

if TYPE_CHECKING:
    import pyarrow as pa

DOCUMENTS_TOGETHER = 1024
CHARS_TOGETHER = 1 << 22
INDEX = np.dtype([("digest", "<u8", 2), ("id", "<u8"), ("num_bytes", "<i8"), ("split", "u1")])
"""What is known of each document: hashes of its text and of its id, its size, and its split's number."""

Stamp = tuple[int, int]
"""Size in bytes and time of last change."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of the input and where its work goes.

    Attributes:
        folder: the scratch folder of all shards.
        number: place in the order of shards, which decides which of two duplicates survives.
        path: what the user named.
        files: files at or below it; None stands for a source without files.
        stamps: of the files, when the input was fingerprinted.
    """

    folder: Path
    number: int
    path: str
    files: tuple[Path | None, ...]
    stamps: tuple[Stamp, ...]

    def file(self, kind: str) -> Path:
        """Where one kind of the shard's work lies."""
        return self.folder / f"{self.number:06d}.{kind}"

    @property
    def marker(self) -> dict[str, Any] | None:
        """What reading the shard counted, or None if it was not read to the end yet."""
        path = self.file("json")
        return read_json(path) if path.exists() else None

    @functools.cached_property
    def index(self) -> np.ndarray:
        """One `INDEX` entry for each document that cleaning kept."""
        return np.load(self.file("index.npy"))

    @property
    def keys(self) -> np.ndarray:
        """MinHash keys, uint64 (bands, documents), memory-mapped anew each time."""
        return np.load(self.file("keys.npy"), mmap_mode="r")

    @property
    def kept(self) -> np.ndarray:
        """Which documents de-duplication keeps, bool (documents,)."""
        return np.load(self.file("kept.npy"))

    def batches(self) -> Iterator[tuple[int, "pa.RecordBatch"]]:
        """Yield (position of the first, documents) of all documents that cleaning kept."""
        import pyarrow as pa

        start = 0
        with pa.OSFile(str(self.file("arrow"))) as file, pa.ipc.open_file(file) as reader:
            for i in range(reader.num_record_batches):
                batch = reader.get_batch(i)
                yield start, batch
                start += batch.num_rows

    def column(self, name: str) -> "pa.ChunkedArray":
        """Return a column of the same documents, memory-mapped."""
        import pyarrow as pa

        return pa.ipc.open_file(pa.memory_map(str(self.file("arrow")))).read_all().column(name)


def list_shards(config: CorpusConfig, folder: Path, left_out: LeftOut | None = None) -> list[Shard]:
    """Return the shards of `config.paths` in order: one a file, or one a path where a limit is set.

    Args:
        config: names the paths.
        folder: the scratch folder of all shards.
        left_out: takes the files that are not read.

    Raises:
        CorpusError: a path is missing, unreadable or of an unknown kind, or two files' documents would
            have the same ids.
    """
    parts: list[tuple[str, tuple[Path | None, ...]]] = []
    for path in config.paths:
        files = source_files(path, left_out)
        parts += [(path, tuple(files))] if config.limit_documents else [(path, (file,)) for file in files]
    _refuse_repeated_names((path, file) for path, files in parts for file in files)
    return [
        Shard(folder, i, path, files, tuple(map(stamp_of, files))) for i, (path, files) in enumerate(parts)
    ]


def _refuse_repeated_names(files: Iterable[tuple[str, Path | None]]) -> None:
    known: dict[str, str] = {}
    for path, file in files:
        name, place = source_name(path, file), shown(file or path)
        if name in known:
            raise CorpusError(
                f"{known[name]} and {place}: documents of both would have the ids {name}:1 and so on; "
                "name one folder that holds both files in folders of different names (links will do)"
            )
        known[name] = place


def stamp_of(file: Path | None) -> Stamp:
    """Return a file's stamp; (0, 0) for None."""
    if file is None:
        return 0, 0
    try:
        status = file.stat()
    except OSError as error:
        raise CorpusError(f"{shown(file)}: cannot be read ({error.strerror})") from error
    return status.st_size, status.st_mtime_ns


def read_shard(shard: Shard, config: CorpusConfig) -> dict[str, Any]:
    """Read, clean and sketch one shard; return its marker.

    Raises:
        CorpusError: a file changed since it was fingerprinted; a packaged corpus or dataset is missing.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if shard.marker is not None:
        return shard.marker
    shard.file("rejects.jsonl").unlink(missing_ok=True)
    log = RejectLog(shard.file("rejects.jsonl"), config.max_bad_share)
    bad: list[str] = []
    cleaned_away: Counter[str] = Counter()
    documents = itertools.islice(_read(shard, config, log, bad), config.limit_documents)
    cleaned = clean_documents(documents, config.min_chars, cleaned_away, config.languages)
    bands = Bands.at(config.dedup_threshold, verified=config.dedup_verify)
    metadata_bytes, field_bytes = 0, Counter[str]()
    index, keys = [np.zeros(0, INDEX)], [np.zeros((0, bands.count), np.uint64)]
    with (
        atomic_path(shard.file("arrow")) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_file(file, documents_schema()) as writer,
    ):
        for block in _blocks(cleaned):
            texts = [d.text for d in block]
            batch = _batch(block)
            writer.write_batch(batch)
            metadata_bytes += pc.sum(pc.binary_length(batch.column("metadata"))).as_py()
            field_bytes.update({key: len(json.dumps(x)) for key, x in block[0].metadata.items()})  # a sample
            index.append(_index_of(block, config))
            keys.append(band_keys(*shingle_hashes(texts), bands, config.seed))
    save_array(shard.file("index.npy"), np.concatenate(index))
    save_array(shard.file("keys.npy"), np.ascontiguousarray(np.concatenate(keys).T))
    counts = log.counts()
    counts["cleaned_away"] |= cleaned_away
    marker = counts | {
        "documents": sum(map(len, index)),
        "bad": bad,
        "text_bytes": sum(int(part["num_bytes"].sum()) for part in index),
        "metadata_bytes": metadata_bytes,
        "largest_field": max(field_bytes, key=lambda name: field_bytes[name], default=""),
    }
    write_json(shard.file("json"), marker)
    return marker


def choose_rarest(shard: Shard, rows: np.ndarray, common_path: Path, threshold: float) -> Path:
    """Write the rarest shingles of some of a shard's documents (see `Rarest`); return the file.

    Args:
        shard: read.
        rows: positions of the documents, ascending.
        common_path: file of the arrays of `Common`.
        threshold: Jaccard similarity of near duplicates.
    """
    path = shard.file("rarest.npz")
    if not path.exists():
        rarest = Rarest.of(_distinct_shingles(shard, rows), Common(**np.load(common_path)), threshold)
        save_arrays(path, dataclasses.asdict(rarest))
    return path


def _distinct_shingles(shard: Shard, rows: np.ndarray) -> Iterator[np.ndarray]:
    if not len(rows):
        return
    for start, batch in shard.batches():
        first, last = np.searchsorted(rows, [start, start + batch.num_rows])
        texts = batch.column("texts").take(rows[first:last] - start).to_pylist()
        shingles, ends = shingle_hashes(texts)
        for begin, end in itertools.pairwise(ends):
            yield sorted_set(shingles[begin:end])


def tokenise_shard(shard: Shard, tokenizer_path: Path) -> dict[str, int]:
    """Tokenise one shard's kept documents, each split to a file; return the tokens in each split."""
    marker = shard.file("tokens.json")
    if marker.exists():
        return dict(read_json(marker))
    tokenizer = Tokenizer.load(tokenizer_path)
    dtype, kept, splits = token_dtype(tokenizer.vocab_size), shard.kept, shard.index["split"]
    lengths = np.zeros(len(kept), np.int64)
    num_tokens = dict.fromkeys(SPLITS, 0)
    with ExitStack() as stack:
        paths = [stack.enter_context(atomic_path(shard.file(f"{name}.tokens"))) for name in SPLITS]
        files = [stack.enter_context(open(path, "wb")) for path in paths]
        for start, batch in shard.batches():
            rows = np.flatnonzero(kept[start : start + batch.num_rows])
            texts = batch.column("texts").take(rows).to_pylist()
            for row, tokens in zip(rows + start, tokenizer.encode(texts), strict=True):
                files[splits[row]].write(tokens.astype(dtype).data)
                lengths[row] = len(tokens)
                num_tokens[SPLITS[splits[row]]] += len(tokens)
    save_array(shard.file("lengths.npy"), lengths)
    write_json(marker, num_tokens)
    return num_tokens


def _read(shard: Shard, config: CorpusConfig, log: RejectLog, bad: list[str]) -> Iterator[Document]:
    for file, stamp in zip(shard.files, shard.stamps, strict=True):
        try:
            yield from read_source(
                shard.path,
                file,
                log,
                text_field=config.text_field,
                max_document_bytes=config.max_document_bytes,
                fields=config.fields,
                limit=config.limit_documents,
            )
        except BadFileError as error:
            log.break_off(error.reason)
            bad.append(str(error))
        if stamp_of(file) != stamp:
            raise CorpusError(
                f"{shown(file or shard.path)}: changed while it was read: run the command again"
            )


def _blocks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    block: list[Document] = []
    num_chars = 0
    for document in documents:
        block.append(document)
        num_chars += len(document.text)
        if len(block) == DOCUMENTS_TOGETHER or num_chars > CHARS_TOGETHER:
            yield block
            block, num_chars = [], 0
    if block:
        yield block


def _batch(block: Sequence[Document]) -> "pa.RecordBatch":
    columns: tuple[list[Any], ...] = (
        [d.id for d in block],
        [d.text for d in block],
        [d.source for d in block],
        [d.label for d in block],
        [stored_metadata(d) for d in block],
    )
    return documents_batch(dict(zip(COLUMNS, columns, strict=True)))


def _index_of(block: Sequence[Document], config: CorpusConfig) -> np.ndarray:
    index = np.empty(len(block), INDEX)
    index["digest"] = content_digests([d.text for d in block])
    names = [hashlib.blake2b(d.id.encode(), digest_size=8).digest() for d in block]
    index["id"] = np.frombuffer(b"".join(names), "<u8")
    index["num_bytes"] = [len(d.text.encode()) for d in block]
    index["split"] = [SPLITS.index(split_of(d.text, config.split_shares, config.seed)) for d in block]
    return index


def save_array(path: Path, array: np.ndarray) -> None:
    """Write `array` to `path` atomically."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name to `path` atomically."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
