"""The pure functions of a block, with gradients by hand where that saves passes over memory.

Eager PyTorch runs one kernel per product and keeps each result for the backward pass; the norms here
keep x / rms(x) and 1 / rms(x) alone, and positions turn whole rows as complex numbers.

Shapes: B rows, T time, D width, J heads side by side, E head width, F hidden width.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sbp_bayes.lm.config import RopeScaling


def rms_norm(x_BTD: Tensor, gain_D: Tensor, eps: float) -> Tensor:
    """Return x / √(mean(x²) + eps) · gain, the mean over the last dimension."""
    return _RmsNorm.apply(x_BTD, gain_D, eps)


def norm_and_rotate(x_BTJE: Tensor, gain_JE: Tensor, turns_TJE: Tensor, eps: float) -> Tensor:
    """Return every head RMS-normalised, scaled by its gain and turned by its position's angles.

    Args:
        x_BTJE: queries and keys, all heads side by side.
        gain_JE: each head's gain.
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


def linear(x_BTD: Tensor, weight_FD: Tensor, matmul_dtype: torch.dtype | None) -> Tensor:
    """Return x weightᵀ in x's type; the factors of it and of its gradients are rounded to `matmul_dtype`."""
    if matmul_dtype is None:
        return x_BTD @ weight_FD.T
    return _RoundedLinear.apply(x_BTD, weight_FD, matmul_dtype)


def swiglu(gate_up_BTF: Tensor) -> Tensor:
    """Return silu(gate) · up of the two halves of the last dimension (arXiv 2002.05202)."""
    gate, up = gate_up_BTF.chunk(2, dim=-1)
    return F.silu(gate) * up


def _normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    inverse_rms = torch.linalg.vecdot(x, x).div_(x.shape[-1]).add_(eps).rsqrt_()[..., None]
    return x * inverse_rms, inverse_rms


def _normalise_backward(d_unit: Tensor, unit: Tensor, inverse_rms: Tensor) -> Tensor:
    """∂/∂x of x / rms(x): the part of d_unit along x drops out."""
    along = torch.linalg.vecdot(d_unit, unit).div_(unit.shape[-1])[..., None]
    return torch.addcmul(d_unit, unit, along, value=-1).mul_(inverse_rms)


def _turn(x_BTJE: Tensor, turns: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x_BTJE.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain_D: Tensor, eps: float) -> Tensor:
        unit, inverse_rms = _normalise(x, eps)
        ctx.save_for_backward(unit, inverse_rms, gain_D)
        return unit * gain_D

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, inverse_rms, gain_D = ctx.saved_tensors
        d_gain_D = (d_out * unit).flatten(0, -2).sum(dim=0)
        return _normalise_backward(d_out * gain_D, unit, inverse_rms), d_gain_D, None


class _NormAndRotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTJE: Tensor, gain_JE: Tensor, turns: Tensor, eps: float) -> Tensor:
        unit, inverse_rms = _normalise(x_BTJE, eps)
        ctx.save_for_backward(unit, inverse_rms, gain_JE, turns)
        return _turn(unit * gain_JE, turns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, None, None]:
        unit, inverse_rms, gain_JE, turns = ctx.saved_tensors
        d_scaled = _turn(d_out.contiguous(), turns.conj().resolve_conj())
        d_gain_JE = (d_scaled * unit).sum(dim=(0, 1))
        return _normalise_backward(d_scaled * gain_JE, unit, inverse_rms), d_gain_JE, None, None


class _RoundedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, weight_FD: Tensor, dtype: torch.dtype) -> Tensor:
        x_ND, weight_FD = x_BTD.flatten(0, -2).to(dtype), weight_FD.to(dtype)
        ctx.save_for_backward(x_ND, weight_FD)
        return (x_ND @ weight_FD.T).to(x_BTD.dtype).unflatten(0, x_BTD.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, None]:
        x_ND, weight_FD = ctx.saved_tensors
        d_out_NF = d_out.flatten(0, -2).to(x_ND.dtype)
        d_x_ND, d_weight_FD = d_out_NF @ weight_FD, d_out_NF.T @ x_ND
        return d_x_ND.to(d_out.dtype).unflatten(0, d_out.shape[:-1]), d_weight_FD.to(d_out.dtype), None
