"""Embedders that need no outside model: LSA by a second road, and the model's own states."""

import numpy as np
import pytest
import torch

from sbp_bayes.base.errors import ConfigError, PairingError
from sbp_bayes.corpus import Corpus, train_tokenizer
from sbp_bayes.lm import LMConfig, Transformer
from sbp_bayes.pairing import Bm25Embedder, EmbedderConfig, LsaEmbedder, SelfEmbedder, fit_embedder
from sbp_bayes.pairing.embed import batches

TOPICS = (
    "river lake water fish boat shore",
    "proof theorem lemma number algebra field",
    "bread flour yeast oven dough salt",
)
TOKENIZER = train_tokenizer(TOPICS, 300)


def corpus_of_topics(num_documents, seed):
    generator = np.random.default_rng(seed)
    texts = [" ".join(generator.choice(TOPICS[i % 3].split(), 12)) for i in range(num_documents)]
    return Corpus.build(texts, TOKENIZER)


def same_topic(num_documents):
    topics = np.arange(num_documents) % 3
    return topics[:, None] == topics[None]


def test_lsa_puts_topics_together_also_of_documents_it_was_not_fitted_on():
    embedder = LsaEmbedder(3).fit(corpus_of_topics(30, seed=0))
    vectors = embedder.embed(corpus_of_topics(12, seed=1))
    assert vectors.shape == (12, 3)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    cosines = vectors @ vectors.T
    assert cosines[same_topic(12)].min() > 0.9
    assert np.abs(cosines[~same_topic(12)]).max() < 0.1


def test_lsa_puts_topics_together_where_words_have_no_spaces():
    """Topics share characters, and no run of them comes twice."""
    random = np.random.default_rng(0)
    topics = [[chr(0x4E00 + 40 * t + k) for k in range(40)] for t in range(3)]
    texts = ["".join(random.choice(topics[i % 3], 30)) + "。" for i in range(60)]
    corpus = Corpus.build(texts, TOKENIZER)
    vectors = LsaEmbedder(3).fit(corpus).embed(corpus)
    cosines = vectors @ vectors.T
    assert cosines[same_topic(60)].min() > 0.5
    assert np.abs(cosines[~same_topic(60)]).max() < 0.2


def test_lsa_is_the_projection_on_leading_singular_vectors():
    corpus = Corpus.build(
        [
            f"{a} {a} {b} {c}"
            for a in ["pq", "rs", "tu", "vw"]
            for b in ["xx", "yy", "zz"]
            for c in ["kk", "ll"]
        ],
        TOKENIZER,
    )
    vectors = LsaEmbedder(4).fit(corpus).embed(corpus)
    words = sorted({word for text in corpus.texts for word in text.split()})
    counts = np.array([[text.split().count(word) for word in words] for text in corpus.texts], float)
    document_counts = (counts > 0).sum(axis=0)
    kept = document_counts <= len(counts) / 2
    inverse = np.log((1 + len(counts)) / (1 + document_counts)) + 1
    weights = (np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0) * inverse)[:, kept]
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    _, _, right = np.linalg.svd(weights)
    projected = weights @ right[:4].T
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors @ vectors.T, projected @ projected.T, atol=1e-5)


@pytest.mark.parametrize("kind", [LsaEmbedder, Bm25Embedder])
def test_lsa_of_a_document_depends_on_itself_and_the_fit_alone(kind):
    train, other = corpus_of_topics(30, seed=0), corpus_of_topics(9, seed=1)
    embedder = kind(4, seed=3).fit(train)
    again = kind(4, seed=3).fit(train)
    np.testing.assert_array_equal(embedder.embed(other), again.embed(other))
    np.testing.assert_array_equal(embedder.embed(other.select([5])), embedder.embed(other)[[5]])
    assert embedder.fingerprint == again.fingerprint
    assert embedder.fingerprint != kind(4, seed=3).fit(other).fingerprint


def test_lsa_is_fitted_on_evenly_spaced_documents_of_a_large_corpus(monkeypatch):
    corpus = corpus_of_topics(100, seed=0)
    whole = LsaEmbedder(3).fit(corpus)
    monkeypatch.setattr("sbp_bayes.pairing.embed.lsa.FITTED_DOCUMENTS", 30)
    monkeypatch.setattr("sbp_bayes.pairing.embed.batches.WINDOW", 7)
    part = LsaEmbedder(3).fit(corpus)
    spaced = LsaEmbedder(3).fit(corpus.select([i * 100 // 30 for i in range(30)]))
    np.testing.assert_array_equal(part.embed(corpus), spaced.embed(corpus))
    assert not np.array_equal(part.embed(corpus), whole.embed(corpus))
    assert part.fingerprint != spaced.fingerprint


@pytest.mark.parametrize("kind", [LsaEmbedder, Bm25Embedder])
def test_lsa_gives_a_document_without_known_words_no_direction(kind):
    embedder = kind(2).fit(corpus_of_topics(30, seed=0))
    vectors = embedder.embed(Corpus.build(["quite other speech", "water boat"], TOKENIZER))
    assert not vectors[0].any()
    assert np.linalg.norm(vectors[1]) == pytest.approx(1.0)


def test_lsa_keeps_fewer_dimensions_where_there_are_fewer_words():
    corpus = corpus_of_topics(30, seed=0)
    assert LsaEmbedder(256).fit(corpus).embed(corpus).shape[1] < 18


def test_lsa_refuses_what_it_cannot_do():
    for kind in (LsaEmbedder, Bm25Embedder):
        with pytest.raises(PairingError, match=rf"before {kind.__name__}\.fit"):
            kind().embed(corpus_of_topics(3, seed=0))
        with pytest.raises(PairingError, match="LSA of 2 documents: they share too few words"):
            kind().fit(corpus_of_topics(2, seed=0))
    with pytest.raises(PairingError, match="LSA of 2 documents: they share too few words"):
        LsaEmbedder().fit(Corpus.build(["one text", "another thing"], TOKENIZER))
    with pytest.raises(ConfigError, match="dimension = 0"):
        LsaEmbedder(0)


def tiny_model(seed=0):
    shape = {
        "width": 16,
        "num_layers": 2,
        "num_heads": 2,
        "num_kv_heads": 1,
        "head_width": 8,
        "hidden_width": 32,
    }
    return Transformer(LMConfig(vocab_size=TOKENIZER.vocab_size, context_length=16, **shape), seed=seed)


def test_own_states_are_the_mean_of_each_document_alone(monkeypatch):
    model = tiny_model()
    texts = [text[: 5 + 2 * i] for i, text in enumerate(corpus_of_topics(20, seed=0).texts)]
    corpus = Corpus.build(texts, TOKENIZER)
    assert corpus.lengths.min() + 1 < 16 < corpus.lengths.max() + 1
    monkeypatch.setattr(batches, "POSITIONS_TOGETHER", 64)
    vectors = SelfEmbedder(model).fit(corpus).embed(corpus)
    means = []
    for index in range(len(corpus)):
        inputs = np.concatenate([[0], corpus.document(index)])[:16]
        with torch.no_grad():
            means.append(model.hidden(torch.from_numpy(inputs)[None])[0].double().mean(0).numpy())
    centred = np.array(means) - np.mean(means, axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, centred, atol=1e-5)


def test_own_states_use_the_fitted_mean():
    corpus, other = corpus_of_topics(12, seed=0), corpus_of_topics(6, seed=1)
    embedder = SelfEmbedder(tiny_model()).fit(corpus)
    np.testing.assert_allclose(embedder.embed(other.select([2]))[0], embedder.embed(other)[2], atol=1e-5)
    assert embedder.fingerprint != SelfEmbedder(tiny_model(seed=1)).fit(corpus).fingerprint
    positions = np.minimum(other.lengths + 1, 16).sum()
    layers = sum(p.numel() for p in tiny_model().parameters()) - tiny_model().embedding.weight.numel()
    assert embedder.flops(other) == 2 * layers * positions
    assert embedder.fit_flops == embedder.flops(corpus) > 0
    with pytest.raises(PairingError, match=r"before SelfEmbedder\.fit"):
        SelfEmbedder(tiny_model()).embed(corpus)


def test_batches_cover_every_row_once_within_the_bound(monkeypatch):
    monkeypatch.setattr(batches, "POSITIONS_TOGETHER", 50)
    lengths = np.random.default_rng(0).integers(1, 80, 200)
    groups = batches.batches_by_length(lengths)
    np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(200))
    assert all(len(rows) == 1 or len(rows) * lengths[rows].max() <= 50 for rows in groups)


def test_embedder_by_name():
    corpus = corpus_of_topics(12, seed=0)
    assert isinstance(fit_embedder(EmbedderConfig(dimension=4), corpus), LsaEmbedder)
    assert isinstance(fit_embedder(EmbedderConfig(kind="self"), corpus, tiny_model()), SelfEmbedder)
    with pytest.raises(ConfigError, match="needs a model"):
        fit_embedder(EmbedderConfig(kind="self"), corpus)
