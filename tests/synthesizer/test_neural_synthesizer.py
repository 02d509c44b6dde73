"""The neural synthesizer: its density against the forward pass, its samples against its density."""

import itertools

import numpy as np
import pytest
import torch

from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.lm import LMConfig, Transformer
from sbp_bayes.synthesizer import NeuralSynthesizer


def tiny_model(vocab_size=16, context_length=26):
    shape = {"width": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_width": 8}
    config = LMConfig(vocab_size=vocab_size, context_length=context_length, hidden_width=32, **shape)
    return Transformer(config, seed=3).eval()


def log_prob_by_forward(model, d1, d2):
    """log P(d2 | d1) summed token by token, with no batch and no targets."""
    total = 0.0
    prefix = [EOS, *d1, SEP]
    for token in [*d2, EOS]:
        with torch.no_grad():
            total += float(model(torch.tensor([prefix]))[0, -1].double().log_softmax(0)[token])
        prefix.append(token)
    return total


def test_log_prob_is_the_sum_over_d2_and_its_end():
    model = tiny_model()
    d1 = [np.array([4, 5, 6]), np.array([7]), np.arange(2, 16)]
    d2 = [np.array([3, 2]), np.array([], np.int64), np.arange(3, 15)]
    log_prob = NeuralSynthesizer(model).log_prob(d2, given=d1)
    assert log_prob.dtype == torch.float64
    wanted = [log_prob_by_forward(model, a[:12], b) for a, b in zip(d1, d2, strict=True)]
    np.testing.assert_allclose(log_prob, wanted, rtol=1e-5)


def test_log_prob_takes_a_matrix_of_documents():
    model = tiny_model()
    documents = torch.arange(2, 14).reshape(3, 4)
    as_matrix = NeuralSynthesizer(model).log_prob(documents, given=documents.flip(0))
    as_lists = NeuralSynthesizer(model).log_prob(list(documents), given=list(documents.flip(0)))
    np.testing.assert_array_equal(as_matrix, as_lists)


def test_samples_follow_the_density():
    model = tiny_model(vocab_size=4, context_length=6)  # tokens 2 and 3, documents of at most 2 tokens
    synthesizer = NeuralSynthesizer(model)
    d1, draws = np.array([2, 3]), 4000
    possible = [np.array(d, np.int64) for n in range(3) for d in itertools.product((2, 3), repeat=n)]
    log_prob = synthesizer.log_prob(possible, given=[d1] * len(possible))
    samples = synthesizer.sample([d1] * draws, torch.Generator().manual_seed(0))
    counts = {}
    for sample in samples:
        counts[tuple(sample.tolist())] = counts.get(tuple(sample.tolist()), 0) + 1
    # SEP is never drawn: where it has mass, each step's probabilities are divided by 1 − P(SEP).
    for document, value in zip(possible[:3], log_prob[:3].tolist(), strict=True):
        without_sep = sum(log_one_minus_sep(model, d1, document[:t]) for t in range(len(document) + 1))
        probability = np.exp(value - without_sep)
        z = (counts.get(tuple(document.tolist()), 0) - draws * probability) / (
            draws * probability * (1 - probability)
        ) ** 0.5
        assert abs(z) < 4


def log_one_minus_sep(model, d1, prefix):
    with torch.no_grad():
        logits = model(torch.tensor([[EOS, *d1, SEP, *prefix]]))[0, -1].double()
    return float(torch.log1p(-logits.softmax(0)[SEP]))


def test_samples_are_within_bounds_and_each_has_its_own_stream():
    synthesizer = NeuralSynthesizer(tiny_model())
    assert synthesizer.max_document_tokens == 12
    d1 = [np.array([5, 6, 7])] * 20
    samples = synthesizer.sample(d1, torch.Generator().manual_seed(0))
    assert all(s.dtype == torch.int64 and len(s) <= 12 and (s >= 2).all() for s in samples)
    assert len({tuple(s.tolist()) for s in samples}) > 10
    again = synthesizer.sample(d1[:7], torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(samples, again, strict=False))


def test_what_does_not_fit_is_named():
    model = tiny_model()
    with pytest.raises(CorpusError, match="d2 1 has 13 tokens: expected at most 12"):
        NeuralSynthesizer(model).log_prob([np.array([2]), np.full(13, 2)], given=[np.array([2])] * 2)
    with pytest.raises(ConfigError, match="max_document_tokens = 13"):
        NeuralSynthesizer(model, 13)
    with pytest.raises(ConfigError, match="max_document_tokens"):
        NeuralSynthesizer(tiny_model(context_length=3))
