"""Documents from files: JSON lines (plain, gzip, zstd), parquet, folders of them, packaged corpora.

Bad records are rejected, counted and logged, never dropped in silence; above a share of a file they
stop the reading.
"""

import datetime
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.store import append_json_line
from sbp_bayes.corpus.hub import PREFIX as HUB
from sbp_bayes.corpus.hub import read_hub
from sbp_bayes.corpus.packaged import PREFIX as PACKAGED
from sbp_bayes.corpus.packaged import read_packaged
from sbp_bayes.corpus.records import Document

COMPRESSION = {".jsonl": None, ".jsonl.gz": "gzip", ".json.gz": "gzip", ".jsonl.zst": "zstd"}
KINDS = (*COMPRESSION, ".parquet")
MAX_DOCUMENT_BYTES = 10_000_000
BUFFER_BYTES = 1 << 16
PARQUET_ROWS_TOGETHER = 64


class Rejected(Exception):
    """Why one record is no document."""


class BadFileError(CorpusError):
    """A file that is truncated or damaged, or in which too many records are bad; `reason` says which."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return BadFileError, (str(self), self.reason)


class RejectLog:
    """Counts records and appends each rejected one to a file as {"file", "line", "reason"}.

    Attributes:
        num_records: records seen in all files, rejected ones included.
        reasons: number of rejected records by reason.
    """

    def __init__(self, path: Path | None = None, max_bad_share: float = 0.01) -> None:
        """Prepare the log.

        Args:
            path: file to append to; None counts only.
            max_bad_share: a file with a larger share of rejected records stops the reading: at its end,
                at every 1,000th record, and after its first 100 where all of these are bad.
        """
        self.path = path
        self.max_bad_share = max_bad_share
        self.num_records = 0
        self.reasons: Counter[str] = Counter()
        self.begin_file("")

    @property
    def num_rejected(self) -> int:
        """Records rejected so far, in all files."""
        return self.reasons.total()

    def begin_file(self, file: str) -> None:
        """Start on the records of `file`."""
        self._file, self.records_of_file, self._bad = file, 0, 0

    def count(self, line: int, reason: str | None = None) -> None:
        """Count the record at `line` (from 1) of the current file, rejected if `reason` is given.

        Raises:
            CorpusError: too many of the file's records are bad.
        """
        self.num_records += 1
        self.records_of_file += 1
        if reason is not None:
            self._reject(line, reason)
        if self.records_of_file % 1000 == 0 or self.records_of_file == self._bad == 100:
            self.check_share()

    def break_off(self, reason: str) -> None:
        """Count the rest of the current file as one rejected record, at the line after the last one read."""
        self.num_records += 1
        self.records_of_file += 1
        self._reject(self.records_of_file, reason)

    def _reject(self, line: int, reason: str) -> None:
        self._bad += 1
        self.reasons[reason] += 1
        if self.path is not None:
            append_json_line(self.path, {"file": self._file, "line": line, "reason": reason})

    def check_share(self) -> None:
        """Raise a `CorpusError` if too many of the current file's records were rejected."""
        if self._bad > self.max_bad_share * self.records_of_file:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in self.reasons.most_common(3))
            raise BadFileError(
                f"{self._file}: {self._bad} of {self.records_of_file} records rejected, more than "
                f"max_bad_share = {self.max_bad_share:g}; most often: {reasons}",
                "rest left out after too many bad records",
            )


def read_documents(
    path: str | Path,
    *,
    text_field: str = "text",
    rejects: RejectLog | None = None,
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
) -> Iterator[Document]:
    """Return the documents at `path`, one at a time.

    Args:
        path: a file of JSON lines (.jsonl, .jsonl.gz, .jsonl.zst, .json.gz) or a parquet file; a folder,
            of which all such files are read in the order of their relative paths, hidden ones left out;
            "packaged:wikipedia", "packaged:factbook", "packaged:cookbook", "packaged:docstrings"; or
            "hf:NAME?config=C&split=S", a Hugging Face dataset (see `load_hub`).
        text_field: name of the field (column) that holds the text; "url" and "label" have places of their
            own, and all other fields go into the metadata, but those that UTF-8 or JSON cannot hold.
        rejects: counts and logs the bad records; by default they are counted under a cap of 1%.
        max_document_bytes: a longer record (line of JSON, or text in parquet) is rejected; no more than
            this of a line is ever held in memory.

    A document's id is the file's path relative to `path`'s folder and the line (row) from 1.

    Raises:
        CorpusError: at once for a missing path, an unknown extension or a folder without such files;
            while reading for a truncated or damaged file, for too many bad records, or at the end if
            there was no document at all.
    """
    log = rejects if rejects is not None else RejectLog()
    return _read_all(path, source_files(path), text_field, log, max_document_bytes)


def list_files(path: Path) -> list[Path]:
    """Return the files `read_documents` reads at `path`, in its order.

    Raises:
        CorpusError: a missing path, an unknown extension or a folder without files of known kinds.
    """
    if not path.exists():
        raise CorpusError(f"{path}: no such file or folder")
    if not path.is_dir():
        if not path.name.endswith(KINDS):
            raise CorpusError(f"{path}: unknown kind of file (known: {', '.join(KINDS)})")
        return [path]
    relative = (p.relative_to(path) for p in path.rglob("*"))
    visible = (path / p for p in relative if not any(part.startswith(".") for part in p.parts))
    files = [p for p in visible if p.name.endswith(KINDS) and p.is_file()]
    if not files:
        raise CorpusError(f"{path}: no files of known kinds in this folder ({', '.join(KINDS)})")
    return sorted(files, key=lambda p: p.relative_to(path).as_posix())


def read_source(
    path: str | Path,
    file: Path | None,
    log: RejectLog,
    *,
    text_field: str = "text",
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
) -> Iterator[Document]:
    """Yield the documents of one file, or of a source that has none; arguments as of `read_documents`.

    Args:
        path: what the user named.
        file: a file at or below it; None for "packaged:…" and "hf:…".

    Raises:
        BadFileError: see there. An empty file has no documents, which is no error.
    """
    name, source = str(path), Path(str(path).partition("?")[0]).name
    if name.startswith(PACKAGED):
        log.begin_file(name)
        for line, document in enumerate(read_packaged(name.removeprefix(PACKAGED)), start=1):
            log.count(line)
            yield document
        return
    if file is not None:
        root = Path(path)
        name = file.relative_to(root if root.is_dir() else root.parent).as_posix()
        source = root.name if root.is_dir() else root.name.split(".")[0]
        records = _records(file, text_field, log, max_document_bytes)
    else:
        records = _hub_records(name.removeprefix(HUB))
    log.begin_file(name)
    for line, record in records:
        try:
            document = _document(record, text_field, max_document_bytes, f"{name}:{line}", source)
        except Rejected as rejected:
            log.count(line, str(rejected))
            continue
        log.count(line)
        yield document
    log.check_share()


def source_files(path: str | Path) -> list[Path | None]:
    """Return the files of which `path` consists: `list_files`, or [None] for "packaged:…" and "hf:…"."""
    return [None] if str(path).startswith((PACKAGED, HUB)) else [*list_files(Path(path))]


def _hub_records(address: str) -> Iterator[tuple[int, dict[str, Any]]]:
    return ((line, {k: _plain(v) for k, v in row.items()}) for line, row in read_hub(address))


def _read_all(
    path: str | Path, files: list[Path | None], text_field: str, log: RejectLog, max_bytes: int
) -> Iterator[Document]:
    any_document = False
    for file in files:
        for document in read_source(path, file, log, text_field=text_field, max_document_bytes=max_bytes):
            any_document = True
            yield document
    if not any_document:
        raise CorpusError(f"{path}: no documents in {len(files)} files, {log.num_rejected} records rejected")


def _records(path: Path, text_field: str, log: RejectLog, max_bytes: int) -> Iterator[tuple[int, Any]]:
    """Yield (line, record); a record is a mapping by field, or a line of bytes (None where too long)."""
    import pyarrow as pa

    try:
        if path.suffix == ".parquet":
            yield from _parquet_rows(path, text_field)
        else:
            yield from _lines(path, max_bytes)
    except CorpusError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: column names of no UTF-8
        reason = " ".join(str(error).split())
        message = f"{path}: unreadable after {log.records_of_file} records ({reason})"
        raise BadFileError(message, "unreadable from here") from error


def _lines(path: Path, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    import pyarrow as pa

    compression = next(kind for ending, kind in COMPRESSION.items() if path.name.endswith(ending))
    if compression and path.stat().st_size == 0:
        raise OSError("an empty file is no compressed stream")
    # pyarrow reads concatenated members and raises on a truncated one; zstandard's reader just ends.
    with pa.OSFile(str(path)) as raw:
        stream = pa.CompressedInputStream(raw, compression) if compression else raw
        with io.BufferedReader(stream, BUFFER_BYTES) as reader:
            number = 0
            while line := reader.readline(max_bytes + 1):
                number += 1
                if len(line) > max_bytes and not line.endswith(b"\n"):
                    _skip_line(reader)
                    yield number, None
                elif not line.isspace():
                    yield number, line


def _skip_line(reader: io.BufferedReader) -> None:
    while (rest := reader.readline(BUFFER_BYTES)) and not rest.endswith(b"\n"):
        pass


def _parquet_rows(path: Path, text_field: str) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if text_field not in names:
            message = f"{path}: no column {text_field!r} (columns: {', '.join(names)})"
            raise BadFileError(message, f"no column {text_field!r}")
        line = 0
        for batch in file.iter_batches(PARQUET_ROWS_TOGETHER):
            values = [_values(batch.column(i)) for i in range(batch.num_columns)]
            for row in zip(*values, strict=True):
                line += 1
                yield line, _row(batch.schema.names, row, text_field)


def _values(column: Any) -> list[Any]:
    """Return a column's values: strings as bytes, since one may be invalid UTF-8, which costs itself only."""
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if str(kind).removeprefix("large_").removesuffix("_view") in ("string", "binary"):
        return column.cast(kind).cast(pa.large_binary()).to_pylist()
    try:
        return [_plain(value) for value in column.to_pylist()]
    except UnicodeDecodeError:  # within a structure
        return [None] * len(column)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value


def _row(names: Sequence[str], values: Sequence[Any], text_field: str) -> dict[str, Any]:
    row = dict(zip(names, values, strict=True))
    return {k: _text(v) if isinstance(v, bytes) and k != text_field else v for k, v in row.items()}


def _document(record: Any, text_field: str, max_bytes: int, name: str, source: str) -> Document:
    """Build the document of one record, or raise `Rejected`."""
    if record is None:
        raise Rejected("too long")
    if isinstance(record, bytes):
        record = _parse(record)
    if not isinstance(record, dict) or text_field not in record:
        raise Rejected(f"no field {text_field!r}")
    text = record[text_field]
    if isinstance(text, bytes):
        text = _decode(text)
    if not isinstance(text, str):
        raise Rejected(f"field {text_field!r} is not a string")
    try:
        num_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        raise Rejected("lone surrogates") from error
    if num_bytes > max_bytes:
        raise Rejected("too long")
    if not text.strip():
        raise Rejected("empty text")
    label = record.get("label")
    if isinstance(label, int):
        label = str(label)
    metadata = {
        key: value
        for key, value in record.items()
        if key not in (text_field, "url", "label") and value is not None and _is_storable(key, value)
    }
    return Document(
        id=name,
        text=text,
        source=source,
        label=_text(label),
        url=_text(record.get("url")),
        metadata=metadata,
    )


def _is_storable(key: str, value: Any) -> bool:
    """Whether a field can be kept as JSON in UTF-8: a bad one costs itself alone."""
    try:
        json.dumps({key: value}, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _parse(line: bytes) -> Any:
    try:
        return json.loads(_decode(line))
    except (ValueError, RecursionError) as error:
        raise Rejected("not JSON") from error


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejected("invalid UTF-8") from error


def _text(value: Any) -> str | None:
    try:
        if isinstance(value, bytes):
            return value.decode()
        return value.encode().decode() if isinstance(value, str) else None
    except UnicodeError:
        return None
