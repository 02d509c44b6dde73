"""The rules that make pairs, against loops over all documents; the record; the stage."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError, NoPairsError, PairingError, StoreError
from sbp_bayes.corpus import Corpus, Document, train_tokenizer
from sbp_bayes.lm import LMConfig, Transformer
from sbp_bayes.pairing import (
    EmbedderConfig,
    LsaEmbedder,
    PairConfig,
    PairRules,
    PairSet,
    build_pairs,
    containment,
    label_agreement,
    pair_documents,
)

TOPICS = (
    "river lake water fish boat shore",
    "proof theorem lemma number algebra field",
    "bread flour yeast oven dough salt",
)
LSA = EmbedderConfig(dimension=3)
TOKENIZER = train_tokenizer(TOPICS, 300)


class Given:
    """An embedder whose vectors are given."""

    fingerprint = "given"

    def __init__(self, vectors):
        self.vectors = np.asarray(vectors, np.float32)

    def embed(self, corpus):
        return self.vectors[: len(corpus)]

    def flops(self, corpus):
        return 0.0


def corpus_of_topics(num_documents, seed=0, labelled=True):
    generator = np.random.default_rng(seed)
    documents = [
        Document(
            id=f"d{seed}:{i}",
            text=" ".join(generator.choice(TOPICS[i % 3].split(), 20)),
            source="test",
            label=TOPICS[i % 3][:5] if labelled else None,
        )
        for i in range(num_documents)
    ]
    return Corpus.build(documents, TOKENIZER)


def pairs_by_loops(corpus, vectors, alpha, k, near_duplicate_containment, limit):
    """All the rules, one document and one neighbour at a time."""
    cosines = vectors @ vectors.T
    related = set()
    for i in range(len(vectors)):
        others = sorted((j for j in range(len(vectors)) if j != i), key=lambda j: -cosines[i, j])[:k]
        related |= {frozenset((i, j)) for j in others if cosines[i, j] > alpha}
    shared = {
        pair: containment(corpus.texts, np.array([min(pair)]), np.array([max(pair)]))[0] for pair in related
    }
    kept = {pair for pair in related if shared[pair] < near_duplicate_containment}
    ordered = []
    for i in range(len(vectors)):
        seconds = [j for j in range(len(vectors)) if frozenset((i, j)) in kept]
        ordered += [(i, j) for j in sorted(seconds, key=lambda j: -cosines[i, j])[:limit]]
    return ordered, len(related) - len(kept)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    k=st.integers(1, 20),
    alpha=st.floats(-0.9, 0.6),
    share=st.sampled_from([0.1, 0.5, 1.0]),
    limit=st.sampled_from([1, 3, None]),
)
def test_pairs_are_those_of_loops(seed, k, alpha, share, limit):
    generator = np.random.default_rng(seed)
    corpus = corpus_of_topics(15, seed)
    texts = list(corpus.texts)
    texts[3] = texts[0]
    texts[7] = texts[1] + " " + texts[2]
    corpus = dataclasses.replace(corpus, texts=texts)
    vectors = generator.normal(size=(15, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    wanted, num_duplicates = pairs_by_loops(corpus, vectors, alpha, k, share, limit)
    rules = {"alpha": alpha, "k": k, "near_duplicate_containment": share, "max_pairs_per_document": limit}
    if not wanted:
        with pytest.raises(PairingError, match="alpha"):
            pair_documents(corpus, embedder=Given(vectors), **rules)
        return
    pairs = pair_documents(corpus, embedder=Given(vectors), **rules)
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == wanted
    np.testing.assert_allclose(
        pairs.similarity, np.einsum("nd,nd->n", vectors[pairs.first], vectors[pairs.second]), atol=1e-6
    )
    counts = pairs.counts
    duplicates = counts["exact_copies"] + counts["near_duplicates_by_containment"]
    assert duplicates == num_duplicates
    assert counts["pairs"] == len(pairs) == counts["ordered_pairs"] - counts["over_limit"]
    above = counts["neighbours"] - counts["neighbours_below_alpha"] - counts["neighbours_mutual"]
    assert counts["ordered_pairs"] == 2 * (above - duplicates)
    assert counts["documents_with_pair"] == len({first for first, _ in wanted})


def test_documents_with_a_vector_that_is_not_finite_are_named_and_left_out(caplog):
    corpus = corpus_of_topics(8)
    vectors = np.random.default_rng(0).normal(size=(8, 4)) + 5
    vectors[3, 1], vectors[6, 0] = np.nan, np.inf
    pairs = pair_documents(corpus, embedder=Given(vectors), alpha=0.0, k=7)
    assert set(pairs.first.tolist()) == {0, 1, 2, 4, 5, 7}
    assert pairs.counts["documents_with_bad_vector"] == 2
    assert f"2 vectors are not finite and left out: {corpus.ids[3]}, {corpus.ids[6]}" in caplog.text


def test_documents_without_a_vector_are_in_no_pair(caplog):
    corpus = corpus_of_topics(8)
    vectors = np.random.default_rng(0).normal(size=(8, 4)) + 5
    vectors[[2, 5]] = 0
    pairs = pair_documents(corpus, embedder=Given(vectors), alpha=0.0, k=7)
    assert set(pairs.first.tolist()) == set(pairs.second.tolist()) == {0, 1, 3, 4, 6, 7}
    assert pairs.counts["documents_without_vector"] == 2
    assert pairs.counts["documents_with_bad_vector"] == 0
    assert f"2 vectors are zero and left out: {corpus.ids[2]}, {corpus.ids[5]}" in caplog.text
    vectors[1:] = 0
    with pytest.raises(PairingError, match="1 of 8 documents have a vector"):
        pair_documents(corpus, embedder=Given(vectors), alpha=0.0, k=3)


def test_no_pair_above_alpha_names_the_highest_similarity():
    with pytest.raises(PairingError, match=r"alpha = 0.9: the highest similarity is 0.600"):
        pair_documents(corpus_of_topics(2), embedder=Given([[1, 0], [0.6, 0.8]]), alpha=0.9, k=1)


def test_only_near_duplicates_above_alpha():
    corpus = corpus_of_topics(3)
    corpus = dataclasses.replace(corpus, texts=[corpus.texts[0]] * 3)
    with pytest.raises(
        PairingError, match=r"all 3 pairs more similar than alpha = 0.5, up to 1.000, are copies"
    ):
        pair_documents(corpus, embedder=Given(np.ones((3, 2))), alpha=0.5, k=2)


def test_pairs_do_not_depend_on_the_seed_of_samples_and_samples_are_similarities():
    corpus = corpus_of_topics(60)
    embedder = LsaEmbedder(4).fit(corpus)
    first, second = (pair_documents(corpus, embedder=embedder, alpha=0.5, k=5, seed=s) for s in (0, 1))
    assert first.fingerprint == second.fingerprint
    assert not np.array_equal(first.random_similarities, second.random_similarities)
    assert len(first.neighbour_similarities) == 60 * 5
    assert first.random_similarities.max() <= 1 + 1e-6
    # A third of random documents share a topic (similarity near 1), the others share no word.
    share = (first.random_similarities > 0.5).mean()
    assert abs(share - 19 / 59) < 4 * (19 / 59 * 40 / 59 / 10_000) ** 0.5


def test_label_agreement_counts_pairs_and_random_pairs():
    corpus = corpus_of_topics(30)
    pairs = pair_documents(corpus, embedder=LsaEmbedder(3).fit(corpus), alpha=0.5, k=4)
    agreement = label_agreement(pairs, corpus)
    assert agreement == pytest.approx((1.0, 9 / 29))
    mixed = dataclasses.replace(corpus, labels=["x", "y"] + [None] * 28)
    found = label_agreement(dataclasses.replace(pairs, first=np.array([0]), second=np.array([1])), mixed)
    assert found == (0.0, 0.0)
    assert label_agreement(pairs, corpus_of_topics(30, labelled=False)) is None


@pytest.fixture
def saved(tmp_path):
    corpus = corpus_of_topics(30)
    pairs = pair_documents(corpus, embedder=LsaEmbedder(3).fit(corpus), alpha=0.5, k=4)
    pairs.save(tmp_path)
    return pairs, tmp_path


def test_saved_pairs_come_back(saved):
    pairs, directory = saved
    again = PairSet.load(directory)
    for field in dataclasses.fields(PairSet):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(pairs, field.name))
    assert (again.first.dtype, again.similarity.dtype) == (np.int64, np.float32)
    assert again.fingerprint == pairs.fingerprint


@pytest.mark.parametrize("name", ["pairs.parquet", "similarities.npz", "meta.json"])
def test_damaged_or_missing_files_are_named(saved, name):
    _, directory = saved
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match=name):
        PairSet.load(directory)
    (directory / name).unlink()
    with pytest.raises(StoreError, match=f"{name}: no such file"):
        PairSet.load(directory)


def test_files_that_do_not_belong_together_are_refused(saved, tmp_path):
    pairs, directory = saved
    dataclasses.replace(pairs, similarity=pairs.similarity / 2).save(tmp_path / "other")
    (tmp_path / "other" / "pairs.parquet").replace(directory / "pairs.parquet")
    with pytest.raises(StoreError, match="its content has changed"):
        PairSet.load(directory)


def test_stage_pairs_both_splits_with_the_embedder_of_the_training_documents(tmp_path):
    train, held_out = corpus_of_topics(40), corpus_of_topics(6, seed=1)
    config = PairConfig(embedder=LSA, rules=PairRules(alpha=0.6), k=20, max_pairs_per_document=3)
    manifest = build_pairs(config, train, tmp_path, validation=held_out)
    embedder = LsaEmbedder(3).fit(train)
    for name, corpus in (("train", train), ("validation", held_out)):
        pairs = PairSet.load(tmp_path / name)
        wanted = pair_documents(corpus, embedder=embedder, alpha=0.6, k=20, max_pairs_per_document=3)
        assert pairs.fingerprint == wanted.fingerprint
        assert manifest.counts[name]["pairs"] == len(pairs)
        assert manifest.counts[name]["search"] == pairs.search
        assert pairs.search["backend"] == "exact"
        assert manifest.counts[name]["label_agreement"] == 1.0
    embedding = 2 * 3 * (train.num_tokens + held_out.num_tokens)
    searching = 2 * 3 * (40 * 40 + 40 * 40 + 6 * 6 + 6 * 6)  # all rows, and as many candidates again
    assert manifest.flops == embedder.fit_flops + embedding + searching
    assert embedder.fit_flops > 0
    assert build_pairs(config, train, tmp_path, validation=held_out) == manifest
    with pytest.raises(StoreError, match="alpha"):
        build_pairs(
            dataclasses.replace(config, rules=PairRules(alpha=0.7)), train, tmp_path, validation=held_out
        )


def test_stage_says_which_split_fails_and_names_the_model_only_where_it_matters(tmp_path):
    train = corpus_of_topics(40)
    fine = PairConfig(embedder=EmbedderConfig(dimension=30), rules=PairRules(alpha=0.999))
    with pytest.raises(NoPairsError, match=r"train documents: no two .* alpha = 0.999: .* is 0\.\d\d\d"):
        build_pairs(fine, train, tmp_path / "one")
    shape = {"num_layers": 1, "num_heads": 1, "num_kv_heads": 1, "head_width": 8, "hidden_width": 8}
    model = Transformer(LMConfig(vocab_size=300, context_length=16, width=8, **shape))
    manifest = build_pairs(PairConfig(embedder=LSA), train, tmp_path / "two", model=model)
    assert manifest == build_pairs(PairConfig(embedder=LSA), train, tmp_path / "two")
    own = PairConfig(embedder=EmbedderConfig(kind="self"), rules=PairRules(alpha=0.0))
    manifest = build_pairs(own, train, tmp_path / "three", model=model)
    assert "model" in manifest.inputs


@pytest.mark.parametrize(
    ("number", "alpha", "why"),
    [
        (0, 0.6, "there are no documents"),
        (1, 0.6, "1 of 1 documents have a vector"),
        (2, 0.6, "no two documents are more similar than alpha = 0.6: the highest similarity is "),
        (4, 0.6, "all 1 pairs more similar than alpha = 0.6, up to 1.000, are copies"),
    ],
)
def test_validation_documents_need_no_pair(tmp_path, caplog, number, alpha, why):
    """Training pairs are kept, the reason is said and counted, and the empty set is a set like another."""
    train, held_out = corpus_of_topics(40), corpus_of_topics(number, seed=1)
    if number == 4:  # two of one topic and of one text, two of other topics
        held_out = dataclasses.replace(held_out, texts=[held_out.texts[i] for i in (0, 1, 2, 0)])
    config = PairConfig(embedder=LSA, rules=PairRules(alpha=alpha))
    manifest = build_pairs(config, train, tmp_path, validation=held_out)
    counts = manifest.counts["validation"]
    assert counts["pairs"] == 0
    assert counts["why_none"].startswith(why)
    assert f"validation documents: {why}" in caplog.text
    pairs = PairSet.load(tmp_path / "validation")
    assert (len(pairs), pairs.corpus_fingerprint) == (0, held_out.fingerprint)
    assert len(PairSet.load(tmp_path / "train")) == manifest.counts["train"]["pairs"] > 0


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (PairConfig, "k", 0),
        (PairConfig, "max_pairs_per_document", 0),
        (EmbedderConfig, "dimension", 0),
        (PairRules, "alpha", 1.0),
    ],
)
def test_settings_out_of_range_are_named(kind, key, value):
    with pytest.raises(ConfigError, match=key):
        kind(**{key: value})


@pytest.mark.parametrize("key", ["near_duplicate_containment", "near_duplicate_jaccard"])
@pytest.mark.parametrize("share", [0.0, 1.1])
def test_thresholds_out_of_range_are_named(key, share):
    with pytest.raises(ConfigError, match=key):
        PairRules(**{key: share})


def test_a_limit_out_of_range_is_named_before_any_work():
    with pytest.raises(ConfigError, match="max_pairs_per_document = 0 is out of range"):
        pair_documents(corpus_of_topics(4), embedder=None, alpha=0.5, k=1, max_pairs_per_document=0)
