"""A corpus on disk: tokens and their index as memory-mapped arrays, documents as memory-mapped Arrow.

A folder holds `tokens.npy` (all documents' tokens end to end, without padding), `offsets.npy` (the index:
document i is tokens[offsets[i]:offsets[i + 1]]), `documents.arrow` (ids, texts, sources, labels, metadata as
JSON, bytes, completeness) and `meta.json` (sizes, fingerprint, checksums), written last.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.store import atomic_path, read_json, write_json

if TYPE_CHECKING:
    import pyarrow as pa

TOKENS, OFFSETS, DOCUMENTS, META = "tokens.npy", "offsets.npy", "documents.arrow", "meta.json"
COLUMNS = ("ids", "texts", "sources", "labels", "metadata")
ROWS_TOGETHER = 1024
TOKENS_TOGETHER = 1 << 20


class Column(Sequence[Any]):
    """One entry a document, read from the file when it is asked for."""

    def __init__(
        self, values: "pa.ChunkedArray", *, is_json: bool = False, rows: np.ndarray | None = None
    ) -> None:
        """Show `values`, or its entries at `rows`; `is_json` says that each is to be parsed."""
        self._values, self._is_json, self._rows = values, is_json, rows

    def __len__(self) -> int:
        return len(self._values) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        place = index % len(self)
        return self._parsed(self._values[place if self._rows is None else int(self._rows[place])].as_py())

    def __iter__(self) -> Iterator[Any]:
        if self._rows is not None:
            yield from (self[i] for i in range(len(self)))
            return
        for chunk in self._values.chunks:
            for start in range(0, len(chunk), ROWS_TOGETHER):
                yield from map(self._parsed, chunk.slice(start, ROWS_TOGETHER).to_pylist())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(x == y for x, y in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # it compares like a list

    def take(self, rows: np.ndarray) -> "Column":
        """Return the entries at `rows`, int64 (M,), still on disk."""
        return Column(
            self._values, is_json=self._is_json, rows=rows if self._rows is None else self._rows[rows]
        )

    def _parsed(self, value: Any) -> Any:
        return json.loads(value) if self._is_json else value


class CorpusWriter:
    """Takes a corpus in parts; see `writing_corpus`."""

    def __init__(self, tokens: Any, documents: Any) -> None:
        self._tokens, self._documents = tokens, documents
        self.lengths: list[np.ndarray] = []
        self.complete: list[np.ndarray] = []

    def add_documents(self, batch: "pa.RecordBatch", lengths: np.ndarray, complete: np.ndarray) -> None:
        """Append documents.

        Args:
            batch: columns `COLUMNS`, as `documents_batch` makes them.
            lengths: tokens of each, int64 (n,).
            complete: bool (n,), see `Corpus`.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        num_bytes = pc.binary_length(batch.column("texts")).cast(pa.int64())
        columns = [batch.column(name) for name in COLUMNS]
        self._documents.write_batch(
            pa.record_batch([*columns, num_bytes, pa.array(complete)], schema=_stored_schema())
        )
        self.lengths.append(lengths)
        self.complete.append(complete)

    def add_tokens(self, tokens: np.ndarray) -> None:
        """Append documents' tokens, end to end, in the order in which the documents are appended."""
        self._tokens.write(np.ascontiguousarray(tokens).data)


@contextmanager
def writing_corpus(directory: Path, dtype: np.dtype, num_tokens: int) -> Iterator[CorpusWriter]:
    """Write a corpus folder: each file atomically, `meta.json` last.

    Args:
        directory: where to; created if missing.
        dtype: of the tokens.
        num_tokens: how many will be added, EOS left out.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    import pyarrow as pa

    with ExitStack() as files:
        tokens_path = files.enter_context(atomic_path(directory / TOKENS))
        documents_path = files.enter_context(atomic_path(directory / DOCUMENTS))
        tokens = files.enter_context(open(tokens_path, "wb"))
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (num_tokens,),
        }
        np.lib.format.write_array_header_1_0(tokens, header)
        start = tokens.tell()
        documents = files.enter_context(pa.ipc.new_file(str(documents_path), _stored_schema()))
        writer = CorpusWriter(tokens, documents)
        yield writer
        assert tokens.tell() - start == num_tokens * dtype.itemsize
    lengths = np.concatenate([np.zeros(0, np.int64), *writer.lengths])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    with atomic_path(directory / OFFSETS) as temporary, open(temporary, "wb") as file:
        np.save(file, offsets)
    checksums = {name: _sha256(directory / name) for name in (TOKENS, OFFSETS, DOCUMENTS)}
    num_bytes = {name: (directory / name).stat().st_size for name in checksums}
    sizes = {"num_documents": len(offsets) - 1, "num_tokens": num_tokens + len(offsets) - 1}
    written = (_written_ids(directory), _written_tokens(directory, start, dtype))
    fingerprint = corpus_fingerprint(
        *written, dtype, offsets, np.concatenate([np.ones(0, bool), *writer.complete])
    )
    write_json(
        directory / META,
        sizes | {"fingerprint": fingerprint, "files": checksums, "file_bytes": num_bytes},
    )


def token_dtype(vocab_size: int) -> np.dtype:
    """Return the integers that hold token ids below `vocab_size`: uint16 where they do, else uint32."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def documents_schema() -> "pa.Schema":
    """Return the Arrow schema of `COLUMNS`."""
    import pyarrow as pa

    return pa.schema([(name, pa.large_string()) for name in COLUMNS])


def documents_batch(columns: Mapping[str, Sequence[Any]]) -> "pa.RecordBatch":
    """Build a batch of `COLUMNS`; metadata are mappings of JSON types."""
    import pyarrow as pa

    extra = [json.dumps(dict(m), ensure_ascii=False) for m in columns["metadata"]]
    arrays = [pa.array(list(columns[name]), pa.large_string()) for name in COLUMNS[:-1]]
    return pa.record_batch([*arrays, pa.array(extra, pa.large_string())], schema=documents_schema())


def open_columns(directory: Path) -> dict[str, Any]:
    """Return the fields of the corpus in `directory`, memory-mapped, unverified."""
    import pyarrow as pa

    tokens, offsets = (np.asarray(np.load(directory / n, mmap_mode="r")) for n in (TOKENS, OFFSETS))
    table = pa.ipc.open_file(pa.memory_map(str(directory / DOCUMENTS))).read_all()
    columns: dict[str, Any] = {
        name: Column(table.column(name), is_json=name == "metadata") for name in COLUMNS
    }
    numbers = {name: table.column(name).to_numpy() for name in ("num_bytes", "complete")}
    return columns | numbers | {"tokens": tokens, "offsets": offsets}


def corpus_fingerprint(
    ids: Iterable[str],
    tokens: Iterable[np.ndarray],
    dtype: np.dtype,
    offsets: np.ndarray,
    complete: np.ndarray,
) -> str:
    """Return 16 hexadecimal digits (SHA-256) of ids, tokens (in parts) and where documents end."""
    digest = hashlib.sha256(b"[")
    for i, name in enumerate(ids):
        digest.update((", " * (i > 0) + json.dumps(name)).encode())
    digest.update(b"]")
    for kind, parts in ((dtype, tokens), (offsets.dtype, [offsets]), (complete.dtype, [complete])):
        digest.update(kind.str.encode())
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()[:16]


def stored_batches(directory: Path, *names: str) -> Iterator["pa.RecordBatch"]:
    """Yield the documents of the corpus in `directory` in batches of these columns."""
    import pyarrow as pa

    fields = [_stored_schema().get_field_index(name) for name in names]
    options = pa.ipc.IpcReadOptions(included_fields=fields)
    with pa.OSFile(str(directory / DOCUMENTS)) as file, pa.ipc.open_file(file, options=options) as reader:
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i).select(list(names))


def _written_ids(directory: Path) -> Iterator[str]:
    for batch in stored_batches(directory, "ids"):
        yield from batch.column(0).to_pylist()


def _written_tokens(directory: Path, start: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    with open(directory / TOKENS, "rb") as file:
        file.seek(start)
        while len(part := np.fromfile(file, dtype, TOKENS_TOGETHER)):
            yield part


def read_meta(directory: Path, *, verify: bool) -> dict[str, Any]:
    """Read a corpus's `meta.json` and hold its files against it.

    Args:
        directory: of the corpus.
        verify: whether to compare checksums, which reads every byte, or sizes alone.

    Raises:
        StoreError: names the first file that is missing or is another than the one written.
    """
    meta = read_json(directory / META)
    names = (TOKENS, OFFSETS, DOCUMENTS)
    known = meta.get("files") if isinstance(meta, dict) else None
    if not isinstance(known, dict) or "fingerprint" not in meta or not known.keys() >= set(names):
        raise StoreError(f"{directory / META}: damaged, it lists no files")
    verify |= "file_bytes" not in meta  # written before sizes were kept
    for name in names:
        path = directory / name
        try:
            found, wanted = (
                (_sha256(path), known[name]) if verify else (path.stat().st_size, meta["file_bytes"][name])
            )
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
        if found != wanted:
            what = "SHA-256" if verify else "size"
            raise StoreError(f"{path}: damaged, or of another corpus (its {what} differs)")
    return meta


def _stored_schema() -> "pa.Schema":
    import pyarrow as pa

    return (
        documents_schema().append(pa.field("num_bytes", pa.int64())).append(pa.field("complete", pa.bool_()))
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
