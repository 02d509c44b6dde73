"""Tuning: it learns what d1 says of d2, keeps the best weights, resumes to the bit, refuses strangers."""

import dataclasses
import functools

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import models

from sbp_bayes.base.errors import ConfigError, CorpusError, StoreError
from sbp_bayes.corpus import Corpus, Document, Tokenizer
from sbp_bayes.corpus.tokenizer import SPECIAL_TOKENS
from sbp_bayes.lm import LMConfig, Transformer, load_model, resolved_matmul_dtype, save_model
from sbp_bayes.synthesizer import IndexPairs, NeuralSynthesizer, PackedPairs, PairRows, TuneConfig, pair_loss
from sbp_bayes.synthesizer import tune as tune_with
from sbp_bayes.synthesizer.tuning import held_out_pairs, hold_out
from sbp_bayes.training import OptimiserConfig

VOCAB_SIZE = 24
CONFIG = TuneConfig(
    max_document_tokens=8,
    num_epochs=3.0,
    rows_per_batch=16,
    optimiser=OptimiserConfig(peak_lr=2e-2),
    num_validations=4,
    max_validation_pairs=60,
)


def word_tokenizer(vocab_size):
    vocabulary = {word: i for i, word in enumerate([*SPECIAL_TOKENS, *map(str, range(2, vocab_size))])}
    return Tokenizer(tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="2")))


tune = functools.partial(tune_with, tokenizer=word_tokenizer(VOCAB_SIZE))


@dataclasses.dataclass
class Indices:
    """Pairs without the rest of a `PairSet`."""

    first: np.ndarray
    second: np.ndarray
    corpus_fingerprint: str
    fingerprint: str


def two_topic_corpus(num_documents, seed):
    """Documents of 6 tokens below 13 or from 13 on, by turns."""
    generator = np.random.default_rng(seed)
    tokens = [generator.integers(2 + 11 * (i % 2), 13 + 11 * (i % 2), 6) for i in range(num_documents)]
    documents = [Document(id=f"{seed}:{i}", text="text", source="test") for i in range(num_documents)]
    return Corpus.from_tokens(documents, tokens, vocab_size=VOCAB_SIZE)


def topic_pairs(corpus, num_pairs, seed):
    generator = np.random.default_rng(seed)
    first = generator.integers(len(corpus), size=num_pairs)
    second = (first + 2 * generator.integers(1, len(corpus) // 2, size=num_pairs)) % len(corpus)
    return Indices(first, second, corpus.fingerprint, f"pairs {seed}")


def validating(config, *documents_and_pairs):
    """The pairs that validate a tuning, as rows."""
    corpus, pairs = held_out_pairs(config, *documents_and_pairs)
    return PackedPairs(corpus, pairs.first, pairs.second, config.max_document_tokens)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    shape = {"width": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_width": 8}
    config = LMConfig(vocab_size=VOCAB_SIZE, context_length=7, hidden_width=32, **shape)
    save_model(Transformer(config, seed=0), directory)
    train, held_out = two_topic_corpus(400, 0), two_topic_corpus(20, 1)
    return CONFIG, directory, train, topic_pairs(train, 800, 0), held_out, topic_pairs(held_out, 80, 1)


@pytest.fixture(scope="module")
def tuned(arguments, tmp_path_factory):
    return tune(*arguments, tmp_path_factory.mktemp("tuned"))


def test_tuned_model_reaches_the_entropy_of_d2_given_its_topic(tuned):
    # A document has 6 tokens of 11 and a sure EOS, 7 targets.
    entropy = 6 * np.log(11) / 7
    counts = tuned.counts
    before, after = counts["validation_nats_per_token_before"], counts["validation_nats_per_token"]
    assert abs(after - entropy) < 0.05 < before - entropy - 1
    assert counts["validation_pairs"] == 60
    assert counts["tokens"] == counts["steps"] * 16 * 18


def test_the_plan_has_what_auto_stands_for(tuned):
    assert CONFIG.matmul_dtype == "auto"
    assert tuned.config["matmul_dtype"] == resolved_matmul_dtype("auto")
    assert tuned.config["engine"]["device"] == tuned.device == "cpu"


def test_tuned_model_infers_the_topic_from_d1(tuned, arguments):
    held_out = arguments[4]
    synthesizer = NeuralSynthesizer(load_model(tuned.directory / "best"))
    assert synthesizer.max_document_tokens == 8
    d2 = [held_out.document(i) for i in range(20)]
    related = [held_out.document((i + 2) % 20) for i in range(20)]
    unrelated = [held_out.document((i + 3) % 20) for i in range(20)]
    gain = synthesizer.log_prob(d2, given=related) - synthesizer.log_prob(d2, given=unrelated)
    assert gain.min() > 1.0
    samples = synthesizer.sample(related, torch.Generator().manual_seed(0))
    same = torch.cat([(sample >= 13) == bool(i % 2) for i, sample in enumerate(samples)])
    assert same.double().mean() > 0.9


def test_best_weights_are_those_of_the_reported_loss(tuned, arguments):
    loss = pair_loss(load_model(tuned.directory / "best"), validating(CONFIG, *arguments[2:6]), 16)
    assert loss.nats_per_token == pytest.approx(tuned.counts["validation_nats_per_token"], rel=1e-6)


def test_the_tokenizer_travels_with_the_weights(tuned, arguments, tmp_path):
    word_tokenizer(VOCAB_SIZE).save(tmp_path / "tokenizer.json")
    assert (tuned.directory / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()
    with pytest.raises(ConfigError, match=r"tokenizer.vocab_size = 25 .* at most the model's 24"):
        tune_with(*arguments, tmp_path / "out", tokenizer=word_tokenizer(VOCAB_SIZE + 1))
    with pytest.raises(StoreError, match=r"another plan .*tokenizer"):
        tune_with(*arguments, tuned.directory, tokenizer=word_tokenizer(VOCAB_SIZE - 1))


def test_finished_tuning_is_not_done_again(tuned, arguments, monkeypatch):
    monkeypatch.setattr(PairRows, "batch", None)
    assert tune(*arguments, tuned.directory) == tuned


@pytest.mark.parametrize("noise", [{}, {"dropout": 0.2, "word_dropout": 0.3}], ids=["plain", "dropout"])
def test_interrupted_tuning_ends_with_the_same_weights(tuned, arguments, tmp_path, monkeypatch, noise):
    arguments = (dataclasses.replace(arguments[0], **noise), *arguments[1:])
    whole = tune(*arguments, tmp_path / "whole") if noise else tuned
    batch, calls = PairRows.batch, []

    def stop_once(self, step):
        calls.append(step)
        if len(calls) == whole.counts["steps"] // 2:
            raise KeyboardInterrupt
        return batch(self, step)

    monkeypatch.setattr(PairRows, "batch", stop_once)
    with pytest.raises(KeyboardInterrupt):
        tune(*arguments, tmp_path / "stopped")
    assert tune(*arguments, tmp_path / "stopped").counts == whole.counts
    for name in ("best", "last"):
        places = (whole.directory, tmp_path / "stopped", tuned.directory)
        first, second, plain = (load_model(place / name).state_dict() for place in places)
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert torch.equal(first["embedding.weight"], plain["embedding.weight"]) != bool(noise)


@pytest.mark.parametrize(("num_pairs", "num_documents", "most"), [(800, 400, 60), (90, 7, 60), (2, 2, 5)])
def test_pairs_are_held_out_by_d1_and_by_seed(num_pairs, num_documents, most):
    generator = np.random.default_rng(0)
    first = np.append(generator.integers(num_documents, size=num_pairs - 2), [0, 1])
    pairs = IndexPairs(first, (first + 1) % num_documents, "corpus")
    trained, held_out = hold_out(pairs, most, seed=0)
    assert not set(trained.first) & set(held_out.first)
    both = np.concatenate([np.stack([part.first, part.second], axis=1) for part in (trained, held_out)])
    assert sorted(map(tuple, both)) == sorted(zip(pairs.first, pairs.second, strict=True))
    wanted, largest = min(most, num_pairs / 10), np.bincount(first).max()
    assert min(wanted, 1) <= len(held_out.first) < wanted + largest
    assert hold_out(pairs, most, seed=0)[1].fingerprint == held_out.fingerprint
    assert num_documents < 3 or hold_out(pairs, most, seed=1)[1].fingerprint != held_out.fingerprint


def test_what_cannot_be_held_out_is_said():
    one = IndexPairs(np.zeros(3, np.int64), np.array([1, 2, 3]), "corpus")
    with pytest.raises(CorpusError, match="all 3 pairs have one d1: none can be held out for validation"):
        hold_out(one, 10, seed=0)
    none = IndexPairs(one.first[:0], one.second[:0], "corpus")
    with pytest.raises(CorpusError, match="there are no pairs to tune on"):
        hold_out(none, 10, seed=0)


def test_a_tuning_without_validation_pairs_holds_out_training_pairs(tuned, arguments, tmp_path, caplog):
    config, model, train, pairs, held_out, validation = arguments
    none = dataclasses.replace(validation, first=validation.first[:0], second=validation.second[:0])
    short = dataclasses.replace(config, num_epochs=0.1)
    counts = tune(short, model, train, pairs, held_out, none, tmp_path / "out").counts
    assert (tuned.counts["validated_by"], counts["validated_by"]) == (
        "validation documents",
        "training pairs",
    )
    assert counts["validation_pairs"] == config.max_validation_pairs
    assert 0 <= 800 - counts["pairs"] - config.max_validation_pairs < np.bincount(pairs.first).max()
    assert f"{800 - counts['pairs']} of 800 training pairs validate the tuning" in caplog.text
    best = load_model(tmp_path / "out" / "best")
    loss = pair_loss(best, validating(short, train, pairs, held_out, none), 16).nats_per_token
    assert loss == pytest.approx(counts["validation_nats_per_token"], rel=1e-5)
    nothing = held_out.select([])
    none.corpus_fingerprint = nothing.fingerprint
    again = tune(short, model, train, pairs, nothing, none, tmp_path / "again").counts
    assert again["validation_nats_per_token"] == counts["validation_nats_per_token"]


def test_patience_stops_a_tuning_that_gets_worse_and_keeps_the_first_weights(tuned, arguments, tmp_path):
    _, _, train, pairs, *held_out = arguments
    crossed = dataclasses.replace(pairs, second=(pairs.second + 1) % 400, fingerprint="crossed")
    config = dataclasses.replace(CONFIG, patience=1)
    manifest = tune(config, tuned.directory / "best", train, crossed, *held_out, tmp_path)
    assert manifest.counts["best_step"] == 0
    assert manifest.counts["epochs"] < 2
    first, kept = (load_model(place / "best").state_dict() for place in (tuned.directory, tmp_path))
    assert all(torch.equal(first[key], kept[key]) for key in first)


def test_strangers_are_refused(arguments, tmp_path):
    config, model, train, pairs, held_out, held_out_pairs = arguments
    with pytest.raises(CorpusError, match="the train pairs were made from another corpus"):
        tune(config, model, held_out, pairs, held_out, held_out_pairs, tmp_path)
    with pytest.raises(CorpusError, match="the validation pairs were made from another corpus"):
        tune(config, model, train, pairs, train, held_out_pairs, tmp_path)
    foreign = dataclasses.replace(train, tokens=train.tokens + np.uint16(20))
    foreign_pairs = dataclasses.replace(pairs, corpus_fingerprint=foreign.fingerprint)
    with pytest.raises(CorpusError, match="the train documents have token 43, but the model knows 24"):
        tune(config, model, foreign, foreign_pairs, held_out, held_out_pairs, tmp_path)
    with pytest.raises(ConfigError, match="attention = 'xformers' cannot run: its kernels need CUDA"):
        tune(dataclasses.replace(config, attention="xformers"), *arguments[1:], tmp_path)


@pytest.mark.parametrize(("key", "value"), [("dropout", 1.0), ("dropout", -0.1), ("word_dropout", 1.0)])
def test_dropouts_out_of_range_are_named(key, value):
    with pytest.raises(ConfigError, match=f"{key} = {value}"):
        dataclasses.replace(CONFIG, **{key: value})


@pytest.mark.parametrize("key", ["max_document_tokens", "rows_per_batch", "num_epochs", "patience"])
def test_settings_out_of_range_are_named(key):
    with pytest.raises(ConfigError, match=f"{key} = 0"):
        dataclasses.replace(CONFIG, **{key: 0})
