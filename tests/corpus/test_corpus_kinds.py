"""Kinds of files and of names: what is read of a folder, and what is counted and named instead."""

import gzip
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.store import read_json, read_json_lines
from sbp_bayes.corpus import Corpus, CorpusConfig, RejectLog, prepare_corpus, read_documents


def record(i: int) -> str:
    return json.dumps({"text": " ".join(random.Random(i).choices("abcdefghijkl  ", k=260))})


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def settings_for(*paths: Path, **settings) -> CorpusConfig:
    shares = {"validation_share": 0.2, "test_share": 0.2}
    return CorpusConfig(paths=tuple(map(str, paths)), vocab_size=300, **shares, **settings)


READ = {
    "a.jsonl": lambda line: line.encode(),
    "b.NDJSON": lambda line: line.encode(),
    "c.jsonlines": lambda line: line.encode(),
    "d.json": lambda line: line.encode(),
    "e.json.zst": lambda line: zstandard.compress(line.encode()),
    "f.JSONL.Zstd": lambda line: zstandard.compress(line.encode()),
    "g.ndjson.gzip": lambda line: gzip.compress(line.encode()),
    "h.json.GZ": lambda line: gzip.compress(line.encode()),
}


def test_kinds_are_read_by_ending_and_the_rest_is_counted_and_named(tmp_path, said):
    root = tmp_path / "root"
    for i, (name, pack) in enumerate(READ.items()):
        write(root / name, pack("".join(record(10 * i + j) + "\n" for j in range(10))))
    for name in (
        "x.txt",
        "y.TXT",
        "z.csv.gz",
        "a.jsonl.bz2",
        "README",
        "sub/x.jsonl.part",
        "sub/w.txt",
        "v.txt",
    ):
        write(root / name, "not read")
    write(root / ".gitattributes", "")
    write(root / ".git" / "config.json", "")
    manifest = prepare_corpus(settings_for(root), tmp_path / "out")
    assert manifest.counts["read"] == 80
    left_out = manifest.counts["files_left_out"]
    assert left_out[".txt"] == {"files": 4, "first": ["sub/w.txt", "v.txt", "x.txt"]}
    assert {ending: entry["files"] for ending, entry in left_out.items()} == {
        ".txt": 4,
        "hidden": 2,
        ".csv.gz": 1,
        ".jsonl.bz2": 1,
        ".part": 1,
        "without an ending": 1,
    }
    assert "not read: 4 .txt (sub/w.txt, v.txt, x.txt, …)" in said
    assert "not read: 2 hidden (.git, .gitattributes)" in said
    assert "not read: 1 without an ending (README)" in said


def test_a_folder_without_known_kinds_says_what_it_holds(tmp_path):
    write(tmp_path / "a.txt", "")
    with pytest.raises(CorpusError, match=r"no files of known kinds .*; it holds 1 \.txt \(a\.txt\)$"):
        read_documents(tmp_path)


OBJECTS = [{"text": "one [1]", "n": {"m": [1, 2]}}, {"text": 'two "2"'}, {"text": "drei é"}]
DOCUMENTS = {
    "an array": json.dumps(OBJECTS),
    "a pretty array": json.dumps(OBJECTS, indent=2),
    "an array of lines": "[\n" + ",\n".join(map(json.dumps, OBJECTS)) + "\n]\n",
    "pretty objects": "\n".join(json.dumps(x, indent=4) for x in OBJECTS),
    "an array behind a mark": "\ufeff \n" + json.dumps(OBJECTS, indent=1, ensure_ascii=False),
    "lines": "\n".join(map(json.dumps, OBJECTS)),
}


@pytest.mark.parametrize("form", DOCUMENTS)
@pytest.mark.parametrize("chars_together", [1, 7, 1 << 16])
def test_json_is_read_in_any_form(tmp_path, monkeypatch, form, chars_together):
    monkeypatch.setattr("sbp_bayes.corpus.json_text.CHARS_TOGETHER", chars_together)
    for name, pack in (("x.json", bytes), ("x.json.gz", gzip.compress)):
        documents = list(read_documents(write(tmp_path / name, pack(DOCUMENTS[form].encode()))))
        assert [d.text for d in documents] == [x["text"] for x in OBJECTS]
        assert [d.id for d in documents] == [f"{name}:{i}" for i in (1, 2, 3)]
        assert documents[0].metadata == {"n": {"m": [1, 2]}}


def test_lines_of_json_stay_lines_whatever_the_first_is(tmp_path):
    """A damaged first line, one beyond the first look that ends at a comma there, or an array of its own."""
    for first in (b'{"text": "a', b'{"text": "' + b"," * 100_000 + b'"}', b'[{"text": "a"}]', b"[1]", b"{"):
        path = write(tmp_path / "x.json", first + b"\n\n" + LINE + b"\n")
        (*_, last) = read_documents(path, rejects=RejectLog(max_bad_share=0.5))
        assert last.id == "x.json:3"


def test_a_number_that_goes_on_in_the_next_bytes_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr("sbp_bayes.corpus.json_text.CHARS_TOGETHER", 1)
    log = RejectLog(max_bad_share=0.9)
    (document,) = read_documents(write(tmp_path / "x.json", '[123, {"text": "a"}]'), rejects=log)
    assert (document.id, log.num_records) == ("x.json:2", 2)


def test_an_array_that_breaks_off_gives_what_came_before(tmp_path):
    for tail in ('{"text": "tw', "rubbish, ...]"):
        log = RejectLog()
        documents = read_documents(write(tmp_path / "x.json", '[\n{"text": "one"},\n' + tail), rejects=log)
        assert next(documents).text == "one"
        with pytest.raises(
            CorpusError, match=r"x\.json: unreadable after 1 records \(not JSON after 1 values"
        ):
            next(documents)


def test_values_of_an_array_are_rejected_alone(tmp_path):
    values = [
        {"text": "a"},
        3,
        {"text": "\ud800"},
        {"n": 1},
        {"text": None},
        {"text": "x" * 200},
        {"text": "b"},
    ]
    log = RejectLog(max_bad_share=0.9)
    path = write(tmp_path / "x.json", json.dumps(values, indent=1))
    documents = list(read_documents(path, rejects=log, max_document_bytes=100))
    assert [d.id for d in documents] == ["x.json:1", "x.json:7"]
    assert log.reasons == {"no field 'text'": 2, "lone surrogates": 1, "too long": 1}
    assert log.num_empty == 1


def test_an_enormous_value_of_an_array_is_never_held(tmp_path):
    path = write(tmp_path / "x.json", '[{"text": "a"}, {"text": "' + "x" * 3_000_000)
    documents = read_documents(path, max_document_bytes=100_000)
    assert next(documents).text == "a"
    with pytest.raises(CorpusError, match="value 2 is no JSON of at most 100,000 characters"):
        next(documents)


def test_an_object_that_describes_other_files_is_named_and_no_mistake(tmp_path, said):
    root = tmp_path / "root"
    write(root / "a.jsonl", "".join(record(i) + "\n" for i in range(60)))
    write(root / "dataset_infos.json", json.dumps({"default": {"features": {}}}, indent=2))
    counts = prepare_corpus(settings_for(root), tmp_path / "out").counts
    name = ".json of one object without field 'text'"
    assert counts["files_left_out"] == {name: {"files": 1, "first": ["dataset_infos.json"]}}
    assert (counts["read"], counts["rejected"]) == (60, {})
    assert f"not read: 1 {name} (dataset_infos.json)" in said
    with pytest.raises(CorpusError, match=r"1 of 1 records rejected.*no field 'text'"):
        list(read_documents(root / "dataset_infos.json"))


LINE = b'{"text": "a"}'
SEVERAL = {
    LINE + b'{"text": "b"}': ["x.jsonl:2", "x.jsonl:2#2"],
    LINE + b' {"text": "b"}\t{"text": "c"}\r': ["x.jsonl:2", "x.jsonl:2#2", "x.jsonl:2#3"],
    LINE + b'\xef\xbb\xbf{"text": "b"}': ["x.jsonl:2", "x.jsonl:2#2"],
    b"\x1e" + LINE: ["x.jsonl:2"],
    LINE + b'{"n": 1}' + LINE: ["x.jsonl:2", "x.jsonl:2#3"],
    LINE + b"3" + LINE: ["x.jsonl:2", "x.jsonl:2#3"],
    LINE + b"," + LINE: [],
    LINE + b'{"text": "b': [],
    LINE + b"\0\0\0": [],
    b"\0\0" + LINE: [],
    b'{"text": "a", "text": "b", "n": NaN}': ["x.jsonl:2"],
}


@pytest.mark.parametrize("line", SEVERAL)
def test_several_values_on_a_line(tmp_path, line):
    """All are read, each with an id of its own, or the line is one reject."""
    path = write(tmp_path / "x.jsonl", b"\n".join([b'{"text": "first"}', line, b'{"text": "last"}']))
    log = RejectLog(tmp_path / "rejects.jsonl", max_bad_share=0.9)
    documents = list(read_documents(path, rejects=log))
    assert [d.id for d in documents] == ["x.jsonl:1", *SEVERAL[line], "x.jsonl:3"]
    assert log.num_records == len(documents) + log.num_rejected
    assert {reject["line"] for reject in read_json_lines(tmp_path / "rejects.jsonl")} <= {2}


def test_two_files_joined_without_a_line_end(tmp_path):
    whole = "".join(record(i) + "\n" for i in range(60))
    write(tmp_path / "x.jsonl", whole[:-1] + "".join(record(i) + "\n" for i in range(100, 160)))
    counts = prepare_corpus(settings_for(tmp_path / "x.jsonl"), tmp_path / "out").counts
    assert (counts["read"], counts["rejected"], counts["unique"]) == (120, {}, 120)


def test_empty_texts_are_cleaned_away_and_counted(tmp_path, said):
    empty = [b'{"text": ""}', b'{"text": " \\n\\t"}', b'{"text": null}']
    lines = [record(i).encode() for i in range(60)]
    lines += empty * 20
    path = write(tmp_path / "x.jsonl", b"\n".join(lines))
    table = pa.table({"text": [None, "", " ", *(json.loads(record(i))["text"] for i in range(100, 130))]})
    pq.write_table(table, tmp_path / "y.parquet")
    counts = prepare_corpus(settings_for(path, tmp_path / "y.parquet"), tmp_path / "out").counts
    assert (counts["read"], counts["rejected"]) == (153, {})
    assert counts["cleaned_away"] == {"empty text": 63}
    assert "left out: empty text, 63 of 153 records" in said
    write(path, b'{"text": ""}\n{"body": "x"}\n')
    with pytest.raises(CorpusError, match=r"1 of 2 records rejected.*no field 'text'"):
        list(read_documents(path))
    with pytest.raises(CorpusError, match="no documents in 1 files, 0 records rejected, 1 empty"):
        list(read_documents(write(path, b'{"text": null}\n')))


POINTERS = {
    "a git-lfs pointer, not the file itself: run `git lfs pull`": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    ),
    "a git-annex pointer, not the file itself: run `git annex get`": b"/annex/objects/SHA256E-s9--00.jsonl\n",
}


@pytest.mark.parametrize("message", POINTERS)
@pytest.mark.parametrize("ending", [".jsonl", ".json", ".jsonl.zst", ".json.gz", ".parquet"])
def test_pointers_are_named(tmp_path, said, message, ending):
    root = tmp_path / "root"
    write(root / f"p{ending}", POINTERS[message])
    write(root / "good.jsonl", "".join(record(i) + "\n" for i in range(60)))
    counts = prepare_corpus(settings_for(root, max_bad_files=0.5), tmp_path / "out").counts
    what = message.partition(",")[0]
    assert (counts["rejected"], counts["first_rejected"]) == ({what: 1}, {what: f"p{ending}:1"})
    assert f"bad file: {root / f'p{ending}'}: {message}" in said


def test_a_git_annex_link_without_its_content_is_named(tmp_path):
    (tmp_path / "x.jsonl").symlink_to(tmp_path / ".git/annex/objects/Xx/SHA256E-s9--00.jsonl")
    with pytest.raises(CorpusError, match=r"x\.jsonl: cannot be read \(a git-annex link .*git annex get"):
        read_documents(tmp_path)


def test_names_that_are_not_utf8_or_not_printable_are_escaped(tmp_path, said):
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/t\xe9xts"))
    names = [b"caf\xe9.jsonl", b"two\nlines\x1b[1m.jsonl", b"sub\xff/a.parquet", "日本.jsonl".encode()]
    for i, name in enumerate(names):
        path = Path(os.fsdecode(os.fsencode(root) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [json.loads(record(100 * i + j))["text"] for j in range(30)]
        if path.suffix == ".parquet":
            with open(path, "wb") as file:
                pq.write_table(pa.table({"text": texts}), file)
        else:
            write(path, "".join(json.dumps({"text": text}) + "\n" for text in texts) + "bad\n")
    write(root / os.fsdecode(b"n\xf6tes.txt"), "")
    manifest = prepare_corpus(settings_for(root, max_bad_share=0.1), tmp_path / "out", num_workers=2)
    prefixes = {name.rpartition(":")[0] for name in Corpus.load(tmp_path / "out" / "pool").ids}
    assert prefixes == {r"caf\xe9.jsonl", r"two\nlines\x1b[1m.jsonl", r"sub\xff/a.parquet", "日本.jsonl"}
    assert set(Corpus.load(tmp_path / "out" / "pool").sources) == {r"t\xe9xts"}
    rejects = read_json_lines(tmp_path / "out" / "rejects.jsonl")
    assert {reject["file"] for reject in rejects} == prefixes - {r"sub\xff/a.parquet"}
    assert manifest.counts["files_left_out"][".txt"]["first"] == [r"n\xf6tes.txt"]
    assert read_json(tmp_path / "out" / "plan.json")["config"]["paths"] == [str(root)]
    assert prepare_corpus(settings_for(root, max_bad_share=0.1), tmp_path / "out") == manifest
    with pytest.raises(CorpusError, match=r"caf\\xe9\.jsonl: 1 of 31 records rejected"):
        prepare_corpus(settings_for(root, max_bad_files=0), tmp_path / "strict")
    assert all(line.isprintable() for line in said)


@pytest.mark.parametrize("through_a_link", [False, True])
def test_output_inside_the_input_is_refused_and_the_reverse(tmp_path, through_a_link):
    root = tmp_path / "root"
    path = write(root / "texts" / "a.jsonl", "".join(record(i) + "\n" for i in range(60)))
    given = root
    if through_a_link:
        given = tmp_path / "link"
        given.symlink_to(root)
    for out in (root / "out", root, given / "texts" / "deep" / "out"):
        with pytest.raises(CorpusError, match=r"the output folder .* lies inside it: choose another"):
            prepare_corpus(settings_for(given), out)
    for text in (given / "texts", given / "texts" / "a.jsonl"):
        with pytest.raises(CorpusError, match=r"lies inside the output folder .*choose another"):
            prepare_corpus(settings_for(text), root)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "inner").symlink_to(root)
    with pytest.raises(CorpusError, match="inner/texts leads into the output folder"):
        prepare_corpus(settings_for(tmp_path / "other"), root / "texts")
    assert sorted(p.name for p in root.rglob("*")) == ["a.jsonl", "texts"]
    prepare_corpus(settings_for(path), path.parent / "out")  # a file beside its output is no part of it
