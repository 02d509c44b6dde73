"""The belief-state probe: planted maps are found, noise is not, and states stand at the right position."""

import numpy as np
import pytest
import torch

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.evaluation import belief_probe, hidden_states, linear_probe
from sbp_bayes.evaluation.worlds import probe
from sbp_bayes.lm import LMConfig, Transformer
from sbp_bayes.lm.layers import rms_norm
from sbp_bayes.lm.masks import CausalMask
from toy_worlds import make_world


def draws(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model():
    shape = {"width": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_width": 8}
    return Transformer(LMConfig(vocab_size=6, context_length=10, hidden_width=32, **shape), seed=3).eval()


def documents(n=120, time=9, seed=0):
    return torch.randint(4, (n, time), generator=torch.Generator().manual_seed(seed))


def test_a_planted_map_is_found_exactly():
    x, x_test, planted = draws(300, 8), draws(100, 8, seed=1), draws(8, 3, seed=2)
    offset = torch.tensor([5.0, -3.0, 0.5])
    assert linear_probe(x, x @ planted + offset, x_test, x_test @ planted + offset) == pytest.approx(
        1.0, abs=1e-12
    )
    duplicated = torch.cat([x, x], 1), torch.cat([x_test, x_test], 1)
    found = linear_probe(duplicated[0], x @ planted, duplicated[1], x_test @ planted)
    assert found == pytest.approx(1.0, abs=1e-12)


def test_noise_explains_nothing():
    """Out of sample 1 − R² is 1 + D/P on average; its error is below 5 √(D/P) · 2/√(P_test)."""
    num_train, num_test, width = 4000, 4000, 8
    x, x_test = draws(num_train, width), draws(num_test, width, seed=1)
    found = linear_probe(x, draws(num_train, 1, seed=3), x_test, draws(num_test, 1, seed=4))
    overfit = width / num_train
    error = overfit * (2 / width) ** 0.5 + 2 * (overfit / num_test) ** 0.5 + 1 / num_test
    assert abs(found + overfit) < 5 * error
    assert 5 * error < 0.02


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_the_fit_solves_the_normal_equations(ridge):
    x, y, x_test, y_test = draws(40, 5) + 2, draws(40, 2, seed=1), draws(30, 5, seed=2), draws(30, 2, seed=3)
    y = y + x[:, :2]
    y_test = y_test + x_test[:, :2] - 1
    a, b = (x - x.mean(0)).numpy(), (y - y.mean(0)).numpy()
    penalty = ridge * len(a) * a.var(axis=0).mean()
    weights = np.linalg.inv(a.T @ a + penalty * np.eye(5)) @ a.T @ b
    predicted = (x_test - x.mean(0)).numpy() @ weights + y.mean(0).numpy()
    truth = y_test.numpy()
    wanted = 1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum()
    assert linear_probe(x, y, x_test, y_test, ridge=ridge) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("tokens_together", [8192, 30])
def test_hidden_states_are_the_residual_stream(model, tokens_together, monkeypatch):
    monkeypatch.setattr(probe, "TOKENS_PER_BATCH", tokens_together)
    inputs = documents(7) + 2
    states = hidden_states(model, inputs)
    assert [s.shape for s in states] == [(7, 9, 16)] * 3
    torch.testing.assert_close(states[0], model.embedding(inputs))
    with torch.no_grad():
        final = rms_norm(states[-1], model.final_norm, model.config.norm_eps)
        torch.testing.assert_close(final, model.hidden(inputs), rtol=1e-5, atol=1e-6)
        first = model.layers[0](states[0], model.turns(torch.arange(9)), CausalMask(7, 9))
    torch.testing.assert_close(states[1], first, rtol=1e-5, atol=1e-5)
    assert not any(m._forward_hooks for m in model.modules())


def test_hooks_go_even_when_the_model_refuses(model):
    with pytest.raises(ConfigError, match="context_length"):
        hidden_states(model, documents(2, 11))
    assert not any(m._forward_hooks for m in model.modules())


def planted_beliefs(model, d, layer):
    """A linear map of one layer's states, read from the very rows that a language model sees."""
    rows = torch.cat([torch.zeros(len(d), 1, dtype=torch.int64), d.clamp(min=-1) + 2], dim=1)
    rows[rows == 1] = 0
    return hidden_states(model, rows)[layer][:, 1:].double() @ draws(16, 3, seed=5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_beliefs_are_found_in_the_layer_that_holds_them(model, layer):
    d = documents(400)
    beliefs = planted_beliefs(model, d, layer)
    found = belief_probe(model, d, beliefs, torch.Generator().manual_seed(0), ridge=0.0)
    assert (found.num_train, found.num_held_out) == (300, 100)
    assert len(found.trained) == len(found.untrained) == 3
    assert found.trained[layer] == pytest.approx(1.0, abs=1e-6)
    assert all(r2 < 0.999 for number, r2 in enumerate(found.trained) if number < layer)
    if layer:
        assert max(found.untrained) < 0.999


def test_the_control_is_a_model_of_the_same_shape(model):
    d, generator = documents(60), torch.Generator()
    beliefs = planted_beliefs(model, d, 2)
    control = Transformer(model.config, seed=0).eval()
    by_default = belief_probe(model, d, beliefs, generator.manual_seed(1))
    given = belief_probe(control, d, beliefs, generator.manual_seed(1), untrained=model)
    assert by_default.trained == given.untrained
    assert by_default.untrained == given.trained


def test_padding_is_not_read(model):
    """Padded documents among short ones: the same numbers as if only what is real were there."""
    d = documents(80)
    beliefs = planted_beliefs(model, d, 1)
    short = d.clone()
    short[::2, 4:] = -1
    poisoned = beliefs.clone()
    poisoned[::2, 4:] = torch.nan
    found = belief_probe(model, short, poisoned, torch.Generator().manual_seed(0), ridge=0.0)
    assert found.trained[1] == pytest.approx(1.0, abs=1e-6)


def test_whole_documents_are_held_out(model):
    """A random constant of each document is fitted on those fitted on, and not foreseen on the others."""
    d = documents(24)
    beliefs = draws(24, 1, 1, seed=7).expand(-1, 9, -1)
    states = hidden_states(model, torch.nn.functional.pad(d + 2, (1, 0)))[2][:, 1:].flatten(0, 1)
    assert linear_probe(states, beliefs.flatten(0, 1), states, beliefs.flatten(0, 1)) > 0.05
    found = belief_probe(model, d, beliefs, torch.Generator().manual_seed(0), held_out_share=0.9)
    assert max(*found.trained, *found.untrained) < 0


def test_belief_states_of_a_hidden_markov_world_are_read(model):
    """Mess3's belief states: the last token tells some, a layer that reads earlier ones more, none all."""
    world = make_world("mess3_mixture", num_concepts=2, doc_length=9, seed=2)
    generator = torch.Generator().manual_seed(0)
    d = world.sample(world.sample_concept(400, generator), generator)
    found = belief_probe(model, d, world.belief_states(d), generator)
    assert 0 < found.trained[0] < found.trained[1] < 1


def test_what_cannot_be_probed_is_named(model):
    d, generator = documents(10), torch.Generator()
    with pytest.raises(ConfigError, match=r"beliefs = \(10, 8, 2\)"):
        belief_probe(model, d, draws(10, 8, 2), generator)
    with pytest.raises(ConfigError, match="documents = 1"):
        belief_probe(model, d[:1], draws(1, 9, 2), generator)
    with pytest.raises(ConfigError, match="held_out_share = 1"):
        belief_probe(model, d, draws(10, 9, 2), generator, held_out_share=1)
    with pytest.raises(ConfigError, match="variance"):
        belief_probe(model, d, torch.ones(10, 9, 2), generator)
    with pytest.raises(ConfigError, match="ridge = -1"):
        linear_probe(*[draws(4, 2)] * 4, ridge=-1)
