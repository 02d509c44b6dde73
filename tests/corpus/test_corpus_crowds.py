"""Documents of one template: similar ones are all found, and the others are seldom compared."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.corpus import Corpus, CorpusConfig, crowds, dedup, deduplicate, merge, prepare_corpus, sketches
from sbp_bayes.corpus.crowds import Common, Rarest, RarestIndex
from sbp_bayes.corpus.sketches import sketch

RANDOM = np.random.default_rng(0)
TEMPLATE = [f"t{i}" for i in range(200)]


def own_words(count, random, prefix="w"):
    return [f"{prefix}{k}" for k in random.integers(10**9, size=count)]


def at_the_end(num_own):
    return lambda random: " ".join([*TEMPLATE, *own_words(num_own, random)])


def of_any_length(random):
    return at_the_end(random.integers(30, 150))(random)


def in_slots(num_slots, num_choices):
    def text(random):
        words = list(TEMPLATE)
        for slot in range(num_slots):
            words[slot * len(TEMPLATE) // num_slots] = f"s{slot}x{random.integers(num_choices)}"
        return " ".join(words)

    return text


KINDS = {
    "Jaccard 0.6": at_the_end(66),
    "Jaccard 0.7": at_the_end(43),
    "Jaccard 0.78": at_the_end(28),
    "of any length": of_any_length,
    "slots of any words": in_slots(15, 10**9),
    "slots of ten words": in_slots(20, 10),
}


def similarity(a, b):
    first, second = ({tuple(w[i : i + 5]) for i in range(len(w) - 4)} for w in (a.split(), b.split()))
    return len(first & second) / len(first | second)


def brute_force(texts, threshold):
    kept = []
    for i, text in enumerate(texts):
        if not any(similarity(text, texts[j]) >= threshold for j in kept):
            kept.append(i)
    return kept


def with_edits(kind, count, seed=0):
    """Texts of one kind, of which every third is edited from an earlier one by 0 to 9 words."""
    random = np.random.default_rng(seed)
    texts = []
    for i in range(count):
        if i % 3 == 2:
            words = texts[random.integers(len(texts))].split()
            for place in random.integers(len(words), size=random.integers(10)):
                words[place] = f"e{random.integers(10**9)}"
            texts.append(" ".join(words))
        else:
            texts.append(KINDS[kind](random))
    return texts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampled", [10, 1 << 13])
def test_no_similar_pair_is_missed_and_nothing_else_is_removed(monkeypatch, kind, sampled):
    monkeypatch.setattr(crowds, "SAMPLED_DOCUMENTS", sampled)
    texts = with_edits(kind, 90)
    assert deduplicate(texts)[0] == brute_force(texts, 0.8)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.95, 1.0])
def test_any_threshold(threshold):
    texts = with_edits("of any length", 90, seed=1)
    assert deduplicate(texts, threshold=threshold)[0] == brute_force(texts, threshold)


@pytest.mark.parametrize("kind", KINDS)
def test_sets_are_compared_seldom(monkeypatch, kind):
    """Of the 319,600 pairs most share a band."""
    random, compared = np.random.default_rng(2), []
    texts = [KINDS[kind](random) for _ in range(800)]
    jaccard = dedup.jaccard
    monkeypatch.setattr(dedup, "jaccard", lambda own, others: compared.extend(others) or jaccard(own, others))
    deduplicate(texts)
    assert len(compared) < 0.02 * 319_600


@given(
    st.lists(st.sets(st.integers(0, 40), min_size=1, max_size=30), min_size=2, max_size=12),
    st.sampled_from([0.3, 0.5, 0.75, 0.8, 1.0]),
)
@settings(max_examples=200, deadline=None)
def test_every_similar_set_is_a_candidate(sets, threshold):
    distinct = [np.sort(np.array([s * 0x9E3779B97F4A7C15 % 2**64 for s in one], np.uint64)) for one in sets]
    index = RarestIndex(Rarest.of(distinct, Common.of(distinct[::2]), threshold), threshold)
    for i, one in enumerate(sets):
        alike = [j for j, other in enumerate(sets[:i]) if len(one & other) >= threshold * len(one | other)]
        assert set(alike) <= set(index.candidates(i).tolist())
        index.add(i)


def test_a_shingle_of_one_document_alone_is_not_kept():
    distinct = [np.arange(i * 50, i * 50 + 60, dtype=np.uint64) for i in range(4)]
    index = RarestIndex(Rarest.of(distinct, Common.of(distinct), 0.5), 0.5)
    for i in range(4):
        index.add(i)
    assert not index._lists  # each document's own 40 or 50 come before the 10 of two


def test_parts_join_to_the_whole():
    distinct = [np.unique(RANDOM.integers(1 << 60, size=n).astype(np.uint64)) for n in (3, 40, 1, 200)]
    common = Common.of(distinct)
    parts = [Rarest.of(distinct[a:b], common, 0.8) for a, b in ((0, 2), (2, 2), (2, 4))]
    whole, joined = Rarest.of(distinct, common, 0.8), Rarest.join(parts)
    for field in dataclasses.fields(Rarest):
        assert np.array_equal(getattr(whole, field.name), getattr(joined, field.name))


@given(st.sets(st.integers(0, 10_000)), st.sets(st.integers(0, 10_000)))
@settings(deadline=None)
def test_sketches_differ_in_no_more_bits_than_sets_in_members(one, other):
    first, second = (sketch(np.array(sorted(s), np.uint64)) for s in (one, other))
    different = int(np.bitwise_count(first ^ second).sum())
    assert different <= len(one ^ other)
    assert different % 2 == len(one ^ other) % 2


def test_blocks_of_comparisons_do_not_show(monkeypatch):
    texts = with_edits("of any length", 90, seed=3)
    whole = deduplicate(texts)
    monkeypatch.setattr(dedup, "COMPARED_AT_ONCE", 1)
    monkeypatch.setattr(sketches, "SKETCHES_TOGETHER", 2)
    assert deduplicate(texts) == whole


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Three shards of one template, cut to parts of 40 documents."""
    monkeypatch.setattr(merge, "COMPARED_TOGETHER", 40)
    texts = with_edits("Jaccard 0.7", 180, seed=5)
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(3):
        lines = [json.dumps({"text": text}) for text in texts[60 * k : 60 * (k + 1)]]
        (folder / f"{k}.jsonl").write_text("\n".join(lines))
    shares = {"validation_share": 0.0, "test_share": 0.0}
    return texts, CorpusConfig(paths=(str(folder),), vocab_size=300, min_chars=1, **shares)


def test_the_stage_keeps_what_deduplicate_keeps(config, tmp_path):
    texts, config = config
    kept = [texts[i] for i in deduplicate(texts)[0]]
    for workers in (1, 2):
        manifest = prepare_corpus(config, tmp_path / str(workers), num_workers=workers)
        assert sorted(Corpus.load(manifest.directory / "pool").texts) == sorted(kept)
    assert 20 < len(kept) < 175


@pytest.mark.parametrize("phase", ["choose_rarest", "save_array"])
def test_a_stopped_search_goes_on_with_the_next_part(config, tmp_path, monkeypatch, phase):
    _, config = config
    whole = prepare_corpus(config, tmp_path / "whole", num_workers=1)
    work, calls = getattr(merge, phase), []

    def stop_at_the_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return work(*arguments)

    monkeypatch.setattr(merge, phase, stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(config, tmp_path / "out", num_workers=1)
    scratch = tmp_path / "out" / "shards"
    assert len([*scratch.glob("*.rarest.npz" if phase == "choose_rarest" else "near.*.npy")]) == 2
    monkeypatch.setattr(merge, phase, work)
    searched, chosen = [], []
    rarest_of = crowds.Rarest.of
    monkeypatch.setattr(crowds.Rarest, "of", lambda *a: chosen.append(a) or rarest_of(*a))
    first_similar = dedup.NearDuplicates._first_similar
    monkeypatch.setattr(
        dedup.NearDuplicates, "_first_similar", lambda *a: searched.append(a) or first_similar(*a)
    )
    again = prepare_corpus(config, tmp_path / "out", num_workers=1)
    assert again.counts == whole.counts
    assert len(searched) < (181 if phase == "choose_rarest" else 101)
    assert len(chosen) == (1 if phase == "choose_rarest" else 0)
    duplicates = [(m.directory / "duplicates.parquet").read_bytes() for m in (whole, again)]
    assert duplicates[0] == duplicates[1]
