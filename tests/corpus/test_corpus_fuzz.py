"""Readers on records mixed with rubbish, in containers cut into members anywhere, truncated and damaged.

What must come out is known line by line: a document, or a rejection with its line. A damaged container may
lose what comes after the damage, and says so; nothing before it is lost, and nothing is counted twice.
"""

import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sbp_bayes.base.store import read_json_lines
from sbp_bayes.corpus import RejectLog
from sbp_bayes.corpus.reading import read_source
from sbp_bayes.corpus.rejects import BadFileError

MAX_BYTES = 2000
fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Lines = dict[int, str | None]
"""A document's text by line from 1; None where the record is rejected."""


class Outcome(NamedTuple):
    lines: Lines
    error: BadFileError | None


def read(path: Path) -> Outcome:
    """Read a file, and check that the log, its file and the documents agree.

    Damage may make one line of two, of whose records the last outcome counts.
    """
    rejects, error = path.with_name("rejects"), None
    rejects.unlink(missing_ok=True)
    log, documents = RejectLog(rejects, max_bad_share=1), []
    try:
        documents += read_source(path, path, log, max_document_bytes=MAX_BYTES)
    except BadFileError as bad:
        error = bad
    assert error is None or str(path) in str(error)
    rejected = [reject["line"] for reject in read_json_lines(rejects)]
    places = [document.id.removeprefix(f"{path.name}:").partition("#") for document in documents]
    kept = {int(line): document.text for (line, _, _), document in zip(places, documents, strict=True)}
    logged = dict.fromkeys(rejected)
    assert len(rejected) == log.num_rejected
    assert log.num_records == len(documents) + len(rejected) + log.num_empty
    assert path.suffix != ".parquet" or log.num_records >= max(
        [*kept, *logged], default=0
    )  # a record per row
    return Outcome(kept | logged, error)


class Line(NamedTuple):
    """One line of a file; `text` is None for rubbish, and "" where there is no text, which is no mistake."""

    content: bytes
    text: str | None


def good_line(text: str, fields: dict[str, object], is_ascii: bool) -> Line:
    return Line(json.dumps(fields | {"text": text}, ensure_ascii=is_ascii).encode(), text)


texts = st.text(min_size=1, max_size=30).filter(str.strip)
values = st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.booleans(), max_size=2)
fields = st.dictionaries(st.sampled_from(["url", "label", "metadata", "Text"]), values)
good = st.builds(good_line, texts, fields, st.booleans())
rubbish = st.one_of(
    st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"") + b"{"),  # no JSON ends like this
    good.map(lambda line: line.content[:-1]),
    good.map(lambda line: b"[" + line.content + b"]"),
    good.map(lambda line: line.content.replace(b'"text":', b'"body":')),
    st.sampled_from([b"null", b"3", b'{"text": 1}', b'{"text": []}', b"\xff\xfe{}"]),
    st.just(b'{"text": "' + b"x" * MAX_BYTES + b'"}'),
)
NO_TEXT = [b"", b" ", b"\t\r", b'{"text": " "}', b'{"text": ""}', b'{"text": null}']
blank = st.sampled_from(NO_TEXT)
lines = good | rubbish.map(lambda content: Line(content, None)) | blank.map(lambda content: Line(content, ""))


class File(NamedTuple):
    """Lines of a file, its ending, and the members (frames) of its container; plain files have one."""

    lines: list[Line]
    ending: str
    members: list[bytes]
    contents: list[bytes]

    def expected(self, content: bytes | None = None) -> Lines:
        """What must come out of the lines that are complete in `content`, by default of all."""
        number = len(self.lines) if content is None else content.count(b"\n")
        records = enumerate(self.lines[:number], start=1)
        return {i: line.text for i, line in records if line.text != ""}


def zstd(piece: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=len(piece) % 2 == 0).compress(piece)


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".jsonl": lambda piece: piece,
    ".jsonl.gz": lambda piece: gzip.compress(piece, 1),
    ".NDJSON.GZIP": lambda piece: gzip.compress(piece, 9),
    ".jsonl.zst": zstd,
}


@st.composite
def files(draw: st.DrawFn, compressed: bool = False) -> File:
    """Lines in a container of members that begin and end anywhere, also within a character."""
    drawn = draw(st.lists(lines, max_size=10))
    mark = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) if drawn and drawn[0].text else b""
    content = mark + b"\n".join(line.content for line in drawn) + b"\n" * draw(st.integers(0, 1))
    ending = draw(st.sampled_from([name for name in PACK if name != ".jsonl" or not compressed]))
    cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=3)))
    pieces = [content[a:b] for a, b in itertools.pairwise([0, *cuts, len(content)])]
    return File(drawn, ending, [PACK[ending](piece) for piece in pieces], pieces)


def write(folder: Path, file: File, content: bytes) -> Path:
    path = folder / f"x{file.ending}"
    path.write_bytes(content)
    return path


@given(files())
@settings(fuzz, max_examples=400)
def test_every_line_of_an_intact_file_is_a_document_or_a_rejection(tmp_path, file):
    found = read(write(tmp_path, file, b"".join(file.members)))
    assert found.error is None
    assert found.lines == file.expected()


SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0ABCD"


@given(files(compressed=True), st.data())
@settings(fuzz, max_examples=200)
def test_what_is_no_text_beside_the_members_costs_none_of_it(tmp_path, file, data):
    """Frames to skip are skipped, and so are zeros; rubbish after the last member is one rejection."""
    if file.ending == ".jsonl.zst":
        place = data.draw(st.integers(0, len(file.members)))
        members = [*file.members[:place], SKIPPABLE, *file.members[place:]]
        assert read(write(tmp_path, file, b"".join(members))) == (file.expected(), None)
    padding = bytes(data.draw(st.sampled_from([0, 1, 512, 40_000])))
    more = data.draw(st.booleans())
    members = [*file.members, padding, PACK[file.ending](b"\n{}")] if more else file.members
    content = b"".join(file.contents) + b"\n{}" * more
    expected = file.expected() | {content.count(b"\n") + 1: None} if more else file.expected()
    assert read(write(tmp_path, file, b"".join([*members, padding]))) == (expected, None)
    rubbish = data.draw(st.sampled_from([b"\n", b"rubbish" * 100, b"\xff" * 9, b"<html>"]))
    found = read(write(tmp_path, file, b"".join([*members, padding, rubbish])))
    assert found.error is None
    assert len(found.lines) == len(expected) + 1
    assert found.lines.items() >= expected.items()


@given(files(compressed=True), st.floats(0, 1, exclude_max=True))
@settings(fuzz, max_examples=300)
def test_a_truncated_file_gives_every_complete_line_and_an_error(tmp_path, file, share):
    whole = b"".join(file.members)
    cut = int(share * len(whole))
    found = read(write(tmp_path, file, whole[:cut]))
    ends = list(itertools.accumulate(map(len, file.members)))
    complete = b"".join(file.contents[: sum(end <= cut for end in ends)])
    assert (found.error is None) == (cut in ends)
    expected = file.expected()
    if found.error is None:  # the cut is between two members: the line there is cut, too
        last = complete.count(b"\n") + 1
        assert found.lines.pop(last, None) in (None, expected.get(last))
    assert found.lines.items() >= file.expected(complete).items()
    assert found.lines.items() <= expected.items()


@given(files(), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
@settings(fuzz, max_examples=300)
def test_a_damaged_byte_costs_nothing_before_its_member(tmp_path, file, share, change):
    content = bytearray(b"".join(file.members))
    if not content:
        return
    place = int(share * len(content))
    content[place] ^= change
    ends = list(itertools.accumulate(map(len, file.members)))
    before = b"".join(file.contents[: sum(end <= place for end in ends)])
    if file.ending == ".jsonl":
        before = bytes(content[:place])
    found = read(write(tmp_path, file, bytes(content)))
    assert found.lines.items() >= file.expected(before).items()
    if file.ending == ".jsonl":
        assert found.error is None
        after = bytes(content[place:]).partition(b"\n")[2]
        rest = [line for line in after.split(b"\n") if line.strip() and line not in NO_TEXT]
        assert len(found.lines) >= len(file.expected(before)) + len(rest)


cells = st.one_of(
    texts.map(lambda text: (text.encode(), text)),
    st.sampled_from([(None, ""), (b"", ""), (b" \n", ""), (b"\xff", None), (b"x" * (MAX_BYTES + 1), None)]),
    st.binary(max_size=6).map(lambda tail: (b"\xc3(" + tail, None)),
)


@st.composite
def parquets(draw: st.DrawFn) -> tuple[bytes, Lines]:
    """A parquet file, whose column of strings may hold bytes that are no UTF-8."""
    rows = draw(st.lists(cells, max_size=150))
    array = pa.array([cell for cell, _ in rows], pa.binary())
    column = pa.Array.from_buffers(pa.string(), len(rows), array.buffers(), array.null_count)
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table({"url": ["u"] * len(rows), "text": column}),
        sink,
        row_group_size=draw(st.integers(1, 100)),
        compression=draw(st.sampled_from(["none", "snappy", "gzip", "zstd"])),
        use_dictionary=draw(st.booleans()),
        data_page_version=draw(st.sampled_from(["1.0", "2.0"])),
    )
    return sink.getvalue().to_pybytes(), {i: text for i, (_, text) in enumerate(rows, start=1) if text != ""}


@given(parquets())
@settings(fuzz, max_examples=100)
def test_every_row_of_parquet_is_a_document_or_a_rejection(tmp_path, parquet):
    content, expected = parquet
    (tmp_path / "x.parquet").write_bytes(content)
    assert read(tmp_path / "x.parquet") == (expected, None)


@given(parquets(), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
@settings(fuzz, max_examples=150)
def test_damaged_parquet_gives_documents_rejections_or_an_error(tmp_path, parquet, share, change):
    """Its index is at the end, so that a truncated file gives nothing; `change` 0 truncates."""
    content = bytearray(parquet[0])
    place = int(share * len(content))
    if change:
        content[place] ^= change
    else:
        del content[place:]
    (tmp_path / "x.parquet").write_bytes(content)
    found = read(tmp_path / "x.parquet")
    assert change or found.error
