"""Sampling: the model's own distribution, the same bytes in any company, and never SEP."""

import dataclasses
import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.lm import Generated, LMConfig, Transformer, generate, generate_iter, log_prob_documents
from sbp_bayes.lm import decode as decode_module
from sbp_bayes.lm.decode import Sampling, draw
from toy_worlds import make_world

CONFIG = LMConfig(
    vocab_size=40,
    context_length=200,
    width=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_width=8,
    hidden_width=48,
)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return Transformer(CONFIG, seed=7)


@pytest.fixture(scope="module")
def prompts() -> list[np.ndarray]:
    rng = numpy_generator(0)
    return [np.append(EOS, rng.integers(2, 40, size=rng.integers(0, 140))) for _ in range(150)]


def as_bytes(samples: list[Generated]) -> list[tuple[bytes, bool]]:
    return [(sample.tokens.tobytes(), sample.finished) for sample in samples]


@pytest.fixture(scope="module")
def samples(model: Transformer, prompts: list[np.ndarray]) -> list[Generated]:
    return generate(model, prompts, max_new_tokens=40, stream_seeds=range(150))


def test_bytes_do_not_depend_on_slots(
    model: Transformer, prompts: list[np.ndarray], samples: list[Generated]
) -> None:
    for slots in (1, 256):
        other = generate(model, prompts, max_new_tokens=40, stream_seeds=range(150), slots=slots)
        assert as_bytes(other) == as_bytes(samples)


def test_bytes_do_not_depend_on_order(
    model: Transformer, prompts: list[np.ndarray], samples: list[Generated]
) -> None:
    order = numpy_generator(1).permutation(150).tolist()
    shuffled = generate(model, [prompts[i] for i in order], max_new_tokens=40, stream_seeds=order)
    assert as_bytes(shuffled) == [as_bytes(samples)[i] for i in order]


def test_bytes_do_not_depend_on_company(
    model: Transformer, prompts: list[np.ndarray], samples: list[Generated]
) -> None:
    for index in (0, 41, 149):
        alone = generate(model, [prompts[index]], max_new_tokens=40, stream_seeds=[index])
        assert as_bytes(alone) == [as_bytes(samples)[index]]


def test_samples_of_one_prompt_read_it_once_and_keep_their_bytes(
    model: Transformer, prompts: list[np.ndarray], samples: list[Generated], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each prompt thrice, in an order that mixes them: sample 0 … 149 of the first kind stay as they are."""
    order = numpy_generator(2).permutation(450).tolist()
    read: list[bytes] = []
    prefill = decode_module._prefill

    def recorded(model: Transformer, prompts: list[np.ndarray], padded: int) -> Iterator:
        read.extend(prompt.tobytes() for prompt in prompts)
        return prefill(model, prompts, padded)

    monkeypatch.setattr(decode_module, "_prefill", recorded)
    repeated = generate(model, [prompts[i % 150] for i in order], max_new_tokens=40, stream_seeds=order)
    assert sorted(read) == sorted({prompt.tobytes() for prompt in prompts})
    by_seed = dict(zip(order, as_bytes(repeated), strict=True))
    assert [by_seed[i] for i in range(150)] == as_bytes(samples)
    alone = generate(model, [prompts[41]], max_new_tokens=40, stream_seeds=[341])
    assert as_bytes(alone) == [by_seed[341]]


def test_iteration_yields_every_index_once_as_generate_does(
    model: Transformer, prompts: list[np.ndarray], samples: list[Generated]
) -> None:
    before = torch.get_rng_state()
    pairs = list(generate_iter(model, prompts, max_new_tokens=40, stream_seeds=range(150), slots=256))
    assert torch.equal(before, torch.get_rng_state())
    assert sorted(index for index, _ in pairs) == list(range(150))
    assert as_bytes([sample for _, sample in sorted(pairs, key=lambda pair: pair[0])]) == as_bytes(samples)
    assert [index for index, _ in pairs] != list(range(150))


def test_waiting_samples_start_when_all_rows_end_at_once(
    model: Transformer, prompts: list[np.ndarray]
) -> None:
    """150 samples of one token each in 128 slots: documents of one length free every row together."""
    together = generate(model, prompts, max_new_tokens=1, stream_seeds=range(150), slots=1)
    assert len(together) == 150
    alone = generate(model, prompts[149:], max_new_tokens=1, stream_seeds=[149])
    assert as_bytes(alone) == as_bytes(together[149:])


def test_limits_by_sample_and_what_finished_means(
    model: Transformer, prompts: list[np.ndarray], samples: list[Generated]
) -> None:
    limits = [1 + index % 20 for index in range(150)]
    short = generate(model, prompts, max_new_tokens=limits, stream_seeds=range(150))
    for sample, whole, limit in zip(short, samples, limits, strict=True):
        assert np.array_equal(sample.tokens, whole.tokens[:limit])
        assert sample.finished == (whole.finished and len(whole.tokens) < limit)
        assert EOS not in sample.tokens
    assert {sample.finished for sample in short} == {True, False}


def replay(model: Transformer, prompt: np.ndarray, seed: int, limit: int) -> Iterator[int]:
    """Draw by full forward passes, without a cache or a batch."""
    tokens, uniforms = prompt.tolist(), numpy_generator(seed).random(limit)
    for uniform in uniforms:
        logits = model(torch.tensor([tokens]))[0, -1].double()
        logits[SEP] = -math.inf
        token = int(np.searchsorted(logits.softmax(0).cumsum(0).numpy(), uniform, side="right"))
        yield token
        if token == EOS:
            return
        tokens.append(token)


@torch.no_grad()
def test_cached_decoding_equals_full_forward(
    model: Transformer, prompts: list[np.ndarray], samples: list[Generated]
) -> None:
    for index in (0, 5, 33, 77):
        expected = list(replay(model, prompts[index], index, 40))
        assert samples[index].tokens.tolist() + [EOS] * samples[index].finished == expected


@torch.no_grad()
def test_cached_logits_equal_full_forward(
    model: Transformer, prompts: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def record(logits: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling) -> torch.Tensor:
        seen.append(logits[0].clone())
        return torch.full((len(logits),), 5)

    monkeypatch.setattr(decode_module, "draw", record)
    generate(model, [prompts[3]], max_new_tokens=30, stream_seeds=[0])
    inputs = torch.tensor([prompts[3].tolist() + [5] * 29])
    expected = model(inputs)[0, len(prompts[3]) - 1 :]
    torch.testing.assert_close(torch.stack(seen), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_samples_follow_the_model(temperature: float) -> None:
    """Chi-square of 4,000 samples against all 40 outcomes of at most 3 draws from 4 tokens."""
    model = Transformer(dataclasses.replace(CONFIG, vocab_size=5, context_length=8), seed=3)
    prompt = np.array([EOS, 3, SEP])
    samples = generate(
        model, [prompt] * 4000, max_new_tokens=3, stream_seeds=range(4000), temperature=temperature, slots=512
    )
    probs = outcome_probabilities(model, prompt, temperature)
    assert sum(probs.values()) == pytest.approx(1)
    counts = dict.fromkeys(probs, 0)
    for sample in samples:
        counts[(*sample.tokens.tolist(), EOS) if sample.finished else tuple(sample.tokens.tolist())] += 1
    assert pvalue(np.array(list(counts.values())), 4000 * np.array(list(probs.values()))) > 2e-5


def pvalue(observed: np.ndarray, expected: np.ndarray) -> float:
    """Of the chi-square test, outcomes that are expected less than 5 times taken together."""
    rare = expected < 5
    expected = np.append(expected[~rare], expected[rare].sum())
    observed = np.append(observed[~rare], observed[rare].sum())
    kept = expected > 0
    assert kept.sum() >= 15
    return stats.chisquare(observed[kept], expected[kept] * observed.sum() / expected.sum()).pvalue


@torch.no_grad()
def outcome_probabilities(model: Transformer, prompt: np.ndarray, temperature: float) -> dict[tuple, float]:
    """P of every (draw, …): those that end in EOS, and those of 3 draws without it."""
    words = [2, 3, 4]
    outcomes = [(*head, EOS) for n in range(3) for head in product(words, repeat=n)]
    outcomes += list(product(words, repeat=3))
    probs = {}
    for outcome in outcomes:
        logits = model(torch.tensor([[*prompt.tolist(), *outcome[:-1]]]))[0, len(prompt) - 1 :].double()
        logits[:, SEP] = -math.inf
        log_probs = (logits / temperature).log_softmax(dim=-1)
        probs[outcome] = float(log_probs[range(len(outcome)), list(outcome)].sum().exp())
    return probs


@torch.no_grad()
def transformer_of_chain(log_first_V: torch.Tensor, log_next_VV: torch.Tensor) -> Transformer:
    """A transformer that is a Markov chain over ids 2, 3, …: nothing but embedding, norm and head is left.

    The norm makes √width of a unit vector's 1; EOS stands before the first token and is never drawn.
    """
    vocab_size = 2 + len(log_first_V)
    shape = {"vocab_size": vocab_size, "width": vocab_size, "tied_embeddings": False, "norm_eps": 1e-12}
    model = Transformer(dataclasses.replace(CONFIG, **shape), seed=0)
    for block in model.layers:
        block.attention_out.zero_()
        block.down.zero_()
    model.embedding.weight.copy_(torch.eye(vocab_size))
    log_prob_VV = torch.full((vocab_size, vocab_size), -100.0)  # of the next token (row) after each (column)
    log_prob_VV[2:, EOS] = log_first_V.float()
    log_prob_VV[2:, 2:] = log_next_VV.T.float()
    model.output_head.copy_(log_prob_VV / math.sqrt(vocab_size))
    return model


def test_samples_follow_a_toy_world() -> None:
    """Chi-square of 5,000 samples against the exact P(d|c) of all 256 documents of a Markov chain."""
    world = make_world("markov_mixture", num_concepts=2, vocab_size=4, doc_length=4, initial="sampled")
    documents = torch.tensor(list(product(range(4), repeat=4)))
    for concept, log_prob_N in enumerate(world.log_likelihood(documents).T):
        table_R = world.log_table_RK[:, concept]
        model = transformer_of_chain(table_R[16:], table_R[:16].view(4, 4))
        scores = log_prob_documents_without_end(model, documents + 2)
        torch.testing.assert_close(scores, log_prob_N, rtol=1e-5, atol=1e-5)
        samples = generate(model, [np.array([EOS])] * 5000, max_new_tokens=4, stream_seeds=range(5000))
        drawn = torch.from_numpy(np.stack([sample.tokens for sample in samples])) - 2
        places = (drawn * torch.tensor([64, 16, 4, 1])).sum(dim=1)
        observed, expected = torch.bincount(places, minlength=256).numpy(), 5000 * log_prob_N.exp().numpy()
        assert pvalue(observed, expected) > 2e-5


@torch.no_grad()
def log_prob_documents_without_end(model: Transformer, documents: torch.Tensor) -> torch.Tensor:
    inputs = torch.nn.functional.pad(documents, (1, 0), value=EOS)[:, :-1]
    return model(inputs).double().log_softmax(-1).gather(2, documents[:, :, None]).sum(dim=(1, 2))


def test_sep_is_never_drawn_even_where_the_model_insists() -> None:
    logits = torch.zeros(64, 6)
    logits[:, SEP] = 50.0
    uniforms = torch.linspace(0, 1 - 2**-53, 64, dtype=torch.float64)
    drawn = draw(logits, uniforms, Sampling())
    assert torch.equal(drawn.unique(), torch.tensor([0, 2, 3, 4, 5]))


def test_extreme_uniforms_draw_tokens_that_have_mass() -> None:
    logits = torch.tensor([[-math.inf, 0.0, 1.0, -math.inf], [-math.inf, 0.0, 1.0, -math.inf]])
    drawn = draw(logits, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), Sampling())
    assert drawn.tolist() == [2, 2]


def test_the_nucleus_is_the_fewest_tokens_that_reach_top_p() -> None:
    masses = torch.tensor([0.1, 0.0, 0.4, 0.2, 0.3])
    uniforms = torch.linspace(0, 1 - 2**-53, 1001, dtype=torch.float64)
    for top_p, kept in ((0.3, [2]), (0.6, [2, 4]), (0.75, [2, 3, 4]), (1.0, [0, 2, 3, 4])):
        drawn = draw(masses.log().expand(1001, 5), uniforms, Sampling(top_p=top_p))
        shares = torch.bincount(drawn, minlength=5) / 1001
        expected = torch.zeros(5)
        expected[kept] = masses[kept] / masses[kept].sum()
        torch.testing.assert_close(shares, expected, rtol=0, atol=2 / 1001)


def test_samples_of_full_context_fit(model: Transformer) -> None:
    prompt = np.full(160, 3)
    (sample,) = generate(model, [prompt], max_new_tokens=41, stream_seeds=[2])
    assert len(sample.tokens) <= 41


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_tokens": 42}, "prompt 0 of 160 tokens with 42 new ones does not fit context_length = 200"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": [1, 2]}, "max_new_tokens"),
        ({"max_new_tokens": 1, "stream_seeds": [1, 2]}, "stream_seeds"),
        ({"max_new_tokens": 1, "temperature": 0.0}, "temperature"),
        ({"max_new_tokens": 1, "top_p": 1.5}, "top_p"),
    ],
)
def test_mistakes_are_named(model: Transformer, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generate(model, [np.full(160, 3)], **({"stream_seeds": [1]} | arguments))


def test_an_empty_prompt_is_refused_and_no_prompts_are_none(model: Transformer) -> None:
    with pytest.raises(ConfigError, match="prompt 0 is empty"):
        generate(model, [np.array([], dtype=np.int64)], max_new_tokens=1, stream_seeds=[1])
    assert generate(model, [], max_new_tokens=1, stream_seeds=[]) == []


@pytest.mark.parametrize("token", [-1, 40])
def test_tokens_outside_the_vocabulary_are_named(model: Transformer, token: int) -> None:
    with pytest.raises(ConfigError, match=f"prompt 1 has token {token}, but vocab_size = 40"):
        generate(model, [np.array([3]), np.array([3, token])], max_new_tokens=1, stream_seeds=[1, 2])
    for use in (model, lambda rows: log_prob_documents(model, rows.numpy())):
        with pytest.raises(ConfigError, match=f"a row has token {token}, but vocab_size = 40"):
            use(torch.tensor([[3, token]]))


def test_document_probabilities_sum_to_one_with_those_that_go_on() -> None:
    """Σ P(d) over documents of at most 2 tokens + P(no EOS within 3 tokens) = 1."""
    model = Transformer(dataclasses.replace(CONFIG, vocab_size=5, context_length=8), seed=3)
    documents = [np.array(d, dtype=np.int64) for n in range(3) for d in product(range(1, 5), repeat=n)]
    prefixes = torch.tensor([[EOS, *d] for d in product(range(1, 5), repeat=3)])
    with torch.no_grad():
        log_probs = model(prefixes).log_softmax(dim=-1)[:, :3].gather(2, prefixes[:, 1:, None])
    total = np.exp(log_prob_documents(model, documents)).sum() + float(log_probs.sum(dim=(1, 2)).exp().sum())
    assert total == pytest.approx(1, rel=1e-5)
