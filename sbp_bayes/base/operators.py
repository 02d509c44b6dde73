"""The operators of torch that are not public: the one place where they are called.

They are faster than what is public, and may be gone, renamed or wrong in another build. So each is tried on a
small case before its first use; where it is absent, fails or gives another result, what is public computes
the same, and a warning says so once.
"""

import functools
import logging
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Product = Callable[[Tensor], Tensor]


def packed_product(weight_FD: Tensor) -> Product:
    """Return x → x weightᵀ, float32 on a processor, with the matrix laid out beforehand by oneDNN.

    A row's result has equal bits whatever the other rows are. No public product promises that: ask
    `packs_weights` first.
    """
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight_FD.detach())
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, laid_out, None, "none", [], "")


def int8_products(left_QD: Tensor, right_LD: Tensor, out_QL: Tensor) -> None:
    """Write left rightᵀ, int8 factors on a processor, to `out_QL`, int32; exact for widths below 2¹⁷."""
    # The operator takes a transposed column for a row.
    if left_QD.shape[1] > 1 and _multiplies_int8():
        torch._int_mm(left_QD, right_LD.T, out=out_QL)
    else:
        out_QL.copy_(left_QD.double() @ right_LD.double().T)


def silu_gradient(d_out: Tensor, x: Tensor, out: Tensor) -> None:
    """Write ∂/∂x of silu(x) = x σ(x), times `d_out`, to `out`; a compiler gets the formula, to fuse it."""
    if torch.compiler.is_compiling() or not _differentiates_silu():
        sigmoid = x.to(torch.promote_types(x.dtype, torch.float32)).sigmoid()
        out.copy_(d_out * sigmoid * (1 + x * (1 - sigmoid)))
    else:
        torch.ops.aten.silu_backward.grad_input(d_out, x, grad_input=out)


def standard_gamma(alpha: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from Gamma(α, 1), α ≥ 1, float64, by Marsaglia and Tsang 2000; others without the operator."""
    if _draws_gamma():
        return torch._standard_gamma(alpha, generator=generator)
    d = alpha - 1 / 3
    drawn, waiting = torch.empty_like(d), torch.ones_like(d, dtype=torch.bool)
    while waiting.any():
        normal = torch.randn(d.shape, dtype=d.dtype, generator=generator)
        log_uniform = torch.rand(d.shape, dtype=d.dtype, generator=generator).neg().log1p()
        cube = (1 + normal / (9 * d).sqrt()) ** 3
        accepted = log_uniform < normal**2 / 2 + d * (1 - cube + cube.clamp(min=0).log())
        drawn = torch.where(waiting & accepted, d * cube, drawn)
        waiting &= ~accepted
    return drawn


def _tried(name: str) -> Callable[[Callable[[], bool]], Callable[[], bool]]:
    """Make a check of an operator one that is done once, and that fails where the operator does."""

    def decorate(check: Callable[[], bool]) -> Callable[[], bool]:
        @functools.cache
        def tried() -> bool:
            try:
                reason = "" if check() else "its results are wrong"
            except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                reason = " ".join(str(error).split())
            if reason:
                message = "torch's %s is not used, what is public stands in: %s"
                logging.getLogger(__name__).warning(message, name, reason)
            return not reason

        return tried

    return decorate


@_tried("mkldnn._linear_pointwise")
@torch.no_grad()
def packs_weights() -> bool:
    """Tell whether `packed_product` runs here, and multiplies rightly."""
    x, weight = _numbers(5, 24), _numbers(40, 24)
    return torch.allclose(packed_product(weight)(x), x @ weight.T, rtol=1e-5, atol=1e-5)


@_tried("_int_mm")
def _multiplies_int8() -> bool:
    for width in (2, 64, 100):
        left, right = (_numbers(rows, width).mul(60).clamp(-127, 127).to(torch.int8) for rows in (3, 37))
        left[0], right[0] = 127, -127
        out = torch._int_mm(left, right.T, out=torch.empty(3, 37, dtype=torch.int32))
        if not torch.equal(out.double(), left.double() @ right.double().T):
            return False
    return True


@_tried("aten.silu_backward")
@torch.enable_grad()
def _differentiates_silu() -> bool:
    x, d_out = _numbers(3, 40).requires_grad_(), _numbers(3, 40).flip(0)
    (expected,) = torch.autograd.grad(F.silu(x), x, d_out)
    out = torch.empty_like(expected)
    torch.ops.aten.silu_backward.grad_input(d_out, x.detach(), grad_input=out)
    return torch.allclose(out, expected, rtol=1e-5, atol=1e-6)


@_tried("_standard_gamma")
def _draws_gamma() -> bool:
    """Draws have the mean α and the variance α, within 6 standard errors, and are the generator's."""
    alpha = torch.full((4096,), 2.0, dtype=torch.float64)
    seeded = (torch.Generator().manual_seed(1) for _ in range(2))
    drawn, again = (torch._standard_gamma(alpha, generator=generator) for generator in seeded)
    mean, variance = float(drawn.mean()), float(drawn.var())
    # Standard errors √(α / n), and √((3α² + 6α − α²) / n) by the fourth central moment 3α² + 6α.
    is_gamma = abs(mean - 2) < 6 * (2 / 4096) ** 0.5 and abs(variance - 2) < 6 * (20 / 4096) ** 0.5
    return is_gamma and bool((drawn > 0).all()) and torch.equal(drawn, again)


def _numbers(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))
