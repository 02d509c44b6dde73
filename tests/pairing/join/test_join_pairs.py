"""Pairs grouped by salted keys against a plain sort, and the stage that joins."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import PairingError, StoreError
from sbp_bayes.corpus import Corpus, Document, train_tokenizer
from sbp_bayes.pairing import (
    EmbedderConfig,
    LocalEngine,
    PairConfig,
    PairRules,
    PairSet,
    build_pairs,
    find_neighbours,
    pairs,
)
from sbp_bayes.pairing.join.salted import best_by_document
from sbp_bayes.pairing.records import Edges
from sbp_bayes.pairing.rules.pair_rules import ordered_pairs

EVERYBODY = {
    "embedder": EmbedderConfig(dimension=4),
    "rules": PairRules(alpha=0.0, near_duplicate_containment=1.0),
}
WORDS = [f"{start}{end}" for start in ("ba", "ke", "lo", "mi", "nu", "ra") for end in ("del", "fin", "gor")]
TOKENIZER = train_tokenizer(WORDS, 300)


def corpus(num_documents, seed=0):
    generator = np.random.default_rng(seed)
    documents = [
        Document(id=f"d{seed}:{i}", text=" ".join(generator.choice(WORDS, 7)), source="test")
        for i in range(num_documents)
    ]
    return Corpus.build(documents, TOKENIZER)


def by_sorting(edges, limit):
    """All pairs sorted at once, then counted off."""
    rows = sorted(zip(edges.first.tolist(), (-edges.similarity).tolist(), edges.second.tolist(), strict=True))
    kept, seen = [], {}
    for first, negative, second in rows:
        seen[first] = seen.get(first, 0) + 1
        if limit is None or seen[first] <= limit:
            kept.append((first, second, np.float32(-negative)))
    return kept


def grouped(edges, limit, num_reducers, seed=0):
    with LocalEngine().start() as session:
        return best_by_document(edges, limit, session=session, num_reducers=num_reducers, seed=seed)


def edges_of(pairs_of, generator):
    first, second = np.array(sorted(pairs_of)).T
    order = generator.permutation(len(first))
    similarity = generator.integers(-4, 5, size=len(first)).astype(np.float32) / 4  # many ties
    return Edges(first=first[order], second=second[order], similarity=similarity[order])


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 9999),
    num_documents=st.integers(2, 80),
    limit=st.sampled_from([1, 3, 20, None]),
    num_reducers=st.integers(1, 9),
)
def test_salts_and_reducers_do_not_show(seed, num_documents, limit, num_reducers):
    """Document 0 is paired with everyone; the rest at random."""
    generator = np.random.default_rng(seed)
    pairs_of = {(0, other) for other in range(1, num_documents)} | {
        tuple(pair) for pair in generator.integers(num_documents, size=(num_documents, 2)).tolist()
    }
    edges = edges_of(pairs_of, generator)
    for salt_seed in (0, 1):
        found, balance = grouped(edges, limit, num_reducers, salt_seed)
        kept = zip(found.first.tolist(), found.second.tolist(), found.similarity, strict=True)
        assert list(kept) == by_sorting(edges, limit)
        assert balance.largest_share >= 1 / num_reducers - 1e-9


def neighbours_with_hubs(num_rows, num_hubs, k, seed=0):
    """Neighbours of vectors around one direction: cosine 0.7 to the hubs, which lie in it, 0.5 to others."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(num_rows, 256))
    rows[:, 0] += 16
    rows[:num_hubs] = 0.01 * generator.normal(size=(num_hubs, 256))
    rows[:num_hubs, 0] = 1
    return find_neighbours(rows, k, "exact")[0]


def test_hubs_overload_a_reducer_unless_their_keys_are_salted():
    ids, similarities = neighbours_with_hubs(4000, 3, 8)
    in_degree = np.bincount(ids.reshape(-1))
    assert (in_degree[:3] > 3900).all()
    assert np.sort(in_degree)[-4] < 1000
    texts = [str(row) for row in range(4000)]
    edges, _ = ordered_pairs(ids, similarities, texts, np.arange(4000), PairRules(alpha=-1.0))
    found, balance = grouped(edges, 8, 16)
    assert [len(np.unique(found.first)), balance.reducers] == [4000, 16]
    plain, alone = grouped(edges, 8, 1)
    for name in ("first", "second", "similarity"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))
    assert (alone.largest_share, alone.largest_share_unsalted) == (1.0, 1.0)
    # Of about 2 · 8 · 4,000 pairs a hub has 4,000: one reducer has 1/16 without hubs, and a hub besides.
    assert balance.largest_share_unsalted > 0.10
    assert balance.largest_share < 1.25 / 16


def test_stage_gives_the_same_pairs_for_any_shards_and_leaves_no_scratch(tmp_path):
    train, held_out = corpus(60), corpus(7, seed=1)
    config = PairConfig(**EVERYBODY, k=6)
    manifest = build_pairs(config, train, tmp_path / "one", validation=held_out)
    sharded = dataclasses.replace(config, num_shards=9)
    other = build_pairs(sharded, train, tmp_path / "nine", validation=held_out)
    assert other.fingerprint == manifest.fingerprint
    for name, shards in (("train", 9), ("validation", 7)):
        one, nine = (PairSet.load(tmp_path / folder / name) for folder in ("one", "nine"))
        assert one.fingerprint == nine.fingerprint
        assert (one.search["shards"], nine.search["shards"]) == (1, shards)
        assert (one.search["reducers"], nine.search["reducers"]) == (1, shards)
        assert 1 / shards <= nine.search["largest_share"] < 1
    assert not (tmp_path / "nine" / "join").exists()
    assert build_pairs(sharded, train, tmp_path / "one", validation=held_out) == manifest


def test_shards_are_of_the_plan_where_they_can_matter(tmp_path):
    train = corpus(60)
    config = PairConfig(**EVERYBODY, backend="hnsw")
    build_pairs(config, train, tmp_path)
    with pytest.raises(StoreError, match=r"differs in config\.num_shards"):
        build_pairs(dataclasses.replace(config, num_shards=2), train, tmp_path)
    with pytest.raises(PairingError, match="train documents: 61 shards of 60 documents"):
        build_pairs(dataclasses.replace(config, num_shards=61, backend="exact"), train, tmp_path / "many")


def test_a_killed_stage_goes_on_from_its_parts(tmp_path, monkeypatch):
    """The first attempt joins and then fails; the second asks no shard."""
    train, config = (
        corpus(60),
        PairConfig(**EVERYBODY),
    )
    with monkeypatch.context() as patch:
        patch.setattr(pairs, "ordered_pairs", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_pairs(config, train, tmp_path)
    assert (tmp_path / "join" / "train" / "000000.part").exists()
    monkeypatch.setattr("sbp_bayes.pairing.join.shard.Shard.answer", lambda *_: 1 / 0)
    build_pairs(config, train, tmp_path)
    assert not (tmp_path / "join").exists()
    monkeypatch.undo()
    build_pairs(config, train, tmp_path / "again")
    first, second = (PairSet.load(folder / "train") for folder in (tmp_path, tmp_path / "again"))
    assert first.fingerprint == second.fingerprint
