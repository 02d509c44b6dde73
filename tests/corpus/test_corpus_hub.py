"""Hugging Face datasets: with a stand-in of the library, and with itself where it is installed."""

import importlib.util
import json
import sys
import types

import pytest

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.corpus import RejectLog, read_documents
from sbp_bayes.corpus.prepare import CorpusConfig, load_corpus_inputs

ROWS = [{"text": "one", "url": "u", "lang": "en"}, {"text": None}, {"text": 2}, {"text": "three", "n": 3}]


class Rows(list):
    _fingerprint = "abc"


@pytest.fixture
def asked(monkeypatch) -> list[object]:
    """What the stand-in is asked for."""
    calls: list[object] = []

    def load_dataset(name: str, config: str | None, **settings: str) -> Rows:
        calls.append((name, config, settings))
        if name == "org/missing":
            raise RuntimeError("no such\ndataset")
        return Rows(ROWS)

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
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
