"""Documents from files: JSON lines (plain, gzip, zstd), parquet, folders of them, packaged corpora.

Bad records are rejected, counted and logged, never dropped in silence; above a share of a file they
stop the reading.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.corpus.formats import list_files, plain_value, read_records
from sbp_bayes.corpus.hub import PREFIX as HUB
from sbp_bayes.corpus.hub import read_hub
from sbp_bayes.corpus.packaged import PREFIX as PACKAGED
from sbp_bayes.corpus.packaged import read_packaged
from sbp_bayes.corpus.records import Document
from sbp_bayes.corpus.rejects import RejectLog

MAX_DOCUMENT_BYTES = 10_000_000
MANY_BRACKETS = 100


class Rejected(Exception):
    """Why one record is no document."""


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
    name, source = source_name(path, file), Path(str(path).partition("?")[0]).name
    if name.startswith(PACKAGED):
        log.begin_file(name, None)
        for line, document in enumerate(read_packaged(name.removeprefix(PACKAGED)), start=1):
            log.count(line)
            yield document
        return
    if file is not None:
        source = source if Path(path).is_dir() else source.split(".")[0]
        records = read_records(file, text_field, max_document_bytes)
    else:
        records = _hub_records(name.removeprefix(HUB))
    log.begin_file(name, file)
    for line, record in records:
        try:
            document = _document(record, text_field, max_document_bytes, f"{name}:{line}", source)
        except Rejected as rejected:
            log.count(line, str(rejected))
            continue
        log.count(line)
        yield document
    log.check_share()


def source_name(path: str | Path, file: Path | None) -> str:
    """Return what ids of a file's documents begin with: its place in the folder `path`, or its own name."""
    if file is None:
        return str(path)
    return file.relative_to(path if Path(path).is_dir() else Path(path).parent).as_posix()


def source_files(path: str | Path) -> list[Path | None]:
    """Return the files of which `path` consists: `list_files`, or [None] for "packaged:…" and "hf:…"."""
    return [None] if str(path).startswith((PACKAGED, HUB)) else [*list_files(Path(path))]


def _hub_records(address: str) -> Iterator[tuple[int, dict[str, Any]]]:
    return ((line, {k: plain_value(v) for k, v in row.items()}) for line, row in read_hub(address))


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


def _document(record: Any, text_field: str, max_bytes: int, name: str, source: str) -> Document:
    """Build the document of one record, or raise `Rejected`."""
    if record is None:
        raise Rejected("too long")
    is_plain = isinstance(record, bytes) and _is_plain(record)
    if isinstance(record, bytes):
        record = _parse(record)
    if not isinstance(record, dict) or text_field not in record:
        raise Rejected(f"no field {text_field!r}")
    text = record[text_field]
    if isinstance(text, bytes):
        text = _decode(text)
    if not isinstance(text, str):
        raise Rejected(f"field {text_field!r} is not a string")
    if not is_plain and _num_bytes(text) > max_bytes:
        raise Rejected("too long")
    if not text.strip():
        raise Rejected("empty text")
    label = record.get("label")
    if isinstance(label, int):
        label = str(label)
    elsewhere = (text_field, "url", "label")
    others = {key: value for key, value in record.items() if value is not None and key not in elsewhere}
    return Document(
        id=name,
        text=text,
        source=source,
        label=_text(label),
        url=_text(record.get("url")),
        metadata=others if is_plain else _storable(others),
    )


def _is_plain(line: bytes) -> bool:
    """Tell whether all that a line of JSON says can be written as JSON again, in no more bytes.

    It has no lone surrogates and no depth at which recursion ends. A line that may have is looked at closely.
    """
    return b"\\ud" not in line and b"\\uD" not in line and line.count(b"{") + line.count(b"[") < MANY_BRACKETS


def _num_bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise Rejected("lone surrogates") from error


def _storable(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields that can be kept as JSON in UTF-8: a bad one costs itself alone."""
    texts = {key: _text(value) if isinstance(value, bytes) else value for key, value in fields.items()}
    known = {key: value for key, value in texts.items() if value is not None}
    if _is_storable(known):
        return known
    return {key: value for key, value in known.items() if _is_storable({key: value})}


def _is_storable(fields: Mapping[str, Any]) -> bool:
    try:
        json.dumps(fields, ensure_ascii=False).encode()
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
