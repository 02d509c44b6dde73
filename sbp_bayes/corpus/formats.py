"""Files to records: JSON lines and JSON documents (plain or compressed), and parquet, in bounded memory."""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.corpus.compressed import Decompressed
from sbp_bayes.corpus.fields import Fields
from sbp_bayes.corpus.json_text import is_one_document, values_of_document
from sbp_bayes.corpus.listing import kind_of, shown
from sbp_bayes.corpus.parquet import parquet_rows
from sbp_bayes.corpus.rejects import BadFileError, Rejected

BUFFER_BYTES = 1 << 16
UNREADABLE = "unreadable from here"
STAND_INS = {
    b"version https://git-lfs.github.com/spec/": ("a git-lfs pointer", "`git lfs pull`"),
    b"version https://hawser.github.com/spec/": ("a git-lfs pointer", "`git lfs pull`"),
    b"/annex/objects/": ("a git-annex pointer", "`git annex get`"),
}
"""How files begin that stand for another file's content, what they are, and what brings the content."""


def read_records(path: Path, text_field: str, max_bytes: int, fields: Fields) -> Iterator[tuple[int, Any]]:
    """Yield (line from 1, record) of a file.

    A record is a value of JSON, a line of JSON as bytes, or a `Rejected` that says why it is no record.
    Strings of a parquet row are bytes. Blank lines are no records. A line of more than `max_bytes` is
    rejected, and never held. Rubbish after the last member of a compressed file is one rejection.

    Args:
        path: the file; its name says its kind.
        text_field: the column of the text, where columns have types.
        max_bytes: see above.
        fields: columns of parquet that are read besides the text's.

    Raises:
        BadFileError: after the last record before the place where the file is truncated or damaged; at
            once for a pointer to another file's content, and for parquet without the column `text_field`.
    """
    import pyarrow as pa

    number = 0
    kind = kind_of(path.name)
    assert kind is not None
    try:
        _refuse_stand_in(path)
        rows: Iterator[tuple[int, Any]]
        if kind.content == "parquet":
            rows = parquet_rows(path, text_field, fields)
        else:
            rows = _json(path, kind.content, kind.compression, max_bytes)
        for row in rows:
            yield row
            number += 1
    except CorpusError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: column names of no UTF-8
        reason = " ".join(str(error).split())
        raise BadFileError(
            f"{shown(path)}: unreadable after {number} records ({reason})", UNREADABLE
        ) from error


def _refuse_stand_in(path: Path) -> None:
    with open(path, "rb") as file:
        head = file.read(max(map(len, STAND_INS)))
    for start, (what, command) in STAND_INS.items():
        if head.startswith(start):
            raise BadFileError(f"{shown(path)}: {what}, not the file itself: run {command}", what)


def _json(path: Path, content: str, compression: str | None, max_bytes: int) -> Iterator[tuple[int, Any]]:
    stream: io.RawIOBase = Decompressed(path, compression) if compression else io.FileIO(path)
    with cast(io.BufferedReader, io.BufferedReader(stream, BUFFER_BYTES)) as reader:
        is_document = content == "json" and is_one_document(reader)
        line = 0
        for line, record in (values_of_document if is_document else _lines)(reader, max_bytes):
            yield line, record
        if isinstance(stream, Decompressed) and stream.has_rubbish:
            yield line + 1, Rejected("rubbish after the compressed content")


def _lines(reader: io.BufferedReader, max_bytes: int) -> Iterator[tuple[int, bytes | Rejected]]:
    number = 0
    while line := reader.readline(max_bytes + 1):
        number += 1
        if len(line) > max_bytes and not line.endswith(b"\n"):
            _skip_line(reader)
            yield number, Rejected("too long")
            continue
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line and not line.isspace():
            yield number, line


def _skip_line(reader: io.BufferedReader) -> None:
    while (rest := reader.readline(BUFFER_BYTES)) and not rest.endswith(b"\n"):
        pass
