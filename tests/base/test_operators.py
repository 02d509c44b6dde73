"""Private operators of PyTorch: their public stand-ins are taken where they fail, and compute the same."""

from collections.abc import Callable, Iterator

import pytest
import scipy.stats
import torch
from torch.nn import functional as F

from sbp_bayes.base import operators
from sbp_bayes.lm import PRESETS, Transformer
from sbp_bayes.lm.frozen import FrozenTransformer, freeze
from sbp_bayes.pairing import nearest_neighbours


def absent(*_: object, **__: object) -> None:
    raise AttributeError("no such operator")


def refused(*_: object, **__: object) -> None:
    raise NotImplementedError("not on this processor")


def wrong(first: torch.Tensor, second: torch.Tensor, **_: object) -> torch.Tensor:
    return torch.zeros(len(first), second.shape[1], dtype=torch.int32)


@pytest.fixture(autouse=True)
def tried_anew() -> Iterator[None]:
    tried = (operators._multiplies_int8, operators._packs_weights, operators._differentiates_silu)
    for check in tried:
        check.cache_clear()
    yield
    for check in tried:
        check.cache_clear()


def integers(rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-128, 128, (rows, columns), generator=generator).to(torch.int8)


@pytest.mark.parametrize("width", [1, 3, 64, 1000])
@pytest.mark.parametrize("operator", [None, absent, refused, wrong])
def test_integer_products_are_exact(
    operator: Callable | None, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if operator is not None:
        monkeypatch.setattr(torch, "_int_mm", operator)
    first, second = integers(5, width, 0), integers(7, width, 1)
    out = torch.empty(5, 7, dtype=torch.int32)
    operators.int8_products(first, second, out)
    assert torch.equal(out.long(), first.long() @ second.long().T)
    assert operators._multiplies_int8() == (operator is None)


def test_neighbours_are_the_same_without_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = torch.randn(300, 24, generator=torch.Generator().manual_seed(0)).numpy()
    expected = nearest_neighbours(vectors, 4)
    operators._multiplies_int8.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", absent)
    for found, known in zip(nearest_neighbours(vectors, 4), expected, strict=True):
        assert (found == known).all()


def test_a_model_is_used_as_it_is_where_weights_cannot_be_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Transformer(PRESETS["smoke"])
    tokens = torch.arange(20).reshape(2, 10)
    with torch.no_grad():
        expected = model(tokens)
        frozen = freeze(model)
        assert isinstance(frozen, FrozenTransformer) == torch.backends.mkldnn.is_available()
        torch.testing.assert_close(frozen(tokens), expected, rtol=1e-5, atol=1e-5)
        operators._packs_weights.cache_clear()
        monkeypatch.setattr(operators, "_packed", absent)
        assert freeze(model) is model


@pytest.mark.parametrize("is_there", [True, False])
def test_the_gradient_of_silu(is_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_there:
        monkeypatch.setattr(operators, "_differentiates_silu", lambda: False)
    x = torch.linspace(-20, 20, 101, dtype=torch.float64, requires_grad=True)
    d_out = torch.linspace(-1, 2, 101, dtype=torch.float64)
    (expected,) = torch.autograd.grad(F.silu(x), x, d_out)
    out = torch.empty(101, dtype=torch.float64)
    operators.silu_gradient(d_out, x.detach(), out)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("is_there", [True, False])
def test_gamma_draws_follow_their_law(is_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 draws each, Kolmogorov and Smirnov: p > 2e-5."""
    if not is_there:
        monkeypatch.delattr(torch, "_standard_gamma")
    for shape in (1.001, 3.7):
        alpha = torch.full((20_000,), shape, dtype=torch.float64)
        drawn = operators.standard_gamma(alpha, torch.Generator().manual_seed(0))
        again = operators.standard_gamma(alpha, torch.Generator().manual_seed(0))
        assert drawn.dtype == torch.float64
        assert torch.equal(drawn, again)
        assert scipy.stats.kstest(drawn.numpy(), scipy.stats.gamma(shape).cdf).pvalue > 2e-5


def test_private_operators_have_one_place() -> None:
    from pathlib import Path

    package = Path(operators.__file__).parents[1]
    private = ("torch._", "torch.ops")
    users = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if any(name in path.read_text(encoding="utf-8") for name in private)
    }
    assert users == {"base/operators.py"}
