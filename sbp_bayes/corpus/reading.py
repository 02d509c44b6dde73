"""Documents from files: JSON (plain or compressed), parquet, folders of them, packaged corpora, datasets.

Bad records are rejected, counted and logged, never dropped in silence; above a share of a file they
stop the reading.
"""

import functools
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.corpus.fields import Fields
from sbp_bayes.corpus.formats import read_records
from sbp_bayes.corpus.hub import PREFIX as HUB
from sbp_bayes.corpus.hub import read_hub
from sbp_bayes.corpus.json_text import values_of_line
from sbp_bayes.corpus.listing import LeftOut, kind_of, list_files, shown
from sbp_bayes.corpus.packaged import PREFIX as PACKAGED
from sbp_bayes.corpus.packaged import read_packaged
from sbp_bayes.corpus.parquet import plain_value
from sbp_bayes.corpus.records import Document
from sbp_bayes.corpus.rejects import Rejected, RejectLog

MAX_DOCUMENT_BYTES = 10_000_000
MANY_BRACKETS = 100
DESCRIPTION = ".json of one object without field {!r}"
ALL_FIELDS = Fields()

Value = tuple[int, str, Any, bool]
"""Line from 1, what follows it in an id, a value of JSON (or a `Rejected`), and whether `_is_plain` holds."""


def read_documents(
    path: str | Path,
    *,
    text_field: str = "text",
    rejects: RejectLog | None = None,
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
    fields: Fields = ALL_FIELDS,
) -> Iterator[Document]:
    """Return the documents at `path`, one at a time.

    Args:
        path: a file of JSON lines (.jsonl, .ndjson, .jsonlines or .json), of one JSON array or of objects
            over several lines (.json), each plain or compressed (.gz, .zst), or a parquet file;
            a folder, of which all such files are read in the order of their relative paths, hidden ones
            left out; "packaged:wikipedia", "packaged:factbook", "packaged:cookbook",
            "packaged:docstrings"; or "hf:NAME?config=C&split=S", a Hugging Face dataset (see `load_hub`).
        text_field: name of the field (column) that holds the text; "url" and "label" have places of their
            own, and all other fields go into the metadata, but those that UTF-8 or JSON cannot hold.
        rejects: counts and logs the bad records, and what else is left out; by default bad records are
            counted under a cap of 1%.
        max_document_bytes: a longer record (line of JSON, or text in parquet) is rejected; no more than
            this of a line is ever held in memory.
        fields: which fields besides the text are read.

    A document's id is the file's path relative to `path`'s folder and the line (row, element) from 1; "#2"
    and so on follow for further documents of one line.

    Raises:
        CorpusError: at once for a missing path, an unknown extension or a folder without such files;
            while reading for a truncated or damaged file, for too many bad records, or at the end if
            there was no document at all.
    """
    log = rejects if rejects is not None else RejectLog()
    files = source_files(path, log.left_out)
    read = functools.partial(
        read_source, text_field=text_field, max_document_bytes=max_document_bytes, fields=fields
    )
    return _read_all(path, files, log, read)


def read_values(path: str | Path) -> Iterator[Any]:
    """Yield the values of JSON, or rows of parquet, at `path`, a file or folder, whatever they hold.

    Raises:
        CorpusError: a missing or unreadable file, or a line that is not JSON.
    """
    for file in list_files(Path(path)):
        for line, _, value, _ in _values(read_records(file, "text", MAX_DOCUMENT_BYTES, ALL_FIELDS)):
            if isinstance(value, Rejected):
                raise CorpusError(f"{shown(file)}:{line}: {value}")
            yield value


def read_source(
    path: str | Path,
    file: Path | None,
    log: RejectLog,
    *,
    text_field: str = "text",
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
    fields: Fields = ALL_FIELDS,
    limit: int | None = None,
) -> Iterator[Document]:
    """Yield the documents of one file, or of a source that has none; arguments as of `read_documents`.

    Args:
        path: what the user named.
        file: a file at or below it; None for "packaged:…" and "hf:…".
        limit: how many documents the caller takes at most, if it knows: a Hugging Face dataset is then
            streamed, and not downloaded whole.

    Raises:
        BadFileError: see there. An empty file has no documents, which is no error.
    """
    name, source = source_name(path, file), shown(Path(str(path).partition("?")[0]).name)
    log.begin_file(name, file)
    if name.startswith(PACKAGED):
        for line, document in enumerate(read_packaged(name.removeprefix(PACKAGED)), start=1):
            log.count(line)
            yield document
        return
    if file is not None:
        source = source if Path(path).is_dir() else source.split(".")[0]
        values = _values(read_records(file, text_field, max_document_bytes, fields))
        if Path(path).is_dir() and (kind := kind_of(file.name)) and kind.content == "json":
            values = _unless_description(values, text_field, name, log)
    else:
        values = _hub_values(name.removeprefix(HUB), streaming=limit is not None)
    choose = None if fields.are_all else fields.of
    for line, again, value, is_plain in values:
        try:
            text = _text_of(value, text_field, None if is_plain else max_document_bytes)
        except Rejected as rejected:
            log.count(line, str(rejected))
            continue
        log.count(line)
        if text:
            others = value if choose is None else choose(value)
            url, label, metadata = _beside_text(others, text_field, is_plain, log.lost_values)
            yield Document(
                id=f"{name}:{line}{again}",
                text=text,
                source=source,
                label=label,
                url=url,
                metadata=metadata,
            )
        else:
            log.num_empty += 1
    log.check_share()


def source_name(path: str | Path, file: Path | None) -> str:
    """Return what ids of a file's documents begin with: its place in the folder `path`, or its own name."""
    if file is None:
        return str(path)
    return shown(file.relative_to(path if Path(path).is_dir() else Path(path).parent))


def source_files(path: str | Path, left_out: LeftOut | None = None) -> list[Path | None]:
    """Return the files of which `path` consists: `list_files`, or [None] for "packaged:…" and "hf:…"."""
    return [None] if str(path).startswith((PACKAGED, HUB)) else [*list_files(Path(path), left_out)]


def _hub_values(address: str, streaming: bool) -> Iterator[Value]:
    return ((line, "", row, False) for line, row in read_hub(address, streaming=streaming))


def _read_all(
    path: str | Path,
    files: list[Path | None],
    log: RejectLog,
    read: Callable[[str | Path, Path | None, RejectLog], Iterator[Document]],
) -> Iterator[Document]:
    any_document = False
    for file in files:
        for document in read(path, file, log):
            any_document = True
            yield document
    if not any_document:
        counts = f"{log.num_rejected} records rejected, {log.num_empty} empty"
        raise CorpusError(f"{shown(path)}: no documents in {len(files)} files, {counts}")


def _values(records: Iterator[tuple[int, Any]]) -> Iterator[Value]:
    """Parse lines of JSON; a line of several values yields each of them."""
    for line, record in records:
        if not isinstance(record, bytes):
            yield line, "", record, False
            continue
        is_plain = _is_plain(record)
        try:
            try:
                value = json.loads(text := _decode(record))
            except (ValueError, RecursionError):
                for i, value in enumerate(values_of_line(text), start=1):
                    yield line, f"#{i}" if i > 1 else "", value, is_plain
                continue
        except Rejected as rejected:
            value = rejected
        yield line, "", value, is_plain


def _unless_description(
    values: Iterator[Value], text_field: str, name: str, log: RejectLog
) -> Iterator[Value]:
    """Yield the values of a .json file, unless it is one object that holds no text and describes others."""
    first = next(values, None)
    if first is None:
        return
    if isinstance(first[2], dict) and text_field not in first[2]:
        second = next(values, None)
        if second is None:
            log.left_out.add(DESCRIPTION.format(text_field), name)
            return
        values = itertools.chain([second], values)
    yield first
    yield from values


def _text_of(value: Any, text_field: str, max_bytes: int | None) -> str:
    """Return the text of a value, "" where there is nothing in it, or raise `Rejected`.

    Its size and encoding are checked unless `max_bytes` is None.
    """
    if isinstance(value, Rejected):
        raise value
    if isinstance(value, list):
        raise Rejected("an array, not an object")
    if not isinstance(value, dict) or text_field not in value:
        raise Rejected(f"no field {text_field!r}")
    text = value[text_field]
    if isinstance(text, bytes):
        text = _decode(text)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise Rejected(f"field {text_field!r} is not a string")
    if max_bytes is not None and _num_bytes(text) > max_bytes:
        raise Rejected("too long")
    return "" if not text or text.isspace() else text


def _beside_text(
    record: Mapping[str, Any], text_field: str, is_plain: bool, lost: Counter[str]
) -> tuple[str | None, str | None, Mapping[str, Any]]:
    """Return url, label and metadata of a record; `lost` counts the values that cannot be kept."""
    elsewhere = (text_field, "url", "label")
    others = {key: value for key, value in record.items() if value is not None and key not in elsewhere}
    url, label = record.get("url"), record.get("label")
    if isinstance(label, int):
        label = str(label)
    own = {"url": _text(url), "label": _text(label)}
    lost.update(name for name in own if own[name] is None and record.get(name) is not None)
    return own["url"], own["label"], others if is_plain else _storable(others, lost)


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


def _storable(fields: Mapping[str, Any], lost: Counter[str]) -> Mapping[str, Any]:
    """Return the fields that can be kept as JSON in UTF-8: a bad one costs itself alone, and is counted."""
    texts = {key: _text(value) if isinstance(value, bytes) else value for key, value in fields.items()}
    if None not in texts.values() and _is_storable(texts):
        return texts
    plain = {key: plain_value(value) for key, value in texts.items()}
    kept = {key: value for key, value in plain.items() if value is not None and _is_storable({key: value})}
    lost.update(str(key) for key in fields.keys() - kept.keys())
    return kept


def _is_storable(fields: Mapping[str, Any]) -> bool:
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


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
