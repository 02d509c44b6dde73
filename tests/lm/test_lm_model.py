"""The transformer's behaviour: what a position can see, parity with a second road, determinism."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.config import decode, encode
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.records import IGNORE, Batch
from sbp_bayes.lm import PRESETS, LMConfig, RopeScaling, Transformer, log_prob_documents, with_context_length
from sbp_bayes.lm.attention import reference_attention
from sbp_bayes.lm.layers import (
    linear,
    norm_and_rotate,
    norm_linear,
    rms_norm,
    rotary_frequencies,
    rotary_table,
    swiglu_linear,
)
from sbp_bayes.lm.masks import CausalMask

TINY = LMConfig(
    vocab_size=31,
    context_length=96,
    width=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_width=8,
    hidden_width=24,
)

GOLDEN_LOSSES = [4.018625259399414, 4.001756985982259, 3.984943072001139]
GOLDEN_SCORES = [-207.38631749153137, -356.75874388217926]


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, TINY.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def gradient_by_position(model: Transformer, segments: torch.Tensor, position: int) -> torch.Tensor:
    """∂ (hidden state at `position`) / ∂ (embedding of each input), its largest entry by input, (T,)."""
    embedded = []
    handle = model.embedding.register_forward_hook(lambda *args: embedded.append(args[2]) or args[2])
    weights = torch.randn(TINY.width, generator=torch.Generator().manual_seed(1))
    hidden = model.hidden(tokens(1, segments.shape[1]), segments)[0, position] @ weights
    handle.remove()
    (gradient,) = torch.autograd.grad(hidden, embedded[0])
    return gradient[0].abs().amax(dim=-1)


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4), share=st.floats(0, 1))
def test_a_position_sees_its_own_segment_up_to_itself_and_nothing_else(
    lengths: list[int], share: float
) -> None:
    lengths = lengths[
        : 1 + next((i for i in range(len(lengths)) if sum(lengths[: i + 2]) > 96), len(lengths))
    ]
    segments = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    position = min(int(share * segments.shape[1]), segments.shape[1] - 1)
    seen = gradient_by_position(Transformer(TINY, seed=3), segments, position) > 0
    at = torch.arange(segments.shape[1])
    assert torch.equal(seen, (segments[0] == segments[0, position]) & (at <= position))


def test_second_document_of_a_pair_attends_to_the_first() -> None:
    one_segment = torch.zeros(1, 20, dtype=torch.int64)
    assert (gradient_by_position(Transformer(TINY), one_segment, 19)[:10] > 0).all()


def test_packed_documents_score_as_they_do_alone() -> None:
    model = Transformer(TINY, seed=5).double()
    first, second = tokens(1, 37, seed=1), tokens(1, 50, seed=2)
    segments = torch.repeat_interleave(torch.arange(2), torch.tensor([37, 50]))[None]
    packed = model(torch.cat((first, second), dim=1), segments)
    torch.testing.assert_close(packed[:, :37], model(first), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(packed[:, 37:], model(second), rtol=1e-5, atol=1e-6)


def test_gradients_written_by_hand_are_right() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    turns = rotary_table(5, rotary_frequencies(4, 100.0)).to(torch.complex128)[:, None].expand(5, 3, 2)
    assert torch.autograd.gradcheck(lambda x, gain: rms_norm(x, gain, 1e-6), (draw(2, 5, 6), draw(6)))
    assert torch.autograd.gradcheck(
        lambda x, gain: norm_and_rotate(x, gain, turns, 1e-6), (draw(2, 5, 3, 4), draw(3, 4))
    )
    assert torch.autograd.gradcheck(
        lambda x, gain, weight: norm_linear(x, gain, weight, 1e-6, None), (draw(2, 5, 6), draw(6), draw(4, 6))
    )
    assert torch.autograd.gradcheck(lambda x, w: linear(x, w, None), (draw(2, 5, 6), draw(4, 6)))
    assert torch.autograd.gradcheck(lambda x, w: swiglu_linear(x, w, None), (draw(2, 5, 6), draw(4, 3)))


def test_layers_are_the_same_with_gradients_and_without() -> None:
    generator = torch.Generator().manual_seed(0)
    x, gain, weight = (torch.randn(*shape, generator=generator) for shape in ((2, 5, 6), (6,), (4, 6)))
    layers = (
        lambda: norm_linear(x, gain, weight, 1e-6, None),
        lambda: linear(x, weight, None),
        lambda: swiglu_linear(x, weight[:, :3], None),
    )
    for layer in layers:
        recorded = layer()
        with torch.no_grad():
            torch.testing.assert_close(layer(), recorded, rtol=1e-5, atol=1e-6)


def test_rotation_makes_scores_depend_on_distance_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=generator, dtype=torch.float64)
    turns = rotary_table(60, rotary_frequencies(8, 10_000.0)).to(torch.complex128)[:, None]
    gain = torch.ones(1, 8, dtype=torch.float64)

    def score(at_query: int, at_key: int) -> torch.Tensor:
        turned_q = norm_and_rotate(q, gain, turns[at_query : at_query + 1], 1e-6)
        return (turned_q * norm_and_rotate(k, gain, turns[at_key : at_key + 1], 1e-6)).sum()

    torch.testing.assert_close(score(7, 3), score(47, 43), rtol=1e-5, atol=1e-6)
    assert not torch.isclose(score(7, 3), score(7, 4), rtol=1e-3)


def test_the_network_agrees_with_one_written_out_in_float64() -> None:
    """Pre-norm, QK-norm before rotation, SwiGLU and tied head, by plain formulas."""
    model = Transformer(TINY, seed=9)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    inputs = tokens(2, 33)
    expected = plain_forward(model, inputs)
    assert (model(inputs) - expected).norm() < 1e-6 * expected.norm()
    torch.testing.assert_close(model.double()(inputs), expected, rtol=1e-5, atol=1e-6)


def plain_forward(model: Transformer, inputs: torch.Tensor) -> torch.Tensor:
    state = {name: value.double() for name, value in model.state_dict().items()}
    config, length = model.config, inputs.shape[1]

    def norm(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + config.norm_eps).sqrt() * gain

    def rotate(x: torch.Tensor) -> torch.Tensor:
        half = torch.arange(config.head_width // 2, dtype=torch.float64)
        angle = torch.arange(length)[:, None] * config.rope_theta ** (-2 * half / config.head_width)
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)

    x = state["embedding.weight"][inputs]
    for i in range(config.num_layers):
        block = {
            name.split(".")[2]: value for name, value in state.items() if name.startswith(f"blocks.{i}.")
        }
        heads = (norm(x, block["attention_norm"]) @ block["qkv"].T).unflatten(-1, (-1, config.head_width))
        q, k, v = heads.split([config.num_heads, config.num_kv_heads, config.num_kv_heads], dim=2)
        q, k = rotate(norm(q, block["q_norm"])), rotate(norm(k, block["k_norm"]))
        mixed = reference_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            CausalMask(2, length).additive(slice(0, length), slice(0, length)),
        )
        x = x + mixed.transpose(1, 2).flatten(2) @ block["attention_out"].T
        gate, up = (norm(x, block["feed_forward_norm"]) @ block["gate_up"].T).chunk(2, dim=-1)
        x = x + (gate / (1 + (-gate).exp()) * up) @ block["down"].T
    return norm(x, state["final_norm"]) @ state["embedding.weight"].T


def test_a_model_is_a_function_of_its_seed_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (Transformer(TINY, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert all(not torch.equal(one[name], other[name]) for name in one if one[name].ndim > 1)


def test_a_longer_context_keeps_the_weights_and_the_answers() -> None:
    model = Transformer(TINY, seed=2).set_matmul_dtype(torch.bfloat16).set_attention("sdpa")
    longer = with_context_length(model, 200)
    assert longer.config == dataclasses.replace(TINY, context_length=200)
    assert longer.matmul_dtype == torch.bfloat16
    assert {block.attention_backend for block in (longer, *longer.layers)} == {"sdpa"}
    with torch.no_grad():
        assert torch.equal(longer(tokens(1, 96)), model(tokens(1, 96)))
        assert longer(tokens(1, 200)).shape == (1, 200, TINY.vocab_size)
        longer.final_norm.zero_()
    assert model.final_norm.sum() == TINY.width


def test_rows_beyond_the_context_are_refused() -> None:
    with pytest.raises(ConfigError, match="rows of 97 tokens exceed context_length = 96"):
        Transformer(TINY)(tokens(1, 97))


def test_a_batch_can_be_learned_by_heart_in_bfloat16_products() -> None:
    model = Transformer(TINY, seed=0).set_matmul_dtype(torch.bfloat16)
    inputs = tokens(4, 24)
    batch = Batch(inputs, inputs.roll(-1, dims=1), torch.zeros_like(inputs))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        loss, count = model.loss_sum(batch)
        optimiser.zero_grad()
        (loss / count).backward()
        optimiser.step()
    with torch.no_grad():
        loss, count = model.loss_sum(batch)
    assert loss / count < 0.1


def test_rounded_products_change_the_gradient_by_bfloat16_rounding_only() -> None:
    inputs = tokens(2, 64)
    batch = Batch(inputs, inputs.roll(-1, dims=1), torch.zeros_like(inputs))
    gradients = []
    for dtype in (None, torch.bfloat16):
        model = Transformer(TINY, seed=4).set_matmul_dtype(dtype)
        model.loss_sum(batch)[0].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    exact, rounded = gradients
    assert 0 < (rounded - exact).norm() / exact.norm() < 0.02


@torch.no_grad()
def test_without_gradients_products_are_not_rounded() -> None:
    exact, rounding = Transformer(TINY, seed=4), Transformer(TINY, seed=4).set_matmul_dtype(torch.bfloat16)
    assert torch.equal(rounding(tokens(2, 30)), exact(tokens(2, 30)))


def test_loss_sum_counts_targets_and_ignores_the_others() -> None:
    model, inputs = Transformer(TINY, seed=1), tokens(3, 40)
    targets = inputs.roll(-1, dims=1)
    targets[:, ::3] = IGNORE
    loss, count = model.loss_sum(Batch(inputs, targets, torch.zeros_like(inputs)))
    expected = torch.nn.functional.cross_entropy(
        model(inputs).flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=IGNORE
    )
    assert count == int((targets != IGNORE).sum())
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted_as_built(name: str, tied: bool) -> None:
    config = dataclasses.replace(PRESETS[name], tied_embeddings=tied)
    with torch.device("meta"):
        model = Transformer(config, seed=None)
    assert config.num_parameters == sum(p.numel() for p in model.parameters())
    assert config.forward_flops_per_token == config.flops_per_token / 3
    assert config.flops_per_token == 6 * dataclasses.replace(config, tied_embeddings=True).num_parameters
    assert decode(LMConfig, encode(config)) == config


@pytest.mark.parametrize("name", ["smoke", "toy", "demo", "6m"])
def test_small_presets_run(name: str) -> None:
    config = PRESETS[name]
    inputs = torch.zeros(1, config.context_length, dtype=torch.int64)
    assert Transformer(config)(inputs).shape == (1, config.context_length, config.vocab_size)


@pytest.mark.parametrize(("name", "size"), [("300m", 3e8), ("1b", 1e9), ("3b", 3e9), ("6b", 6e9)])
def test_large_presets_have_the_size_they_are_called_by(name: str, size: float) -> None:
    config = PRESETS[name]
    assert config.num_parameters == pytest.approx(size, rel=0.01)
    assert (config.context_length, config.vocab_size) == (4096, 128_256)
    assert config.num_heads * config.head_width == config.width


def test_presets_that_runs_were_made_with_stay_as_they_are() -> None:
    """Their numbers are in README and LOG: vocabulary, context, width, layers, heads, head width, hidden."""
    shapes = {name: dataclasses.astuple(PRESETS[name]) for name in ("smoke", "demo")}
    common = (10_000.0, True, 1e-6, None)
    assert shapes == {
        "smoke": (512, 64, 32, 2, 2, 1, 16, 96, *common),
        "demo": (2048, 256, 64, 3, 2, 1, 32, 192, *common),
    }


def test_a_step_of_training_and_a_score_keep_their_numbers() -> None:
    """Written down before attention had backends; float32 on another processor rounds differently."""
    model, inputs = Transformer(TINY, seed=3), tokens(4, 96)
    segments = torch.arange(96).div(29, rounding_mode="floor").expand(4, 96)
    batch = Batch(inputs, inputs.roll(-1, dims=1), segments)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        loss, count = model.loss_sum(batch)
        optimiser.zero_grad()
        (loss / count).backward()
        optimiser.step()
        losses.append(loss.item() / count)
    assert losses == pytest.approx(GOLDEN_LOSSES, rel=1e-4)
    scores = log_prob_documents(model, [tokens(50).numpy(), tokens(90).numpy()])
    assert scores == pytest.approx(GOLDEN_SCORES, rel=1e-4)


def test_scaled_positions_keep_short_wavelengths_and_stretch_long_ones() -> None:
    scaling = RopeScaling(factor=4.0, low_freq_factor=1.5, high_freq_factor=5.0, original_context_length=300)
    plain, scaled = rotary_frequencies(64, 5_000.0), rotary_frequencies(64, 5_000.0, scaling)
    kinds = []
    for before, after in zip(plain.tolist(), scaled.tolist(), strict=True):
        turns = 300 * before / (2 * math.pi)
        share = (turns - 1.5) / (5.0 - 1.5)
        expected = (
            before if share > 1 else before / 4 if share < 0 else (1 - share) * before / 4 + share * before
        )
        assert after == pytest.approx(expected, rel=1e-10)
        kinds.append(min(max(math.ceil(share), 0), 2))
    assert set(kinds) == {0, 1, 2}
    model = Transformer(dataclasses.replace(TINY, rope_scaling=RopeScaling(original_context_length=20)))
    assert not torch.equal(model.get_buffer("rotary"), Transformer(TINY).get_buffer("rotary"))
    assert decode(LMConfig, encode(model.config)) == model.config


@pytest.mark.parametrize(
    ("key", "value"),
    [("factor", 0.5), ("low_freq_factor", 0.0), ("high_freq_factor", 1.0), ("original_context_length", 0)],
)
def test_a_scaling_out_of_range_is_named(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        RopeScaling(**{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vocab_size", 2),
        ("width", 0),
        ("num_kv_heads", 3),
        ("head_width", 7),
        ("rope_theta", 0.5),
        ("norm_eps", 0.0),
    ],
)
def test_a_value_out_of_range_is_named(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        dataclasses.replace(TINY, **{key: value})


def test_dropout_thins_training_alone_and_keeps_the_mean() -> None:
    config = LMConfig(
        vocab_size=32, context_length=16, width=16, num_layers=2, num_heads=2, num_kv_heads=1, head_width=8,
        hidden_width=24,
    )  # fmt: skip
    model = Transformer(config, seed=0)
    inputs = torch.arange(16)[None]
    plain = model(inputs)
    model.set_dropout(0.5, seed=1)
    assert torch.equal(model.eval()(inputs), plain)
    first, second = model.train()(inputs), model(inputs)
    assert not torch.equal(first, second)
    assert torch.equal(model.set_dropout(0.5, seed=1)(inputs), first)
    thinned = model.layers[0].thinned(torch.ones(1, 4000, 16))
    assert set(thinned.unique().tolist()) == {0.0, 2.0}
    assert abs(thinned.mean().item() - 1) < 5 / 64000**0.5  # five standard errors
    assert torch.equal(model.set_dropout(0.0)(inputs), plain)
