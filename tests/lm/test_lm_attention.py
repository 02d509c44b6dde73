"""Attention: every backend against the sum in float64, and every mask in every backend's form."""

import importlib.util
import logging
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from allocated import peak_bytes

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.lm import PRESETS, Transformer, generate
from sbp_bayes.lm import attention as module
from sbp_bayes.lm.attention import attention, choose_backend, reference_attention
from sbp_bayes.lm.masks import CachedMask, CausalMask

Mask = CausalMask | CachedMask
ROWS = 3
MASKS = ("rows", "documents", "padded documents", "single positions", "cache")
on_cuda = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="xformers' kernels need CUDA")
)

needs_xformers = pytest.mark.skipif(
    importlib.util.find_spec("xformers") is None, reason="xformers has wheels for Linux on x86-64 alone"
)


def make_mask(kind: str, length: int, device: str = "cpu") -> Mask:
    """A mask of each kind that model and decoder build: whole rows, packs, padded packs, a cache."""
    generator = torch.Generator().manual_seed(length)
    if kind == "cache":
        return CachedMask(torch.randint(0, length, (ROWS,), generator=generator).to(device), length)
    if kind == "rows":
        return CausalMask(ROWS, length, device=device)
    share = 1.0 if kind == "single positions" else 0.05
    segments = (torch.rand(ROWS, length, generator=generator) < share).cumsum(dim=1)
    if kind == "padded documents":
        for row in range(ROWS):
            segments[row, length - row * length // 4 :] = -1
    return CausalMask(ROWS, length, segments.to(device), device)


def whole(mask: Mask) -> torch.Tensor:
    """The mask over all positions, −inf where a query may not read a key."""
    if isinstance(mask, CachedMask):
        return mask.additive
    return mask.additive(slice(0, mask.num_positions), slice(0, mask.num_positions))


def heads(
    mask: Mask, length: int, *, num_kv_heads: int = 2, width: int = 8, **kind: Any
) -> list[torch.Tensor]:
    """Queries, keys and values for 4 query heads."""
    generator = torch.Generator().manual_seed(length)
    queries = 1 if isinstance(mask, CachedMask) else length
    shapes = [(ROWS, 4, queries, width), *[(ROWS, num_kv_heads, length, width)] * 2]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(**kind) for shape in shapes]


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_says_which_positions_are_read(kind: str) -> None:
    mask = make_mask(kind, 37)
    additive = whole(mask).expand(ROWS, -1, -1, -1)[:, 0]
    if isinstance(mask, CausalMask):
        queries, keys = slice(5, 23), slice(3, 30)
        assert torch.equal(mask.additive(queries, keys), whole(mask)[:, :, queries, keys])
    for row in range(ROWS):
        for t in range(additive.shape[1]):
            for s in range(37):
                if isinstance(mask, CachedMask):
                    reads = s <= mask.last_B[row]
                else:
                    segments = torch.zeros(37) if mask.segments_BT is None else mask.segments_BT[row]
                    reads = s <= t and segments[s] == segments[t]
                assert additive[row, t, s] == (0 if reads else -math.inf)


def test_reference_attention_is_the_sum_written_out() -> None:
    q, k, v = torch.randn(3, 1, 1, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixed = reference_attention(q, k, v, whole(CausalMask(1, 5)))
    for t in range(5):
        weights = [math.exp(float(q[0, 0, t] @ k[0, 0, s]) / 2) for s in range(t + 1)]
        expected = sum(w * v[0, 0, s] for s, w in enumerate(weights)) / sum(weights)
        torch.testing.assert_close(mixed[0, 0, t], expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("length", [1, 63, 64, 65, 150])
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_sdpa_equals_the_reference(kind: str, length: int, num_kv_heads: int) -> None:
    mask = make_mask(kind, length)
    q, k, v = heads(mask, length, num_kv_heads=num_kv_heads)
    expected = reference_attention(q, k, v, whole(mask))
    torch.testing.assert_close(attention(q, k, v, mask, "sdpa"), expected, rtol=1e-10, atol=1e-13)
    single = attention(q.float(), k.float(), v.float(), mask, "sdpa")
    torch.testing.assert_close(single, expected.float(), rtol=1e-5, atol=1e-6)
    assert attention(q.float(), k.float(), v.float(), mask, "reference").dtype == torch.float32


def gradients(inputs: list[torch.Tensor], mask: Mask, backend: module.Backend) -> list[torch.Tensor]:
    inputs = [x.requires_grad_() for x in inputs]
    mixed = attention(*inputs, mask, backend)
    weights = torch.randn(mixed.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return list(torch.autograd.grad((mixed * weights.to(mixed)).sum(), inputs))


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("length", [1, 127, 128, 129, 300])
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_blocked_equals_the_reference(kind: str, length: int, num_kv_heads: int) -> None:
    mask = make_mask(kind, length)
    inputs = heads(mask, length, num_kv_heads=num_kv_heads)
    expected = reference_attention(*inputs, whole(mask))
    torch.testing.assert_close(attention(*inputs, mask, "blocked"), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize(("backend", "length"), [("sdpa", 70), ("blocked", 70), ("blocked", 300)])
def test_gradients_equal_the_references(
    kind: str, num_kv_heads: int, backend: module.Backend, length: int
) -> None:
    mask = make_mask(kind, length)
    ours, expected = (
        gradients(heads(mask, length, num_kv_heads=num_kv_heads), mask, name)
        for name in (backend, "reference")
    )
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_kept_are_those_computed_again(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = make_mask("documents", 300)
    kept = gradients(heads(mask, 300, dtype=dtype), mask, "blocked")
    monkeypatch.setattr("sbp_bayes.lm.blocked.KEPT_LENGTH", 299)
    again = gradients(heads(mask, 300, dtype=dtype), mask, "blocked")
    assert all(torch.equal(first, second) for first, second in zip(kept, again, strict=True))


@pytest.mark.parametrize("backend", ["sdpa", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_of_long_rows_are_computed_again_to_the_same_bits(
    backend: module.Backend, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = make_mask("documents", 300)
    kept = gradients(heads(mask, 300, dtype=dtype), mask, backend)
    monkeypatch.setattr(module, "KEPT_LENGTH", 299)
    again = gradients(heads(mask, 300, dtype=dtype), mask, backend)
    assert all(torch.equal(first, second) for first, second in zip(kept, again, strict=True))


@pytest.mark.parametrize("with_gradients", [False, True])
@pytest.mark.parametrize("backend", ["sdpa", "blocked", "reference"])
def test_memory_grows_with_the_length_of_a_row_not_with_its_square(
    backend: module.Backend, with_gradients: bool, tmp_path: Path
) -> None:
    """Packed rows: a mask over all positions, a byte each, would be most of what is held."""

    def peak(length: int) -> int:
        segments = (torch.arange(length) // 400)[None]
        mask = CausalMask(1, length, segments)
        q = torch.randn(1, 1, length, 4, generator=torch.Generator().manual_seed(0))

        def work() -> None:
            if with_gradients:
                gradients([q, q.clone(), q.clone()], mask, backend)
            else:
                with torch.no_grad():
                    attention(q, q, q, mask, backend)

        return peak_bytes(work, tmp_path)

    peaks = [peak(length) for length in (600, 1200, 2400)]
    assert peaks[1] < 2.1 * peaks[0]
    assert peaks[2] < 2.1 * peaks[1]


def test_weights_take_the_memory_of_their_scores(tmp_path: Path) -> None:
    q = torch.randn(8, 4, 128, 4, generator=torch.Generator().manual_seed(0))
    scores = 8 * 4 * 128 * 128 * 4
    assert peak_bytes(lambda: attention(q, q, q, CausalMask(8, 128), "blocked"), tmp_path) < 1.5 * scores


def test_blocked_rounds_to_the_types_of_its_inputs() -> None:
    mask = make_mask("documents", 300)
    inputs = heads(mask, 300)
    rounded = [x.bfloat16() for x in inputs]
    for given, tolerance in (([x.float() for x in inputs], 1e-6), (rounded, 2e-2)):
        mixed = attention(*given, mask, "blocked")
        expected = reference_attention(*given, whole(mask))
        assert mixed.dtype == given[0].dtype
        assert (mixed - expected).norm() < tolerance * expected.norm()
        ours, theirs = (gradients([x.detach() for x in given], mask, b) for b in ("blocked", "reference"))
        for one, other in zip(ours, theirs, strict=True):
            assert (one - other).norm() < tolerance * other.norm()


@torch.no_grad()
@pytest.mark.parametrize("num_heads", [2, 4, 8])  # with 1 row a factor, 2 and 4, for which kernels differ
def test_a_row_of_a_cache_has_the_same_bits_in_any_company_and_padding(num_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((num_heads, 1), (2, 512), (2, 512))
    q, k, v = (torch.randn(96, heads, length, 64, generator=generator) for heads, length in shapes)
    for longest in (40, 121, 180, 250, 310, 440):
        last = torch.randint(0, longest, (96,), generator=generator)
        narrow = -(-longest // 64) * 64
        alone = attention(q, k[:, :, :narrow], v[:, :, :narrow], CachedMask(last, narrow))
        for width in range(narrow, 513, 64):
            for rows in (slice(0, 96), slice(16, 32), slice(5, 6)):
                mask = CachedMask(last[rows], width)
                mixed = attention(q[rows], k[rows, :, :width], v[rows, :, :width], mask)
                assert torch.equal(mixed, alone[rows])


def test_the_first_read_is_the_lowest_of_all_rows() -> None:
    segments = torch.tensor([[0, 0, 1, 1, 1, -1], [0, 1, 1, 1, 2, 2]])
    assert CausalMask(2, 6, segments).first_read == [0, 0, 1, 1, 2, 4]
    assert CausalMask(2, 3).first_read == [0, 0, 0]
    for kind in ("rows", "documents", "padded documents", "single positions"):
        mask = make_mask(kind, 50)
        assert isinstance(mask, CausalMask)
        lowest = (whole(mask) == 0).int().argmax(dim=-1).amin(dim=(0, 1))
        assert mask.first_read == lowest.tolist()


def over_all_rows(additive: torch.Tensor) -> torch.Tensor:
    """Our mask with all rows in one sequence: no row reads another's positions."""
    blocks = additive.expand(ROWS, -1, -1, -1)[:, 0]
    num_queries, num_keys = blocks.shape[1:]
    whole = torch.full((ROWS * num_queries, ROWS * num_keys), -math.inf)
    for row, block in enumerate(blocks):
        whole[row * num_queries :, row * num_keys :][:num_queries, :num_keys] = block
    return whole


@needs_xformers
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("length", [1, 40, 129])
def test_masks_for_xformers_say_the_same(kind: str, length: int) -> None:
    mask = make_mask(kind, length)
    expected = over_all_rows(whole(mask))
    assert torch.equal(mask.bias.materialize(tuple(expected.shape)), expected)


def plain_kernel(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attn_bias: Any) -> torch.Tensor:
    """What memory_efficient_attention is documented to compute, for (1, N, heads, width)."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    bias = attn_bias.materialize((q.shape[2], k.shape[2]), dtype=q.dtype)
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias).softmax(dim=-1)
    return (weights @ v).transpose(1, 2)


@needs_xformers
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_xformers_is_given_all_rows_in_order(
    kind: str, num_kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its operator does not run without CUDA, so one that is written out stands in its place."""
    monkeypatch.setattr("xformers.ops.memory_efficient_attention", plain_kernel)
    mask = make_mask(kind, 33)
    q, k, v = heads(mask, 33, num_kv_heads=num_kv_heads)
    expected = reference_attention(q, k, v, whole(mask))
    torch.testing.assert_close(module._xformers(q, k, v, mask), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("device", [on_cuda])
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_xformers_kernels_equal_the_reference(device: str, kind: str, dtype: torch.dtype) -> None:
    mask = make_mask(kind, 130, device)
    try:
        choose_backend("xformers", torch.device(device), dtype, 64)
    except ConfigError as error:
        pytest.skip(str(error))
    inputs = heads(mask, 130, width=64, device=device, dtype=dtype)
    expected = reference_attention(*inputs, whole(mask))
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(attention(*inputs, mask, "xformers").double(), expected, **tolerance)
    if kind != "cache":  # the decoder takes no gradients
        ours, theirs = (gradients(inputs, mask, backend) for backend in ("xformers", "reference"))
        torch.testing.assert_close(ours, theirs, rtol=10 * tolerance["rtol"], atol=10 * tolerance["atol"])


@needs_xformers
def test_segments_in_pieces_are_no_mask_for_xformers() -> None:
    with pytest.raises(AssertionError, match="must follow each other"):
        _ = CausalMask(1, 5, torch.tensor([[0, 0, 1, 0, 0]])).bias


def test_the_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    choose_backend.cache_clear()
    mask = make_mask("rows", 4)
    with caplog.at_level(logging.INFO, logger="sbp_bayes"):
        for _ in range(3):
            attention(*heads(mask, 4, dtype=torch.float32), mask)
            with torch.no_grad():
                attention(*heads(mask, 4, dtype=torch.float32), mask)
    assert caplog.messages == [
        "attention of gradient on cpu in float32: blocked (the default on cpu)",
        "attention of rows on cpu in float32: sdpa (the default on cpu)",
    ]


def test_on_the_processor_xformers_is_not_even_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    choose_backend.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "xformers"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "xformers", None)
    mask = make_mask("documents", 9)
    attention(*heads(mask, 9), mask)


@pytest.mark.parametrize(("obstacle", "chosen"), [("", "xformers"), ("too old a card", "sdpa")])
def test_cuda_takes_xformers_where_it_runs(
    obstacle: str, chosen: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_why_not_xformers", lambda *_: obstacle)
    choose = choose_backend.__wrapped__
    with caplog.at_level(logging.INFO, logger="sbp_bayes"):
        assert choose("auto", torch.device("cuda"), torch.float32, 64) == chosen
    assert obstacle in caplog.text
    if obstacle:
        with pytest.raises(ConfigError, match="attention = 'xformers' cannot run: too old a card"):
            choose("xformers", torch.device("cuda"), torch.float32, 64)
    assert choose("sdpa", torch.device("cuda"), torch.float32, 64) == "sdpa"


def test_a_backend_that_cannot_run_or_is_none_is_an_error_that_says_why() -> None:
    model, inputs = Transformer(PRESETS["smoke"]), torch.zeros(1, 5, dtype=torch.int64)
    reason = "attention = 'xformers' cannot run: its kernels need CUDA, and the tensors are on cpu"
    with pytest.raises(ConfigError, match=reason):
        model.set_attention("xformers")(inputs)
    with pytest.raises(ConfigError, match=reason):
        generate(model, [np.zeros(3, np.int64)], max_new_tokens=2, stream_seeds=[0])
    with pytest.raises(
        ConfigError, match="attention = 'flash': expected one of auto, xformers, sdpa, blocked, reference"
    ):
        model.set_attention("flash")(inputs)


@torch.no_grad()
def test_a_model_gives_the_same_with_the_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    model, inputs = Transformer(PRESETS["smoke"], seed=1), torch.randint(2, 512, (2, 64), generator=generator)
    segments = torch.arange(64).div(13, rounding_mode="floor").expand(2, 64)
    prompts = [inputs[0, :9].numpy(), inputs[1, :30].numpy()]
    answers, samples = [], []
    for backend in ("sdpa", "reference"):
        model.set_attention(backend)
        answers.append(model(inputs, segments))
        samples += [
            sample.tokens.tolist()
            for sample in generate(model, prompts, max_new_tokens=20, stream_seeds=[5, 6])
        ]
    assert not torch.equal(*answers)
    assert ((answers[0] - answers[1]).norm(dim=-1) < 1e-5 * answers[1].norm(dim=-1)).all()
    assert samples[:2] == samples[2:]


def test_the_decoder_asks_for_the_models_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set()

    def spy(*arguments: Any) -> torch.Tensor:
        asked.add((type(arguments[3]), arguments[4]))
        return attention(*arguments)

    monkeypatch.setattr("sbp_bayes.lm.decode.attention", spy)
    model = Transformer(PRESETS["smoke"]).set_attention("reference")
    generate(model, [np.zeros(3, np.int64)], max_new_tokens=3, stream_seeds=[0])
    assert asked == {(CausalMask, "reference"), (CachedMask, "reference")}
