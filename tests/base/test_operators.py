"""torch's operators that are not public: absent, failing or wrong, what is public stands in and is right."""

import logging
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from sbp_bayes.base import operators as module
from sbp_bayes.concept import conjugate
from sbp_bayes.lm import PRESETS, Transformer, generate
from sbp_bayes.lm.frozen import FrozenTransformer, freeze
from sbp_bayes.pairing import nearest_neighbours

FAULTS = ("absent", "failing", "wrong")
CHECKS = (
    module.packs_weights,
    module._multiplies_int8,
    module._differentiates_silu,
    module._draws_gamma,
)


@pytest.fixture(autouse=True)
def tried_anew():
    for check in CHECKS:
        check.cache_clear()
    yield
    for check in CHECKS:
        check.cache_clear()


def failing(*_, **__):
    raise RuntimeError("not implemented\nfor 'Byte'")


def break_int_mm(monkeypatch, fault):
    if fault == "absent":
        monkeypatch.delattr(torch, "_int_mm")
    elif fault == "failing":
        monkeypatch.setattr(torch, "_int_mm", failing)
    else:
        right = torch._int_mm
        monkeypatch.setattr(torch, "_int_mm", lambda a, b, out: right(a, b, out=out).add_(1))


def break_gamma(monkeypatch, fault):
    if fault == "absent":
        monkeypatch.delattr(torch, "_standard_gamma")
    elif fault == "failing":
        monkeypatch.setattr(torch, "_standard_gamma", failing)
    else:
        monkeypatch.setattr(torch, "_standard_gamma", lambda alpha, generator: alpha.clone())


def break_operators(monkeypatch, fault):
    """mkldnn's product and aten's gradient of silu."""
    operators = {"absent": SimpleNamespace(), "failing": SimpleNamespace()}.get(fault)
    right_product, right_gradient = (
        torch.ops.mkldnn._linear_pointwise,
        torch.ops.aten.silu_backward.grad_input,
    )

    def wrong_gradient(d_out, x, grad_input):
        return right_gradient(d_out, x, grad_input=grad_input).neg_()

    product = SimpleNamespace(
        _reorder_linear_weight=torch.ops.mkldnn._reorder_linear_weight,
        _linear_pointwise=failing if fault == "failing" else lambda *a: right_product(*a).mul_(2),
    )
    silu = SimpleNamespace(grad_input=failing if fault == "failing" else wrong_gradient)
    monkeypatch.setattr(torch.ops, "mkldnn", operators if fault == "absent" else product)
    monkeypatch.setattr(
        torch.ops, "aten", operators if fault == "absent" else SimpleNamespace(silu_backward=silu)
    )


def test_here_they_are_all_right(caplog):
    with caplog.at_level(logging.WARNING):
        assert [check() for check in CHECKS] == [True] * 4
    assert not caplog.messages


def integers(rows, width):
    generator = torch.Generator().manual_seed(width)
    return torch.randint(-127, 128, (rows, width), generator=generator, dtype=torch.int8)


@pytest.mark.parametrize("fault", ["none", *FAULTS])
@pytest.mark.parametrize("width", [1, 3, 384, 2500])
def test_integer_products_are_exact(fault, width, monkeypatch, caplog):
    if fault != "none":
        break_int_mm(monkeypatch, fault)
    left, right = integers(5, width), integers(33, width)
    left[0], right[0] = 127, 127
    out = torch.empty(5, 33, dtype=torch.int32)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            module.int8_products(left, right, out)
    assert torch.equal(out.long(), left.long() @ right.long().T)
    assert len(caplog.messages) == (fault != "none" and width > 1)
    assert all(
        m.startswith("torch's _int_mm is not used, what is public stands in: ") for m in caplog.messages
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_neighbours_are_the_same_to_the_bit(fault, monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(300, 12))
    expected = [nearest_neighbours(vectors, 4, backend) for backend in ("exact", "inverted")]
    break_int_mm(monkeypatch, fault)
    module._multiplies_int8.cache_clear()
    found = [nearest_neighbours(vectors, 4, backend) for backend in ("exact", "inverted")]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("fault", FAULTS)
@torch.no_grad()
def test_without_the_packed_product_a_model_is_not_frozen(fault, monkeypatch, caplog):
    model, inputs = Transformer(PRESETS["smoke"], seed=1), torch.arange(40).view(2, 20)
    prompts = [np.arange(9), np.arange(5, 25)]
    frozen, logits = freeze(model), freeze(model)(inputs)
    assert isinstance(frozen, FrozenTransformer)
    samples = generate(model, prompts, max_new_tokens=8, stream_seeds=[1, 2])
    break_operators(monkeypatch, fault)
    module.packs_weights.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert freeze(model) is model
    assert "mkldnn._linear_pointwise is not used" in caplog.text
    torch.testing.assert_close(freeze(model)(inputs), logits, rtol=1e-5, atol=1e-5)
    again = generate(model, prompts, max_new_tokens=8, stream_seeds=[1, 2])
    assert [s.tokens.tolist() for s in again] == [s.tokens.tolist() for s in samples]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)]
)
def test_the_gradient_of_silu_is_the_operators(fault, dtype, tolerance, monkeypatch):
    x, d_out = (
        torch.randn(7, 31, generator=torch.Generator().manual_seed(seed)).to(dtype) for seed in (0, 1)
    )
    x.requires_grad_()
    (expected,) = torch.autograd.grad(F.silu(x), x, d_out)
    out = torch.empty(7, 62, dtype=dtype)[:, 31:]
    module.silu_gradient(d_out, x.detach(), out)
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)
    break_operators(monkeypatch, fault)
    module._differentiates_silu.cache_clear()
    out.zero_()
    module.silu_gradient(d_out, x.detach(), out)
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("alpha", [1.0, 1.3, 40.0])
def test_gamma_draws_are_from_gamma(fault, alpha, monkeypatch):
    """Kolmogorov and Smirnov's test of 100,000 draws; a generator's draws are its own."""
    break_gamma(monkeypatch, fault)
    shape, seeded = torch.full((400, 250), alpha, dtype=torch.float64), torch.Generator().manual_seed(5)
    drawn = module.standard_gamma(shape, seeded)
    assert stats.kstest(drawn.flatten().numpy(), stats.gamma(alpha).cdf).pvalue > 2e-5
    assert torch.equal(drawn, module.standard_gamma(shape, torch.Generator().manual_seed(5)))
    assert not torch.equal(drawn, module.standard_gamma(shape, seeded))


def test_small_shapes_are_drawn_through_the_fallback_too(monkeypatch):
    break_gamma(monkeypatch, "absent")
    alpha = torch.full((4000,), 0.3, dtype=torch.float64)
    drawn = conjugate._log_gamma_draw(alpha, torch.Generator().manual_seed(0)).exp().numpy()
    assert stats.kstest(drawn, stats.gamma(0.3).cdf).pvalue > 2e-5


def test_they_are_called_in_one_place():
    root = Path(__file__).parents[2]
    packages = ("sbp_bayes", "toy_worlds", "experiments", "paper_figures")
    private = re.compile(
        r"torch(\.\w+)*\._(?!_version__)\w|torch\.ops\b|from torch[\w.]*\._|import torch[\w.]*\._"
    )
    users = {
        path.relative_to(root).as_posix()
        for package in packages
        for path in (root / package).rglob("*.py")
        if private.search(path.read_text(encoding="utf-8"))
    }
    assert users == {"sbp_bayes/base/operators.py"}
