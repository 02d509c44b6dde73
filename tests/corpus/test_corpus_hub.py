"""Hugging Face datasets: with a stand-in of the library, and with itself where it is installed."""

import importlib.util
import json
import random
import sys
import types
from collections.abc import Iterator

import pytest

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.corpus import RejectLog, prepare_corpus, read_documents
from sbp_bayes.corpus.prepare import CorpusConfig, load_corpus_inputs
from sbp_bayes.corpus.reading import read_source

ROWS = [{"text": "one", "url": "u", "lang": "en"}, {"text": None}, {"text": 2}, {"text": "three", "n": 3}]


class Rows(list):
    _fingerprint = "abc"


def record(i: int) -> dict[str, object]:
    return {"text": " ".join(random.Random(i).choices("abcdefgh  ", k=250)), "i": i}


@pytest.fixture
def asked(monkeypatch) -> list[object]:
    """What the stand-in is asked for."""
    calls: list[object] = []

    def fetched(split: str) -> Iterator[dict[str, object]]:
        """A stream of 1,000 rows, which ends in an error of the network."""
        for i in range(1000):
            calls.append(f"{split} {i}")
            yield record(i if split == "train" else 1000 + i)
        raise ConnectionError("lost\nconnection")

    def load_dataset(name: str, config: str | None, **settings: str) -> Rows:
        calls.append((name, config, settings))
        if name == "org/missing":
            raise RuntimeError("no such\ndataset")
        if settings.get("streaming"):
            return fetched(settings["split"])
        return Rows(ROWS)

    def load_dataset_builder(name: str, config: str | None, **settings: str) -> types.SimpleNamespace:
        calls.append(("builder", name, config, settings))
        return types.SimpleNamespace(config_id="en", hash="abc")

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    module.load_dataset_builder = load_dataset_builder
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


def test_rows_are_documents(asked):
    log = RejectLog(max_bad_share=0.5)
    first, second = read_documents("hf:org/name?config=en&split=test", rejects=log)
    assert (first.id, first.text, first.url) == ("hf:org/name?config=en&split=test:1", "one", "u")
    assert (first.source, first.metadata) == ("name", {"lang": "en"})
    assert second.metadata == {"n": 3}
    assert log.reasons == {"field 'text' is not a string": 1}
    assert asked == [("org/name", "en", {"split": "test"})]


@pytest.mark.parametrize(
    ("query", "split"),
    [
        ("split=train+test", "train+test"),
        ("split=train%2Btest", "train+test"),
        ("config=a%20b&split=train[:10%]+test", "train[:10%]+test"),
        ("", "train"),
    ],
)
def test_a_plus_joins_splits(asked, query, split):
    list(read_documents(f"hf:org/name?{query}", rejects=RejectLog(max_bad_share=0.5)))
    assert asked == [("org/name", "a b" if "config" in query else None, {"split": split})]


def test_a_limit_streams_no_more_than_it_takes(asked, tmp_path):
    shares = {"validation_share": 0.2, "test_share": 0.2}
    config = CorpusConfig(
        paths=("hf:org/name?split=test+train",), vocab_size=300, limit_documents=60, **shares
    )
    manifest = prepare_corpus(config, tmp_path / "out")
    assert manifest.counts["read"] == 60
    stream = ("org/name", None, {"split": "test", "streaming": True})
    assert asked == [("builder", "org/name", None, {}), stream, *(f"test {i}" for i in range(60))]
    assert prepare_corpus(config, tmp_path / "out") == manifest
    assert asked[62:] == [("builder", "org/name", None, {})]


def test_a_slice_cannot_be_streamed_and_is_loaded(asked):
    config = CorpusConfig(paths=("hf:org/name?split=train[:5]",), vocab_size=300, limit_documents=2)
    assert load_corpus_inputs(config)
    list(read_source("hf:org/name?split=train[:5]", None, RejectLog(max_bad_share=0.5), limit=2))
    assert asked == [("org/name", None, {"split": "train[:5]"})] * 2


def test_a_stream_that_breaks_is_named(asked):
    documents = read_source("hf:org/name", None, RejectLog(), limit=2000)
    assert len([next(documents) for _ in range(1000)]) == 1000
    with pytest.raises(
        CorpusError, match=r"hf:org/name: cannot be loaded \(ConnectionError: lost connection\)"
    ):
        next(documents)


def test_the_fingerprint_is_the_librarys(asked, monkeypatch):
    config = CorpusConfig(paths=("hf:org/name",), vocab_size=300)
    before = load_corpus_inputs(config)
    monkeypatch.setattr(Rows, "_fingerprint", "other")
    assert load_corpus_inputs(config) != before
    assert asked == [("org/name", None, {"split": "train"})] * 2


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf:org/missing", r"hf:org/missing: cannot be loaded \(RuntimeError: no such dataset\)"),
        ("hf:org/name?splits=x", "unknown setting 'splits'"),
        ("hf:", "no name"),
    ],
)
def test_mistakes_are_named(asked, address, message):
    with pytest.raises(CorpusError, match=message):
        list(read_documents(address))


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match=r"pip install 'sbp_bayes\[datasets\]'"):
        list(read_documents("hf:org/name"))


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed")
def test_the_library_itself_reads_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    (tmp_path / "data").mkdir()
    lines = "".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(3))
    (tmp_path / "data" / "train.jsonl").write_text(lines)
    documents = list(read_documents(f"hf:{tmp_path / 'data'}"))
    assert [d.text for d in documents] == ["text 0", "text 1", "text 2"]


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed")
def test_the_library_itself_streams_and_joins_splits(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    (tmp_path / "data").mkdir()
    for split, start in (("train", 0), ("test", 1000)):
        lines = "".join(json.dumps(record(start + i)) + "\n" for i in range(40))
        (tmp_path / "data" / f"{split}.jsonl").write_text(lines)
    address = f"hf:{tmp_path / 'data'}?split=train+test"
    assert [d.metadata["i"] for d in read_documents(address)] == [*range(40), *range(1000, 1040)]
    shares = {"validation_share": 0.2, "test_share": 0.2}
    config = CorpusConfig(paths=(address,), vocab_size=300, limit_documents=60, **shares)
    before = load_corpus_inputs(config)
    assert prepare_corpus(config, tmp_path / "out").counts["unique"] == 60
    with open(tmp_path / "data" / "test.jsonl", "a") as file:
        file.write(json.dumps(record(5000)) + "\n")
    assert load_corpus_inputs(config) != before
