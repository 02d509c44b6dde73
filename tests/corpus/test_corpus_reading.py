"""Readers: every format gives the same documents, and every bad input is counted or named."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.store import read_json_lines
from sbp_bayes.corpus import RejectLog, read_documents

TEXTS = ["first text", "zweiter «Text»\nin two lines", "日本"]


def json_lines(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"text": t, "url": f"u{i}"}).encode() + b"\n" for i, t in enumerate(texts))


def parquet(texts: list[str]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": texts, "url": [f"u{i}" for i in range(len(texts))]}), sink)
    return sink.getvalue().to_pybytes()


FORMATS = {
    ".jsonl": json_lines,
    ".jsonl.gz": lambda texts: gzip.compress(json_lines(texts)),
    ".json.gz": lambda texts: gzip.compress(json_lines(texts)),
    ".jsonl.zst": lambda texts: zstandard.compress(json_lines(texts)),
    ".parquet": parquet,
}


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def lenient() -> RejectLog:
    return RejectLog(max_bad_share=1)


@pytest.mark.parametrize("ending", FORMATS)
def test_formats_agree(tmp_path, ending):
    path = write(tmp_path / f"web{ending}", FORMATS[ending](TEXTS))
    documents = list(read_documents(path))
    assert [d.text for d in documents] == TEXTS
    assert [d.id for d in documents] == [f"web{ending}:{i}" for i in (1, 2, 3)]
    assert [d.url for d in documents] == ["u0", "u1", "u2"]
    assert {d.source for d in documents} == {"web"}


def test_a_folder_is_read_in_order_of_relative_paths(tmp_path):
    for name in ("b.jsonl", "a/z.jsonl.gz", "a/b.parquet", ".hidden/x.jsonl", ".y.jsonl", "README.md"):
        ending = next((e for e in FORMATS if name.endswith(e)), ".jsonl")
        write(tmp_path / "root" / name, FORMATS[ending]([name]))
    documents = list(read_documents(tmp_path / "root"))
    assert [d.id for d in documents] == ["a/b.parquet:1", "a/z.jsonl.gz:1", "b.jsonl:1"]
    assert [d.text for d in documents] == ["a/b.parquet", "a/z.jsonl.gz", "b.jsonl"]
    assert {d.source for d in documents} == {"root"}


def test_links_are_followed_and_none_is_left_out(tmp_path):
    write(tmp_path / "elsewhere" / "deep" / "a.jsonl", json_lines(["linked"]))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "file.jsonl").symlink_to(tmp_path / "elsewhere" / "deep" / "a.jsonl")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    assert [d.id for d in read_documents(tmp_path / "root")] == ["file.jsonl:1", "folder/deep/a.jsonl:1"]
    (tmp_path / "root" / "gone.jsonl").symlink_to(tmp_path / "nothing")
    with pytest.raises(CorpusError, match=r"gone\.jsonl: cannot be read \(a link to nothing"):
        read_documents(tmp_path / "root")


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    write(tmp_path / "a.jsonl", json_lines(TEXTS))
    (tmp_path / "closed").mkdir()
    listed = Path.iterdir

    def iterdir(folder):
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(CorpusError, match=r"closed: cannot be read \(Permission denied\)"):
        read_documents(tmp_path)


def test_a_row_group_of_parquet_is_never_held(tmp_path):
    """What Arrow holds is far less than the only row group's 20 MB."""
    table = pa.table({"text": [f"{i} " + "x" * 2000 for i in range(10_000)]})
    pq.write_table(table, tmp_path / "x.parquet", use_dictionary=False, compression="none")
    del table
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() for _ in read_documents(tmp_path / "x.parquet"))
    assert most - before < 8_000_000


def test_concatenated_members_are_read_to_the_end(tmp_path):
    for ending in (".jsonl.gz", ".jsonl.zst"):
        path = write(tmp_path / f"x{ending}", FORMATS[ending](TEXTS) + FORMATS[ending](TEXTS[:1]))
        assert [d.text for d in read_documents(path)] == [*TEXTS, TEXTS[0]]


def test_other_text_field_and_labels(tmp_path):
    path = write(tmp_path / "x.jsonl", b'{"body": "b", "label": 1}\n{"body": "c", "label": "l"}\n')
    assert [(d.text, d.label) for d in read_documents(path, text_field="body")] == [("b", "1"), ("c", "l")]


BAD_LINES = {
    "not JSON": [b"{", b"nonsense", b"[" * 100_000, b"1" * 5000],
    "invalid UTF-8": [b'{"text": "\xff"}', b"\xfe\xfe"],
    "not JSON after a complete value": [
        b'{"text": "a"} rest',
        b'{"text": "a"}{"text": "b"',
        b'{"text": "a"}},',
    ],
    "an array, not an object": [b'["text"]', b'[{"text": "a"}]'],
    "no field 'text'": [b"{}", b"3", b"null"],
    "field 'text' is not a string": [b'{"text": 1}', b'{"text": ["a"]}'],
    "lone surrogates": [b'{"text": "\\ud800"}'],
    "too long": [b'{"text": "' + b"x" * 200_000 + b'"}'],
}


@pytest.mark.parametrize("reason", BAD_LINES)
def test_bad_lines_are_counted_and_logged(tmp_path, reason):
    lines = BAD_LINES[reason]
    path = write(tmp_path / "x.jsonl", b"\n".join([b'{"text": "good"}', *lines, b'{"text": "last"}']))
    log = RejectLog(tmp_path / "rejects.jsonl", max_bad_share=0.9)
    documents = list(read_documents(path, rejects=log, max_document_bytes=150_000))
    assert [d.text for d in documents] == ["good", "last"]
    assert documents[-1].id == f"x.jsonl:{len(lines) + 2}"
    assert log.reasons == {reason: len(lines)}
    expected = [{"file": "x.jsonl", "line": i + 2, "reason": reason} for i in range(len(lines))]
    assert read_json_lines(tmp_path / "rejects.jsonl") == expected


def test_bad_url_or_label_costs_only_itself(tmp_path):
    line = b'{"text": "t", "url": "\\ud800", "label": {"x": 1}}\n'
    (document,) = read_documents(write(tmp_path / "x.jsonl", line))
    assert (document.url, document.label) == (None, None)


def broken_strings(values: list[bytes | None]) -> pa.Array:
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values, pa.binary()).buffers())


def test_bad_parquet_values_are_counted(tmp_path):
    texts = broken_strings([b"good", b"\xff\xff", None, b"", b"x" * 100, b"last"])
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet")
    log = lenient()
    documents = read_documents(tmp_path / "x.parquet", rejects=log, max_document_bytes=99)
    assert [d.id for d in documents] == ["x.parquet:1", "x.parquet:6"]
    assert log.reasons == {"invalid UTF-8": 1, "too long": 1}
    assert (log.num_records, log.num_empty) == (6, 2)


def test_other_parquet_columns(tmp_path):
    columns = {"text": TEXTS, "url": broken_strings([b"u", b"\xff", None]), "label": [1, 2, None]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert [d.url for d in read_documents(tmp_path / "a.parquet")] == ["u", None, None]
    assert [d.label for d in read_documents(tmp_path / "a.parquet")] == ["1", "2", None]
    shared = {"text": pa.array(TEXTS).dictionary_encode(), "label": [{"nested": 1}] * 3}
    pq.write_table(pa.table(shared), tmp_path / "b.parquet")
    assert [(d.text, d.label) for d in read_documents(tmp_path / "b.parquet")] == [(t, None) for t in TEXTS]


def test_an_enormous_line_is_never_held(tmp_path):
    import tracemalloc

    line = b'{"text": "' + b"x" * 60_000_000 + b'"}\n'
    path = write(tmp_path / "x.jsonl.gz", gzip.compress(line + b'{"text": "after"}\n', 1))
    log = lenient()
    tracemalloc.start()
    (document,) = read_documents(path, rejects=log, max_document_bytes=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert document.text == "after"
    assert log.reasons == {"too long": 1}
    assert peak < 10_000_000


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst", ".json.gz"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_truncated_streams_are_named_with_the_records_read(tmp_path, ending, keep):
    content = FORMATS[ending]([f"text {i * 7919 % 10007}" for i in range(20_000)])
    path = write(tmp_path / f"x{ending}", content[: int(keep * len(content))])
    log = lenient()
    with pytest.raises(CorpusError) as caught:
        list(read_documents(path, rejects=log))
    assert str(caught.value).startswith(f"{path}: unreadable after {log.num_records} records (")
    assert (log.num_records > 0) == (keep > 0)


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.json.gz", "x.jsonl.zst", "x.parquet"])
def test_other_content_than_the_name_says(tmp_path, name):
    path = write(tmp_path / name, b"this is neither compressed nor parquet" * 10)
    with pytest.raises(CorpusError, match=f"{name}: unreadable after 0 records"):
        list(read_documents(path))


def test_parquet_without_the_text_column(tmp_path):
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), tmp_path / "x.parquet")
    with pytest.raises(CorpusError, match=r"no column 'text' \(columns: body, n\)"):
        list(read_documents(tmp_path / "x.parquet"))
    with pytest.raises(CorpusError, match=r"1 of 1 records rejected.*'n' is not a string"):
        list(read_documents(tmp_path / "x.parquet", text_field="n"))


def test_paths_that_cannot_be_read_raise_at_once(tmp_path):
    with pytest.raises(CorpusError, match="missing: no such file or folder"):
        read_documents(tmp_path / "missing")
    with pytest.raises(CorpusError, match="no files of known kinds"):
        read_documents(tmp_path)
    with pytest.raises(CorpusError, match=r"notes\.md: unknown kind of file \(known: \.jsonl, "):
        read_documents(write(tmp_path / "notes.md", b"x"))


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_no_document_at_all(tmp_path, content):
    with pytest.raises(CorpusError, match="no documents in 1 files"):
        list(read_documents(write(tmp_path / "x.jsonl", content)))


def lines_with_bad(total: int, bad: set[int]) -> bytes:
    return b"".join(b"bad\n" if i in bad else b'{"text": "t"}\n' for i in range(total))


def test_the_cap_on_bad_lines_holds_at_the_end_of_a_file(tmp_path):
    write(tmp_path / "a.jsonl", lines_with_bad(200, {5, 6}))
    assert len(list(read_documents(tmp_path / "a.jsonl"))) == 198
    write(tmp_path / "a.jsonl", lines_with_bad(200, {5, 6, 7}))
    with pytest.raises(CorpusError, match=r"a\.jsonl: 3 of 200 records rejected.*0\.01.*not JSON \(3\)"):
        list(read_documents(tmp_path / "a.jsonl"))


def test_good_files_do_not_hide_a_bad_one(tmp_path):
    write(tmp_path / "a.jsonl", lines_with_bad(10_000, set()))
    write(tmp_path / "b.jsonl", lines_with_bad(10, {3}))
    with pytest.raises(CorpusError, match=r"b\.jsonl: 1 of 10"):
        list(read_documents(tmp_path))


@pytest.mark.parametrize(
    ("bad", "stopped_at"), [(set(range(50_000)), 100), (set(range(0, 50_000, 50)), 1000)]
)
def test_a_bad_file_stops_early(tmp_path, bad, stopped_at):
    write(tmp_path / "x.jsonl", lines_with_bad(50_000, bad))
    log = RejectLog(tmp_path / "rejects.jsonl")
    with pytest.raises(CorpusError, match=f"of {stopped_at} records"):
        list(read_documents(tmp_path / "x.jsonl", rejects=log))
    assert log.num_records == stopped_at


def test_a_log_without_a_file_counts(tmp_path):
    log = RejectLog(None, 0.5)
    list(read_documents(write(tmp_path / "x.jsonl", lines_with_bad(10, {1, 2})), rejects=log))
    assert (log.num_records, log.num_rejected) == (10, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.jsonl"]


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "url", "label", "x"]), inner)
    ),
    max_leaves=8,
)
bytes_in = st.one_of(
    st.binary(max_size=200),
    st.lists(json_values.map(lambda v: json.dumps(v).encode()), max_size=5).map(b"\n".join),
    st.lists(st.binary(max_size=30) | st.just(b'{"text": "ok"}'), max_size=6).map(b"\n".join),
)


@given(bytes_in, st.sampled_from(sorted(FORMATS)), st.booleans(), st.integers(0, 300), st.integers(0, 255))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_documents_or_rejects_or_a_corpus_error(tmp_path, content, ending, wrap, place, value):
    if wrap and ending != ".jsonl":
        pack = {".jsonl.zst": zstandard.compress, ".parquet": lambda c: parquet([c.decode("latin-1")])}
        packed = bytearray(pack.get(ending, gzip.compress)(content))
        packed[place % len(packed)] = value
        content = bytes(packed)
    path = write(tmp_path / f"x{ending}", content)
    log = lenient()
    try:
        documents = list(read_documents(path, rejects=log, max_document_bytes=100))
    except CorpusError:
        return
    assert log.num_records == len(documents) + log.num_rejected + log.num_empty
    for document in documents:
        assert document.text.strip()
        assert len(document.text.encode()) <= 100


def test_parquet_with_a_damaged_column_name(tmp_path):
    content = parquet(["some text"]).replace(b"text", b"te\xfft")
    with pytest.raises(CorpusError, match=r"x\.parquet: unreadable after 0 records"):
        list(read_documents(write(tmp_path / "x.parquet", content.replace(b"some te\xfft", b"some text"))))


DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(not DATA.exists(), reason="the web samples in ../shared/data are not on this machine")
def test_real_web_samples():
    documents = list(read_documents(DATA / "web"))
    assert len(documents) >= 60
    assert len(list(read_documents(DATA / "dclm"))) == 780
