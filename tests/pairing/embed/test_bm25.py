"""BM25-weighted latent semantic analysis against its formula, word by word."""

import math

import numpy as np

from sbp_bayes.corpus import Corpus, train_tokenizer
from sbp_bayes.pairing import Bm25Embedder, EmbedderConfig, LsaEmbedder, fit_embedder

WORDS = [f"{a}{b}" for a in "bdfgk" for b in ("an", "el", "or")]


def corpus(num_documents, seed):
    """Documents of 1 to 25 words, the first of which are frequent ones."""
    generator = np.random.default_rng(seed)
    share = 1 / np.arange(1, len(WORDS) + 1)
    texts = [
        " ".join(generator.choice(WORDS, generator.integers(1, 26), p=share / share.sum()))
        for _ in range(num_documents)
    ]
    return Corpus.build(texts, train_tokenizer(WORDS, 300))


def weights_by_loops(train, texts):
    """Unit rows (len(texts), words) by the formula of the paper, k₁ = 1.2 and b = 0.75."""
    documents = [text.split() for text in train]
    having = {word: sum(word in document for document in documents) for word in WORDS}
    known = [word for word in WORDS if 2 <= having[word] <= len(documents) / 2]
    lengths = [sum(word in known for word in document) for document in documents]
    rows = []
    for text in texts:
        document = text.split()
        length = sum(word in known for word in document)
        row = []
        for word in known:
            rarity = math.log(1 + (len(documents) - having[word] + 0.5) / (having[word] + 0.5))
            count = document.count(word)
            discount = 1.2 * (1 - 0.75 + 0.75 * length / np.mean(lengths))
            row.append(rarity * count * 2.2 / (count + discount))
        rows.append(np.array(row) / max(np.linalg.norm(row), 1e-12))
    return np.array(rows)


def test_bm25_is_the_projection_of_its_weights_on_stretched_singular_vectors():
    train, other = corpus(40, seed=0), corpus(9, seed=1)
    embedder = Bm25Embedder(5).fit(train)
    _, values, right = np.linalg.svd(weights_by_loops(train.texts, train.texts))
    for part in (train, other):
        projected = weights_by_loops(train.texts, part.texts) @ right[:5].T * np.sqrt(values[:5])
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        projected = np.divide(projected, norms, where=norms > 0, out=projected)
        vectors = embedder.embed(part)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors @ vectors.T, projected @ projected.T, atol=1e-5)


def test_bm25_is_an_embedder_by_name_and_another_one_than_lsa():
    train = corpus(40, seed=0)
    embedder, lsa = (fit_embedder(EmbedderConfig(kind=kind, dimension=5), train) for kind in ("bm25", "lsa"))
    assert (type(embedder), type(lsa)) == (Bm25Embedder, LsaEmbedder)
    assert embedder.fingerprint != lsa.fingerprint
    assert np.abs(embedder.embed(train) - lsa.embed(train)).max() > 0.01
    assert embedder.fit_flops == lsa.fit_flops > 0
