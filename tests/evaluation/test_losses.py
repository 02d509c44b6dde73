"""Scores of documents: against a token-by-token evaluation, and back from the disk."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from sbp_bayes.base.errors import CheckpointError, ConfigError, CorpusError, StoreError
from sbp_bayes.corpus import Corpus, Document
from sbp_bayes.evaluation import SCORES, DocumentScores, evaluate, score_corpus
from sbp_bayes.lm import LMConfig, Transformer, save_model

MODEL = LMConfig(
    vocab_size=20,
    context_length=8,
    width=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_width=8,
    hidden_width=16,
)


@pytest.fixture
def model() -> Transformer:
    return Transformer(MODEL, seed=0)


@pytest.fixture
def corpus() -> Corpus:
    """Lengths below, at and above the context, and one document that was cut."""
    generator = np.random.default_rng(0)
    lengths = [1, 7, 8, 20, 3, 5]
    documents = [Document(id=str(i), text="é" * n, source="") for i, n in enumerate(lengths)]
    tokens = [generator.integers(2, 20, n) for n in lengths]
    return Corpus.from_tokens(documents, tokens, vocab_size=20, complete=[True] * 5 + [False])


def loss_by_hand(model: Transformer, tokens: np.ndarray, complete: bool) -> tuple[float, int]:
    positions = [0, *tokens, *([0] if complete else [])]
    total = 0.0
    for place in range(1, len(positions)):
        start = (place - 1) // MODEL.context_length * MODEL.context_length
        with torch.no_grad():
            logits = model(torch.tensor([positions[start:place]]))[0, -1].double()
        total -= logits.log_softmax(0)[positions[place]].item()
    return total, len(positions) - 1


def test_every_token_is_scored_once_given_its_window(model: Transformer, corpus: Corpus) -> None:
    scores = score_corpus([model], corpus)
    by_hand = [loss_by_hand(model, corpus.document(i), bool(corpus.complete[i])) for i in range(len(corpus))]
    np.testing.assert_allclose(scores.loss_nats, [loss for loss, _ in by_hand], rtol=1e-5)
    assert scores.num_tokens.tolist() == [count for _, count in by_hand]
    assert scores.num_bytes.tolist() == [2, 14, 16, 40, 6, 10]
    total = sum(loss for loss, _ in by_hand)
    assert scores.nats_per_token == pytest.approx(total / (44 + 5), rel=1e-5)
    assert scores.bits_per_byte == pytest.approx(total / np.log(2) / 88, rel=1e-5)


def test_the_stage_keeps_the_scores(model: Transformer, corpus: Corpus, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    manifest = evaluate(tmp_path / "model", corpus, tmp_path / "out")
    read, scores = DocumentScores.load(tmp_path / "out" / SCORES), score_corpus([model], corpus)
    assert np.array_equal(read.loss_nats, scores.loss_nats)
    assert np.array_equal(read.num_tokens, scores.num_tokens)
    assert np.array_equal(read.num_bytes, scores.num_bytes)
    assert read.corpus_fingerprint == corpus.fingerprint
    assert manifest.counts["loss_nats_per_token"] == scores.nats_per_token
    assert manifest.counts["bits_per_byte"] == scores.bits_per_byte
    assert manifest.counts["tokens"] == 49
    assert manifest.flops == 2 * MODEL.num_parameters * corpus.num_tokens
    with pytest.raises(StoreError, match=r"differs in inputs\.corpus"):
        evaluate(tmp_path / "model", corpus.select([0]), tmp_path / "out")
    with pytest.raises(CheckpointError, match="none"):
        evaluate(tmp_path / "none", corpus, tmp_path / "out2")


@pytest.mark.parametrize("content", [None, b"", b"nothing", "half"])
def test_damaged_scores_are_named(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "scores.npz"
    if content is not None:
        numbers = np.arange(50)
        DocumentScores(
            loss_nats=numbers + 0.5, num_tokens=numbers, num_bytes=numbers, corpus_fingerprint="c"
        ).save(path)
        path.write_bytes(path.read_bytes()[:400] if content == "half" else content)
    with pytest.raises(StoreError, match=r"scores\.npz"):
        DocumentScores.load(path)


def test_tokens_that_the_model_does_not_know_are_named(
    tmp_path: Path, model: Transformer, corpus: Corpus
) -> None:
    save_model(model, tmp_path / "model")
    foreign = dataclasses.replace(corpus, tokens=corpus.tokens + 5)
    with pytest.raises(ConfigError, match="the corpus has token 24, but vocab_size = 20"):
        evaluate(tmp_path / "model", foreign, tmp_path / "scores")


def test_nothing_to_score_is_said(tmp_path: Path, model: Transformer, corpus: Corpus) -> None:
    save_model(model, tmp_path / "model")
    with pytest.raises(CorpusError, match="the corpus to score holds no documents"):
        evaluate(tmp_path / "model", corpus.select([]), tmp_path / "scores")
    assert not (tmp_path / "scores").exists()
