"""Files to records: JSON lines (plain, gzip, zstd) and parquet, in bounded memory."""

import codecs
import datetime
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.corpus.rejects import BadFileError

COMPRESSION = {".jsonl": None, ".jsonl.gz": "gzip", ".json.gz": "gzip", ".jsonl.zst": "zstd"}
KINDS = (*COMPRESSION, ".parquet")
BUFFER_BYTES = 1 << 16
PARQUET_ROWS_TOGETHER = 64
PARQUET_BUFFER_BYTES = 1 << 20
UNREADABLE = "unreadable from here"


def list_files(path: Path) -> list[Path]:
    """Return the files `read_documents` reads at `path`, in its order; links are followed.

    Raises:
        CorpusError: a missing path, an unknown extension, a folder without files of known kinds, or what
            cannot be opened in it.
    """
    if not path.exists():
        raise CorpusError(f"{path}: no such file or folder")
    if not path.is_dir():
        if not path.name.endswith(KINDS):
            raise CorpusError(f"{path}: unknown kind of file (known: {', '.join(KINDS)})")
        return [path]
    files = list(_walk(path, ()))
    if not files:
        raise CorpusError(f"{path}: no files of known kinds in this folder ({', '.join(KINDS)})")
    return sorted(files, key=lambda p: p.relative_to(path).as_posix())


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    if (own := folder.resolve()) in above:  # a link in a circle: its files are listed already
        return
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be read ({error.strerror})") from error
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry, (*above, own))
        elif entry.name.endswith(KINDS):
            if not entry.is_file():
                raise CorpusError(f"{entry}: cannot be read (a link to nothing, or no file)")
            yield entry


def read_records(path: Path, text_field: str, max_bytes: int) -> Iterator[tuple[int, Any]]:
    """Yield (line from 1, record) of a file: a mapping by field, or a line of JSON as bytes.

    Strings of a mapping's text field are bytes. Blank lines are no records. A line of more than
    `max_bytes` is None, and never held.

    Raises:
        BadFileError: after the last record before the place where the file is truncated or damaged; a
            parquet file without the column `text_field`.
    """
    import pyarrow as pa

    number = 0
    try:
        rows: Iterator[tuple[int, Any]]
        rows = _parquet_rows(path, text_field) if path.suffix == ".parquet" else _lines(path, max_bytes)
        for row in rows:
            yield row
            number += 1
    except CorpusError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: column names of no UTF-8
        reason = " ".join(str(error).split())
        raise BadFileError(f"{path}: unreadable after {number} records ({reason})", UNREADABLE) from error


def plain_value(value: Any) -> Any:
    """Return dates and times as text, and everything else as it is."""
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value


def _lines(path: Path, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    compression = next(kind for ending, kind in COMPRESSION.items() if path.name.endswith(ending))
    if compression and path.stat().st_size == 0:
        raise OSError("an empty file is no compressed stream")
    stream: io.RawIOBase = _Decompressed(path, compression) if compression else io.FileIO(path)
    with io.BufferedReader(stream, BUFFER_BYTES) as reader:
        number = 0
        while line := reader.readline(max_bytes + 1):
            number += 1
            if len(line) > max_bytes and not line.endswith(b"\n"):
                _skip_line(reader)
                yield number, None
                continue
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line and not line.isspace():
                yield number, line


def _skip_line(reader: "io.BufferedReader[Any]") -> None:
    while (rest := reader.readline(BUFFER_BYTES)) and not rest.endswith(b"\n"):
        pass


class _Decompressed(io.RawIOBase):
    """A compressed file's content, concatenated members and all, up to the place where it breaks.

    pyarrow raises on a truncated stream, where zstandard's reader just ends; but a read that raises
    takes with it what came before the break, which is therefore read again, byte by byte.
    """

    def __init__(self, path: Path, compression: str) -> None:
        self._path, self._compression = path, compression
        self._position, self._is_broken = 0, False
        self._open()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        import pyarrow as pa

        try:
            data = self._stream.read(1 if self._is_broken else len(buffer))
        except (OSError, pa.ArrowException):
            if self._is_broken:
                raise
            self._is_broken = True
            self._stream.close()
            self._open()
            return self.readinto(buffer)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()

    def _open(self) -> None:
        import pyarrow as pa

        self._stream = pa.CompressedInputStream(pa.OSFile(str(self._path)), self._compression)
        left = self._position
        while left and (read := self._stream.read(min(left, BUFFER_BYTES))):
            left -= len(read)


def _parquet_rows(path: Path, text_field: str) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow.parquet as pq

    # Pieces of this size, lest a row group's whole columns be in memory.
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=PARQUET_BUFFER_BYTES) as file:
        names = file.schema_arrow.names
        if text_field not in names:
            message = f"{path}: no column {text_field!r} (columns: {', '.join(names)})"
            raise BadFileError(message, f"no column {text_field!r}")
        line = 0
        for batch in file.iter_batches(PARQUET_ROWS_TOGETHER):
            values = [_values(batch.column(i)) for i in range(batch.num_columns)]
            for row in zip(*values, strict=True):
                line += 1
                yield line, dict(zip(batch.schema.names, row, strict=True))


def _values(column: Any) -> list[Any]:
    """Return a column's values: strings as bytes, since one may be invalid UTF-8, which costs itself only."""
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if str(kind).removeprefix("large_").removesuffix("_view") in ("string", "binary"):
        return column.cast(kind).cast(pa.large_binary()).to_pylist()
    try:
        return [plain_value(value) for value in column.to_pylist()]
    except UnicodeDecodeError:  # within a structure
        return [None] * len(column)
