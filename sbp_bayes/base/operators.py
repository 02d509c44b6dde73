"""Private operators of PyTorch, each with public ones that take its place where it is absent or wrong.

A private operator may change or vanish with any release. So each is tried once on a few numbers, and where it
is not there, raises or errs, the public operators compute the same, more slowly.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def int8_products(first_QD: Tensor, second_LD: Tensor, out_QL: Tensor) -> None:
    """Write the exact products first · secondᵀ of int8 matrices to `out_QL`, int32."""
    if first_QD.shape[1] > 1 and _multiplies_int8():  # of one column it takes the transpose for a row
        torch._int_mm(first_QD, second_LD.T, out=out_QL)
    else:
        torch.mm(first_QD.int(), second_LD.T.int(), out=out_QL)


def packed_product(weight_FD: Tensor) -> Callable[[Tensor], Tensor] | None:
    """Return x → x weightᵀ with the float32 weight laid out for oneDNN; None where that cannot be."""
    return _packed(weight_FD) if _packs_weights() else None


def silu_gradient(d_out: Tensor, x: Tensor, out: Tensor) -> None:
    """Write the gradient of silu(x) = x · sigmoid(x), for the gradient `d_out` of its result, to `out`."""
    if _differentiates_silu():
        torch.ops.aten.silu_backward.grad_input(d_out, x, grad_input=out)
    else:
        gate = torch.sigmoid(x)
        out.copy_(d_out * gate * (1 + x * (1 - gate)))


def standard_gamma(alpha: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from Gamma(alpha, 1), of the shape of `alpha`; the public road draws other numbers alike."""
    if hasattr(torch, "_standard_gamma"):
        return torch._standard_gamma(alpha, generator=generator)
    import numpy as np

    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    drawn = np.random.Generator(np.random.Philox(seed)).standard_gamma(alpha.numpy())
    return torch.as_tensor(drawn, dtype=alpha.dtype)


def _packed(weight_FD: Tensor) -> Callable[[Tensor], Tensor]:
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight_FD.detach())
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, laid_out, None, "none", [], "")


def _agrees(private: Callable[[], Tensor], public: Callable[[], Tensor]) -> bool:
    """Whether the private operator is there and gives what public ones do, but for rounding."""
    try:
        return torch.allclose(private(), public(), rtol=1e-4, atol=1e-5)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False


@functools.cache
def _multiplies_int8() -> bool:
    first, second = torch.arange(-64, 64, dtype=torch.int8).reshape(2, 4, 16)
    return _agrees(lambda: torch._int_mm(first, second.T), lambda: first.int() @ second.T.int())


@functools.cache
def _packs_weights() -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    weight, x = torch.linspace(-1, 1, 96).reshape(6, 16), torch.linspace(-2, 1, 64).reshape(4, 16)
    with torch.no_grad():
        return _agrees(lambda: _packed(weight)(x), lambda: F.linear(x, weight))


@functools.cache
def _differentiates_silu() -> bool:
    x, d_out = torch.linspace(-3, 3, 16), torch.linspace(1, 2, 16)

    def private() -> Tensor:
        out = torch.empty_like(x)
        torch.ops.aten.silu_backward.grad_input(d_out, x, grad_input=out)
        return out

    def public() -> Tensor:
        gate = torch.sigmoid(x)
        return d_out * gate * (1 + x * (1 - gate))

    return _agrees(private, public)
