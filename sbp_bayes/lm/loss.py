"""Cross entropy of a linear head, in chunks that never hold all logits.

Shapes: N positions, C positions of a chunk, D width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sbp_bayes.base.records import IGNORE

CHUNK = 512
"""Positions whose logits exist at once: 4 MB at 2,048 tokens, within a core's caches."""


def linear_cross_entropy(
    hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, matmul_dtype: torch.dtype | None = None
) -> Tensor:
    """Return −Σ log softmax(hidden headᵀ)[target] in nats, a scalar.

    Positions whose target is `IGNORE` add nothing and cost nothing. The gradient is computed with
    the value, chunk by chunk, so a graph holds (N, D) and (V, D) but never (N, V).

    Args:
        hidden_ND: hidden states.
        head_VD: the head's matrix.
        targets_N: token ids, or `IGNORE`.
        matmul_dtype: type to which factors of products are rounded; None leaves them as they are.
    """
    kept_N = targets_N != IGNORE
    if not kept_N.all():
        hidden_ND, targets_N = hidden_ND[kept_N], targets_N[kept_N]
    if torch.is_grad_enabled() and (hidden_ND.requires_grad or head_VD.requires_grad):
        return _LinearCrossEntropy.apply(hidden_ND, head_VD, targets_N, matmul_dtype or hidden_ND.dtype)
    return token_losses(hidden_ND, head_VD, targets_N).sum(dtype=torch.float64).to(hidden_ND.dtype)


@torch.no_grad()
def token_losses(hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Return −log P(target) in nats for each position, (N,); every target must be a token id."""
    losses_N = torch.empty_like(hidden_ND[:, 0])
    for chunk in _chunks(len(targets_N)):
        _, losses_N[chunk] = _probabilities(hidden_ND[chunk] @ head_VD.T, targets_N[chunk])
    return losses_N


def _chunks(num_positions: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, num_positions, CHUNK)]


def _probabilities(logits_CV: Tensor, targets_C: Tensor) -> tuple[Tensor, Tensor]:
    """Turn logits, in their own memory, into P(token); return it and −log P(target), (C,)."""
    logits_CV -= logits_CV.amax(dim=1, keepdim=True)
    target_logits_C = logits_CV.gather(1, targets_C[:, None])[:, 0]
    masses_CV = logits_CV.exp_()
    total_C = masses_CV.sum(dim=1)
    return masses_CV.div_(total_C[:, None]), total_C.log() - target_logits_C


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of cross entropies with ∂/∂logits = softmax − onehot, multiplied back at once."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, dtype: torch.dtype
    ) -> Tensor:
        d_hidden_ND, d_head_VD = torch.empty_like(hidden_ND), torch.zeros_like(head_VD)
        total = hidden_ND.new_zeros((), dtype=torch.float64)
        rounded_ND, rounded_VD = hidden_ND.to(dtype), head_VD.to(dtype)
        for chunk in _chunks(len(targets_N)):
            targets_C = targets_N[chunk]
            logits_CV = (rounded_ND[chunk] @ rounded_VD.T).to(hidden_ND.dtype)
            probs_CV, losses_C = _probabilities(logits_CV, targets_C)
            total += losses_C.sum(dtype=torch.float64)
            probs_CV[torch.arange(len(targets_C)), targets_C] -= 1.0
            d_logits_CV = probs_CV.to(dtype)
            d_hidden_ND[chunk] = d_logits_CV @ rounded_VD
            d_head_VD += d_logits_CV.T @ rounded_ND[chunk]
        ctx.save_for_backward(d_hidden_ND, d_head_VD)
        return total.to(hidden_ND.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_total: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_hidden_ND, d_head_VD = ctx.saved_tensors
        return d_hidden_ND * d_total, d_head_VD * d_total, None, None
