"""The pure functions of a block, with gradients by hand where that saves passes over memory.

Eager PyTorch runs one kernel an operation and keeps each result for the backward pass. Here a norm and the
product behind it are one function, whose gain multiplies the matrix instead of every position, and what
lies between two products is kept in the products' own type.

Shapes: B rows, T time, D width, J heads side by side, E head width, F hidden width.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sbp_bayes.base.operators import silu_gradient
from sbp_bayes.lm.buffers import LARGE, contiguous, empty_like, product
from sbp_bayes.lm.config import RopeScaling


def rms_norm(x_BTD: Tensor, gain_D: Tensor, eps: float) -> Tensor:
    """Return x / √(mean(x²) + eps) · gain, the mean over the last dimension."""
    return _RmsNorm.apply(x_BTD, gain_D, eps)


def normalise(x_BTD: Tensor, eps: float) -> Tensor:
    """Return x / √(mean(x²) + eps), without a gradient by hand."""
    return x_BTD * _inverse_rms(x_BTD, eps)


def norm_linear(
    x_BTD: Tensor,
    gain_D: Tensor,
    weight_FD: Tensor,
    eps: float,
    matmul_dtype: torch.dtype | None,
) -> Tensor:
    """Return rms_norm(x, gain) weightᵀ.

    While gradients are recorded, the factors of all products are rounded to `matmul_dtype`, and so is the
    result; None keeps x's type. Without gradients nothing is rounded. The same holds for `linear` and
    `swiglu_linear`.
    """
    if not torch.is_grad_enabled():
        return rms_norm(x_BTD, gain_D, eps) @ weight_FD.T
    return _NormLinear.apply(x_BTD, gain_D, weight_FD, eps, matmul_dtype or x_BTD.dtype)


def linear(x_BTD: Tensor, weight_FD: Tensor, matmul_dtype: torch.dtype | None) -> Tensor:
    """Return x weightᵀ, rounded as in `norm_linear`."""
    if not torch.is_grad_enabled():
        return x_BTD @ weight_FD.T
    return _Linear.apply(x_BTD, weight_FD, matmul_dtype or x_BTD.dtype)


def swiglu_linear(gate_up_BTF: Tensor, weight_DF: Tensor, matmul_dtype: torch.dtype | None) -> Tensor:
    """Return (silu(gate) · up) weightᵀ of the two halves of the last dimension (arXiv 2002.05202)."""
    if not torch.is_grad_enabled():
        gate, up = gate_up_BTF.chunk(2, dim=-1)
        return (F.silu(gate) * up) @ weight_DF.T
    return _SwigluLinear.apply(gate_up_BTF, weight_DF, matmul_dtype or gate_up_BTF.dtype)


def norm_and_rotate(x_BTJE: Tensor, gain_JE: Tensor, turns_TJE: Tensor, eps: float) -> Tensor:
    """Return every head RMS-normalised, scaled by its gain and turned by its position's angles, in x's type.

    Args:
        x_BTJE: queries and keys, all heads side by side.
        gain_JE: each head's gain; what is computed has its type.
        turns_TJE: complex exponentials e^(i·angle), (T, J, E/2) or (B, T, J, E/2), from
            `rotary_table`; coordinates 2i and 2i + 1 are the real and imaginary part that turn i turns.
        eps: added to the mean square.
    """
    return _NormAndRotate.apply(x_BTJE, gain_JE, turns_TJE, eps)


def rotary_frequencies(head_width: int, theta: float, scaling: RopeScaling | None = None) -> Tensor:
    """Return the angles by which one position turns the pairs of a head, θ^(−2j/E), float64 (E/2,).

    Rotary positions: Su et al., arXiv 2104.09864, equation 13; `scaling` stretches the long wavelengths.
    """
    exponents = torch.arange(0, head_width, 2, dtype=torch.float64) / head_width
    frequencies = theta**-exponents
    if scaling is None:
        return frequencies
    turns = scaling.original_context_length * frequencies / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (kept + (1 - kept) / scaling.factor)


def rotary_table(num_positions: int, frequencies: Tensor) -> Tensor:
    """Return e^(i · position · frequency), complex64 (T, E/2), computed in float64."""
    angles = torch.arange(num_positions, dtype=torch.float64)[:, None] * frequencies
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    return _inner(x, x).div_(x.shape[-1]).add_(eps).rsqrt_()


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """Return Σ x · y over the last dimension, (…, 1)."""
    if x.nbytes < LARGE:  # what follows does the same, and more slowly the small tensors of decoding
        return torch.linalg.vecdot(x, y)[..., None]
    return torch.mul(x, y, out=empty_like(x)).sum(dim=-1, keepdim=True)


def _through_norm(d_unit: Tensor, unit: Tensor, inverse_rms: Tensor) -> Tensor:
    """∂/∂x of x / rms(x), in d_unit's memory: the part of d_unit along x drops out."""
    along = _inner(d_unit, unit).div_(-unit.shape[-1])
    return d_unit.addcmul_(unit, along).mul_(inverse_rms)


def _turn_(x_BTJE: Tensor, turns: Tensor) -> Tensor:
    """Turn pairs of coordinates in their own memory."""
    torch.view_as_complex(x_BTJE.unflatten(-1, (-1, 2))).mul_(turns)
    return x_BTJE


def _weight_gradient(d_out: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    return contiguous(product(d_out.flatten(0, -2).T, x.flatten(0, -2)), dtype)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain_D: Tensor, eps: float) -> Tensor:
        inverse_rms = _inverse_rms(x, eps)
        unit = torch.mul(x, inverse_rms, out=empty_like(x))
        ctx.save_for_backward(unit, inverse_rms, gain_D)
        return unit * gain_D

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, inverse_rms, gain_D = ctx.saved_tensors
        d_gain_D = (d_out * unit).flatten(0, -2).sum(dim=0)
        return _through_norm(d_out * gain_D, unit, inverse_rms), d_gain_D, None


class _NormLinear(torch.autograd.Function):
    """(x / rms(x)) · (weight · gain)ᵀ: both gradients of the right factor come from one product."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd calls it by position
        ctx: Any, x: Tensor, gain_D: Tensor, weight_FD: Tensor, eps: float, dtype: torch.dtype
    ) -> Tensor:
        inverse_rms = _inverse_rms(x, eps)
        unit = torch.mul(x, inverse_rms, out=empty_like(x, dtype=dtype))
        scaled_FD = torch.mul(weight_FD, gain_D, out=empty_like(weight_FD, dtype=dtype))
        ctx.save_for_backward(unit, inverse_rms, gain_D, weight_FD, scaled_FD)
        return product(unit, scaled_FD.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        unit, inverse_rms, gain_D, weight_FD, scaled_FD = ctx.saved_tensors
        d_scaled_FD = _weight_gradient(d_out, unit, weight_FD.dtype)
        d_unit = contiguous(product(d_out, scaled_FD), inverse_rms.dtype)
        d_x = _through_norm(d_unit, contiguous(unit, inverse_rms.dtype), inverse_rms)
        d_gain_D = (d_scaled_FD * weight_FD).sum(dim=0)
        return d_x, d_gain_D, d_scaled_FD.mul_(gain_D), None, None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_FD: Tensor, dtype: torch.dtype) -> Tensor:
        rounded, rounded_FD = contiguous(x, dtype), contiguous(weight_FD, dtype)
        ctx.save_for_backward(rounded, rounded_FD)
        ctx.dtypes = x.dtype, weight_FD.dtype
        return product(rounded, rounded_FD.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, None]:
        rounded, rounded_FD = ctx.saved_tensors
        dtype, weight_dtype = ctx.dtypes
        d_x = contiguous(product(d_out, rounded_FD), dtype)
        return d_x, _weight_gradient(d_out, rounded, weight_dtype), None


class _SwigluLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, weight_DF: Tensor, dtype: torch.dtype) -> Tensor:
        gate_up, rounded_DF = contiguous(gate_up, dtype), contiguous(weight_DF, dtype)
        gate, up = gate_up.chunk(2, dim=-1)
        hidden = F.silu(empty_like(gate).copy_(gate), inplace=True).mul_(up)
        ctx.save_for_backward(gate_up, hidden, rounded_DF)
        ctx.weight_dtype = weight_DF.dtype
        return product(hidden, rounded_DF.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, None]:
        gate_up, hidden, rounded_DF = ctx.saved_tensors
        d_weight_DF = _weight_gradient(d_out, hidden, ctx.weight_dtype)
        d_hidden, d_gate_up = product(d_out, rounded_DF), empty_like(gate_up)
        (gate, up), (d_gate, d_up) = gate_up.chunk(2, dim=-1), d_gate_up.chunk(2, dim=-1)
        F.silu(d_up.copy_(gate), inplace=True).mul_(d_hidden)
        silu_gradient(d_hidden.mul_(up), gate, d_gate)
        return d_gate_up, d_weight_DF, None


class _NormAndRotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTJE: Tensor, gain_JE: Tensor, turns: Tensor, eps: float) -> Tensor:
        turned = empty_like(x_BTJE, dtype=gain_JE.dtype).copy_(x_BTJE)
        inverse_rms = _inverse_rms(turned, eps)
        ctx.save_for_backward(x_BTJE, inverse_rms, gain_JE, turns)
        return contiguous(_turn_(turned.mul_(inverse_rms).mul_(gain_JE), turns), x_BTJE.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_BTJE, inverse_rms, gain_JE, turns = ctx.saved_tensors
        d_scaled = empty_like(d_out, dtype=gain_JE.dtype).copy_(d_out)
        _turn_(d_scaled, turns.conj().resolve_conj())
        unit = torch.mul(x_BTJE, inverse_rms, out=empty_like(d_scaled))
        d_gain_JE = torch.mul(d_scaled, unit, out=empty_like(unit)).sum(dim=(0, 1))
        d_x = _through_norm(d_scaled.mul_(gain_JE), unit, inverse_rms)
        return contiguous(d_x, x_BTJE.dtype), d_gain_JE, None, None
