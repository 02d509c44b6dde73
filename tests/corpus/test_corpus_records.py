"""Corpora: what is stored comes back, and damage is named."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import StoreError
from sbp_bayes.corpus import Corpus, Document, train_tokenizer
from sbp_bayes.corpus.files import Column

TEXTS = ["to be or not to be", "", "日本語 text\x00 with <|endoftext|>", "to be, to be, to be " * 40]
TOKENIZER = train_tokenizer(TEXTS, 300)


def documents() -> list[Document]:
    return [
        Document(id=f"a:{i}", text=t, source="ab"[i % 2], label=[None, "x"][i % 2], metadata={"i": i})
        for i, t in enumerate(TEXTS)
    ]


def assert_same(first: Corpus, second: Corpus) -> None:
    for field in dataclasses.fields(Corpus):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, field.name
            assert np.array_equal(one, other), field.name
        else:
            assert list(one) == list(other), field.name
    assert first.fingerprint == second.fingerprint


def test_build_tokenises_each_text_by_itself():
    corpus = Corpus.build(documents(), TOKENIZER)
    for i, text in enumerate(TEXTS):
        assert TOKENIZER.decode(corpus.document(i)) == text
        assert corpus.document(i).dtype == np.int64
    assert corpus.num_tokens == sum(len(corpus.document(i)) + 1 for i in range(len(TEXTS)))
    assert list(corpus.num_bytes) == [len(t.encode()) for t in TEXTS]
    assert corpus.tokens.dtype == np.uint16
    assert corpus.complete.all()


def test_plain_texts_get_ids_and_urls_go_to_metadata():
    corpus = Corpus.build([*TEXTS[:1], Document(id="u", text="x", source="s", url="h")], TOKENIZER)
    assert corpus.ids == ["text:0", "u"]
    assert corpus.metadata == [{}, {"url": "h"}]


def test_save_and_load_give_the_same_corpus(tmp_path):
    corpus = Corpus.build(documents(), TOKENIZER)
    cut = dataclasses.replace(corpus, complete=np.array([True, False, True, False]))
    for i, one in enumerate([corpus, cut, corpus.select([])]):
        one.save(tmp_path / str(i))
        assert_same(one, Corpus.load(tmp_path / str(i)))


def test_loaded_tokens_stay_on_disk(tmp_path):
    Corpus.build(documents(), TOKENIZER).save(tmp_path)
    assert isinstance(Corpus.load(tmp_path).tokens.base, np.memmap)


def test_loaded_documents_stay_on_disk_and_act_as_lists(tmp_path):
    built = Corpus.build(documents(), TOKENIZER)
    built.save(tmp_path)
    loaded = Corpus.load(tmp_path)
    for name in ("ids", "texts", "sources", "labels", "metadata"):
        column, known = getattr(loaded, name), list(getattr(built, name))
        assert isinstance(column, Column)
        assert (list(column), column[1:3], column[-1], len(column)) == (known, known[1:3], known[-1], 4)
        assert column == known
        assert column != known[:-1]
        part = loaded.select(np.array([3, 1, 1]))
        assert isinstance(getattr(part, name), Column)
        assert getattr(part.select([0, 2]), name) == [known[3], known[1]]
        for bad in (4, -5):
            with pytest.raises(IndexError, match=f"document {bad} of 4"):
                column[bad]


@given(st.lists(st.integers(0, len(TEXTS) - 1), max_size=6), st.lists(st.integers(0, 3), max_size=6))
@settings(max_examples=30, deadline=None)
def test_select_and_concatenate_agree_with_building_anew(first, second):
    corpus = Corpus.build(documents(), TOKENIZER)
    rows = [*first, *second]
    assert_same(corpus.select(rows), Corpus.build([documents()[i] for i in rows], TOKENIZER))
    assert_same(
        Corpus.concatenate([corpus.select(first), corpus.select(np.array(second, int))]), corpus.select(rows)
    )


def test_large_vocabularies_widen_the_tokens():
    tokens = [np.array([5, 70_000])]
    corpus = Corpus.from_tokens(documents()[:1], tokens, vocab_size=70_001, complete=[False])
    assert corpus.tokens.dtype == np.uint32
    assert list(corpus.document(0)) == [5, 70_000]
    assert list(corpus.complete) == [False]


def test_fingerprint_depends_on_ids_tokens_boundaries_and_completeness():
    corpus = Corpus.build(documents(), TOKENIZER)
    moved = corpus.offsets.copy()
    moved[1] -= 1
    others = [
        dataclasses.replace(corpus, ids=["other", *corpus.ids[1:]]),
        dataclasses.replace(corpus, tokens=corpus.tokens + np.uint16(1)),
        dataclasses.replace(corpus, offsets=moved),
        dataclasses.replace(corpus, complete=~corpus.complete),
    ]
    assert len({c.fingerprint for c in [corpus, *others]}) == 5


@pytest.mark.parametrize("name", ["documents.arrow", "tokens.npy", "offsets.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "rubbish"])
def test_damage_raises_a_store_error_that_names_the_folder(tmp_path, name, damage):
    Corpus.build(documents(), TOKENIZER).save(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        damaged = {
            "empty": b"",
            "truncated": content[: len(content) // 2],
            "rubbish": b"\x93NUMPY rubbish" * 20,
        }
        path.write_bytes(damaged[damage])
    with pytest.raises(StoreError, match=str(tmp_path)) as caught:
        Corpus.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["documents.arrow", "tokens.npy", "offsets.npy"])
def test_a_flipped_bit_anywhere_is_found(tmp_path, name):
    Corpus.build(documents(), TOKENIZER).save(tmp_path)
    content = (tmp_path / name).read_bytes()
    for place in range(0, len(content), 11):
        flipped = bytes([content[place] ^ 4])
        (tmp_path / name).write_bytes(content[:place] + flipped + content[place + 1 :])
        with pytest.raises(StoreError, match=name):
            Corpus.load(tmp_path, verify=True)


@pytest.mark.parametrize("meta", ["[]", "{}", '{"files": []}', '{"files": {}}', "{"])
def test_damaged_meta(tmp_path, meta):
    Corpus.build(documents(), TOKENIZER).save(tmp_path)
    (tmp_path / "meta.json").write_text(meta)
    with pytest.raises(StoreError, match="damaged"):
        Corpus.load(tmp_path)


def test_a_corpus_is_opened_without_reading_its_tokens(tmp_path, monkeypatch):
    """In every worker: no checksum, and the fingerprint that was computed when it was written."""
    corpus = Corpus.build(documents(), TOKENIZER)
    corpus.save(tmp_path)
    for name in ("_sha256", "corpus_fingerprint"):
        monkeypatch.setattr(f"sbp_bayes.corpus.files.{name}", None)
    monkeypatch.setattr("sbp_bayes.corpus.records.corpus_fingerprint", None)
    loaded = Corpus.load(tmp_path)
    assert loaded.fingerprint == json.loads((tmp_path / "meta.json").read_text())["fingerprint"]
    monkeypatch.undo()
    assert loaded.fingerprint == corpus.fingerprint == Corpus.load(tmp_path, verify=True).fingerprint
    assert loaded == corpus


def test_a_corpus_of_an_earlier_version_is_verified_whole(tmp_path):
    Corpus.build(documents(), TOKENIZER).save(tmp_path)
    meta = json.loads((tmp_path / "meta.json").read_text())
    del meta["file_bytes"]
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    Corpus.load(tmp_path)
    content = (tmp_path / "tokens.npy").read_bytes()
    (tmp_path / "tokens.npy").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreError, match="SHA-256"):
        Corpus.load(tmp_path)


def test_files_of_two_corpora_are_refused(tmp_path):
    corpus = Corpus.build(documents(), TOKENIZER)
    corpus.save(tmp_path / "a")
    corpus.select([0, 1]).save(tmp_path / "b")
    shutil.copy(tmp_path / "a" / "tokens.npy", tmp_path / "b" / "tokens.npy")
    with pytest.raises(StoreError, match="of another corpus"):
        Corpus.load(tmp_path / "b")
