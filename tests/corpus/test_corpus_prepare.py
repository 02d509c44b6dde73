"""The corpus stage: every document accounted for, splits by content, the tokenizer from the pool alone."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError, CorpusError, StoreError
from sbp_bayes.base.stage import read_manifest
from sbp_bayes.base.store import read_json_lines
from sbp_bayes.corpus import (
    Corpus,
    CorpusConfig,
    Document,
    Tokenizer,
    choose_unique,
    prepare_corpus,
    split_of,
    train_tokenizer,
)
from sbp_bayes.corpus.prepare import load_corpus_inputs

WORDS = [f"word{i}" for i in range(300)]


def text(i: int) -> str:
    return " ".join(WORDS[k] for k in np.random.default_rng(i).integers(300, size=40))


def write_lines(path, lines: list[str]) -> str:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


def record(content: str) -> str:
    return json.dumps({"text": content})


@pytest.fixture
def config(tmp_path):
    """200 distinct texts, 3 exact repeats, 2 near ones, 4 short ones, 1 broken line."""
    near = [text(i) + " more" for i in (7, 8)]
    texts = [*map(text, range(200)), text(3), text(3), text(4), *near, *(f"short {i}" for i in range(4))]
    first = write_lines(tmp_path / "a.jsonl", [*map(record, texts[:120]), "broken"])
    second = write_lines(tmp_path / "b.jsonl", [record(t) for t in texts[120:]])
    return CorpusConfig(
        paths=(first, second),
        vocab_size=300,
        min_chars=50,
        validation_share=0.1,
        test_share=0.1,
    )


def test_every_document_is_accounted_for(tmp_path, config):
    counts = prepare_corpus(config, tmp_path / "out").counts
    assert counts["read"] == 210
    assert counts["rejected"] == {"not JSON": 1}
    assert counts["cleaned_away"] == {"shorter than min_chars": 4}
    assert (counts["exact_duplicates"], counts["near_duplicates"], counts["unique"]) == (3, 2, 200)
    assert (counts["duplicate_clusters"], counts["largest_cluster"]) == (4, 3)
    assert counts["exact_duplicate_rate"] == 3 / 205
    assert sum(split["documents"] for split in counts["splits"].values()) == 200
    reject = {"file": "a.jsonl", "line": 121, "reason": "not JSON"}
    assert read_json_lines(tmp_path / "out" / "rejects.jsonl") == [reject]


def test_splits_hold_what_the_manifest_says(tmp_path, config):
    manifest = prepare_corpus(config, tmp_path / "out")
    assert read_manifest(tmp_path / "out") == manifest
    tokenizer = Tokenizer.load(tmp_path / "out" / "tokenizer.json")
    seen = []
    for name, sizes in manifest.counts["splits"].items():
        corpus = Corpus.load(tmp_path / "out" / name)
        assert sizes["documents"] == len(corpus) > 0
        assert sizes["tokens"] == corpus.num_tokens
        assert sizes["bytes"] == corpus.num_bytes.sum() == sum(len(t.encode()) for t in corpus.texts)
        assert sum(s["tokens"] for s in sizes["by_source"].values()) == corpus.num_tokens
        assert set(sizes["by_source"]) <= {"a", "b"}
        assert all(tokenizer.decode(corpus.document(i)) == corpus.texts[i] for i in range(len(corpus)))
        seen += corpus.texts
    assert sorted(seen) == sorted(map(text, range(200)))


def test_the_tokenizer_sees_the_pool_alone(tmp_path, config):
    prepare_corpus(config, tmp_path / "out")
    pool = Corpus.load(tmp_path / "out" / "pool")
    tokenizer = Tokenizer.load(tmp_path / "out" / "tokenizer.json")
    assert train_tokenizer(pool.texts, config.vocab_size).fingerprint == tokenizer.fingerprint


def test_the_same_again_and_finished_output_is_kept(tmp_path, config):
    first, second = (prepare_corpus(config, tmp_path / name) for name in ("one", "two"))
    assert first.counts == second.counts
    assert prepare_corpus(config, tmp_path / "one") == first
    for name in ("pool", "validation", "test"):
        one, two = (Corpus.load(tmp_path / d / name).fingerprint for d in ("one", "two"))
        assert one == two


def test_an_interrupted_stage_starts_over(tmp_path, config):
    whole = prepare_corpus(config, tmp_path / "whole")
    prepare_corpus(config, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    assert prepare_corpus(config, tmp_path / "out").counts == whole.counts
    assert len(read_json_lines(tmp_path / "out" / "rejects.jsonl")) == 1


def test_changed_input_is_another_plan(tmp_path, config):
    prepare_corpus(config, tmp_path / "out")
    before = load_corpus_inputs(config)
    write_lines(tmp_path / "b.jsonl", [record(text(i)) for i in range(500, 600)])
    after = load_corpus_inputs(config)
    assert [before[p] == after[p] for p in config.paths] == [True, False]
    with pytest.raises(StoreError, match="another plan"):
        prepare_corpus(config, tmp_path / "out")


def test_limit_documents_holds_for_each_path(tmp_path, config):
    limited = dataclasses.replace(config, limit_documents=50, test_share=0.0)
    manifest = prepare_corpus(limited, tmp_path / "out")
    assert manifest.counts["read"] == 100
    assert manifest.counts["splits"]["test"] == {"documents": 0, "tokens": 0, "bytes": 0, "by_source": {}}
    assert len(Corpus.load(tmp_path / "out" / "test")) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paths": ()}, "paths"),
        ({"vocab_size": 100}, "vocab_size = 100"),
        ({"min_chars": 0}, "min_chars"),
        ({"dedup_threshold": 0.0}, "dedup_threshold"),
        ({"validation_share": 0.5, "test_share": 0.5}, "validation_share"),
        ({"validation_share": -0.1}, "validation_share"),
        ({"max_bad_share": 2.0}, "max_bad_share"),
        ({"max_document_bytes": 0}, "max_document_bytes"),
        ({"limit_documents": 0}, "limit_documents"),
    ],
)
def test_settings_out_of_range_are_named(config, change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(config, **change)


def test_bad_corpora_are_named(tmp_path, config):
    few = write_lines(tmp_path / "few.jsonl", [record(text(0))])
    with pytest.raises(CorpusError, match=r"no document in the .* split: only 1 unique"):
        prepare_corpus(dataclasses.replace(config, paths=(few,)), tmp_path / "x")
    with pytest.raises(CorpusError, match=r"few\.jsonl and .*few\.jsonl: documents of both .* few\.jsonl:1 "):
        prepare_corpus(dataclasses.replace(config, paths=(few, few)), tmp_path / "y")
    assert not (tmp_path / "y").exists()
    with pytest.raises(CorpusError, match="missing: no such file"):
        prepare_corpus(dataclasses.replace(config, paths=(str(tmp_path / "missing"),)), tmp_path / "z")
    with pytest.raises(CorpusError, match="1 of 121 records rejected"):
        prepare_corpus(dataclasses.replace(config, max_bad_share=0.0), tmp_path / "w")


def test_a_disk_that_cannot_be_written(tmp_path, config):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write"):
        prepare_corpus(config, tmp_path / "file" / "out")


@given(st.integers(0, 10**6), st.text(max_size=20))
@settings(max_examples=100, deadline=None)
def test_split_depends_on_content_and_seed_alone(seed, content):
    shares = {"validation": 0.3, "test": 0.3}
    name = split_of(content, shares, seed)
    assert name == split_of(content, shares, seed)
    # A larger share takes documents from the pool alone.
    if name == "validation":
        assert split_of(content, {"validation": 0.4, "test": 0.3}, seed) == "validation"


def test_split_shares_are_met():
    names = [split_of(str(i), {"validation": 0.1, "test": 0.2}, 0) for i in range(20_000)]
    for name, share in {"validation": 0.1, "test": 0.2, "pool": 0.7}.items():
        deviation = (20_000 * share * (1 - share)) ** 0.5
        assert abs(names.count(name) - 20_000 * share) < 4.5 * deviation
    assert names != [split_of(str(i), {"validation": 0.1, "test": 0.2}, 1) for i in range(20_000)]
    with pytest.raises(ConfigError, match="split shares"):
        split_of("x", {"validation": 0.6, "test": 0.4}, 0)


def pool_of(lengths: list[int]) -> Corpus:
    records = [Document(id=str(i), text="", source="s") for i in range(len(lengths))]
    return Corpus.from_tokens(records, [np.full(n, 2) for n in lengths], vocab_size=300)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(0, 9), st.data())
@settings(max_examples=100, deadline=None)
def test_unique_subsets_are_nested_and_close(lengths, seed, data):
    pool = pool_of(lengths)
    small, large = sorted(data.draw(st.lists(st.integers(31, 1300), min_size=2, max_size=2)))
    if large > pool.num_tokens:
        with pytest.raises(CorpusError, match=f"holds {pool.num_tokens:,} tokens, fewer than the {large:,}"):
            choose_unique(pool, large, seed)
        return
    first, second = choose_unique(pool, small, seed), choose_unique(pool, large, seed)
    assert set(first.ids) <= set(second.ids)
    assert second.ids == sorted(second.ids, key=int)
    for chosen, budget in ((first, small), (second, large)):
        assert budget - 31 < chosen.num_tokens <= budget


def test_the_whole_pool_and_less_than_a_document():
    pool = pool_of([5, 6, 7])
    assert choose_unique(pool, pool.num_tokens, 0).fingerprint == pool.fingerprint
    with pytest.raises(CorpusError, match="3 tokens are fewer"):
        choose_unique(pool, 3, 0)
    many = pool_of([3] * 50)
    assert choose_unique(many, 40, 0).ids != choose_unique(many, 40, 1).ids
