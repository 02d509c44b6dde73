"""World tokens for a neural synthesizer: scores token by token against the forward pass, ends apart."""

import numpy as np
import pytest
import torch

from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.lm import LMConfig, Transformer
from sbp_bayes.synthesizer import NeuralSynthesizer, WorldTokens, model_tokens, world_tokens
from sbp_bayes.synthesizer import vocabulary as vocabulary_module

D1 = torch.tensor([[0, 1, 2], [3, -1, -1], [2, 2, -1]])
D2 = torch.tensor([[1, 1], [0, -1], [3, 0]])


@pytest.fixture(scope="module")
def model():
    shape = {"width": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_width": 8}
    return Transformer(LMConfig(vocab_size=6, context_length=12, hidden_width=32, **shape), seed=3).eval()


def prompts(limit=5):
    return [[EOS, *[int(t) + 2 for t in d if t >= 0][:limit], SEP] for d in D1]


def by_forward(model, prompt, tokens):
    """log p of each token and of the EOS behind them, one forward pass each."""
    scores = []
    for token in [*(int(t) + 2 for t in tokens if t >= 0), EOS]:
        with torch.no_grad():
            scores.append(float(model(torch.tensor([prompt]))[0, -1].double().log_softmax(0)[token]))
        prompt = [*prompt, token]
    return scores


def test_token_t_is_id_t_plus_2():
    assert [d.tolist() for d in model_tokens(D1)] == [[2, 3, 4], [5], [4, 4]]
    assert [d.tolist() for d in world_tokens(model_tokens(D1))] == [[0, 1, 2], [3], [2, 2]]
    assert all(d.dtype == torch.int64 for d in world_tokens(model_tokens(D1)))


@pytest.mark.parametrize("tokens_together", [8192, 8])
def test_tokens_and_end_are_those_of_the_forward_pass(model, tokens_together, monkeypatch):
    monkeypatch.setattr(vocabulary_module, "TOKENS_PER_BATCH", tokens_together)
    scores = WorldTokens(NeuralSynthesizer(model)).token_log_prob(D2, given=D1)
    assert scores.tokens.shape == D2.shape
    assert scores.tokens.dtype == torch.float64
    for row, prompt in enumerate(prompts()):
        *tokens, end = by_forward(model, prompt, D2[row])
        np.testing.assert_allclose(scores.tokens[row, : len(tokens)], tokens, rtol=1e-5, atol=1e-6)
        assert float(scores.end[row]) == pytest.approx(end, rel=1e-5, abs=1e-6)
    assert scores.tokens[1, 1] == 0


def test_with_the_end_it_is_the_synthesizers_own_density(model):
    inner, outer = NeuralSynthesizer(model), WorldTokens(NeuralSynthesizer(model))
    own = inner.log_prob(model_tokens(D2), given=model_tokens(D1))
    both = outer.log_prob(D2, given=D1) + outer.token_log_prob(D2, given=D1).end
    np.testing.assert_allclose(both, own, rtol=1e-5, atol=1e-6)


def test_a_longer_d1_is_cut_as_the_synthesizer_cuts_it(model):
    inner = NeuralSynthesizer(model, max_document_tokens=2)
    outer = WorldTokens(inner)
    own = inner.log_prob(model_tokens(D2), given=model_tokens(D1))
    both = outer.log_prob(D2, given=D1) + outer.token_log_prob(D2, given=D1).end
    np.testing.assert_allclose(both, own, rtol=1e-5, atol=1e-6)


def test_samples_are_the_synthesizers_own_shifted(model):
    inner = NeuralSynthesizer(model, max_document_tokens=4)
    samples = WorldTokens(inner).sample(D1, torch.Generator().manual_seed(1))
    own = inner.sample(model_tokens(D1), torch.Generator().manual_seed(1))
    assert [s.tolist() for s in samples] == [[int(t) - 2 for t in s] for s in own]
    assert sum(len(s) for s in samples) > 0


def test_no_documents_have_no_scores(model):
    nothing = torch.zeros(0, 2, dtype=torch.int64)
    assert WorldTokens(NeuralSynthesizer(model)).log_prob(nothing, given=nothing).shape == (0,)
