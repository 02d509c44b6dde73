"""Cross entropy of a linear head, in chunks that never hold all logits.

Shapes: N positions, C positions of a chunk, D width, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from sbp_bayes.base.records import IGNORE
from sbp_bayes.lm.buffers import contiguous, empty_like, product

CHUNK = 512
"""Positions whose logits exist at once: 4 MB at 2,048 tokens, within a core's caches."""


def linear_cross_entropy(
    hidden_ND: Float[Tensor, "N D"],
    head_VD: Float[Tensor, "V D"],
    targets_N: Int64[Tensor, " N"],
    matmul_dtype: torch.dtype | None = None,
) -> Float[Tensor, ""]:
    """Return −Σ log softmax(hidden headᵀ)[target] in nats, a scalar.

    Positions whose target is `IGNORE` add nothing and cost nothing. The gradient is computed with
    the value, chunk by chunk, so a graph holds (N, D) and (V, D) but never (N, V).

    Args:
        hidden_ND: hidden states.
        head_VD: the head's matrix.
        targets_N: token ids, or `IGNORE`.
        matmul_dtype: type to which factors of products are rounded; None leaves them as they are.
    """
    if torch.is_grad_enabled() and (hidden_ND.requires_grad or head_VD.requires_grad):
        return regularised_cross_entropy(hidden_ND, head_VD, targets_N, matmul_dtype)[0]
    hidden_ND, targets_N = _with_targets(hidden_ND, targets_N)
    losses_N = token_losses(hidden_ND, lambda hidden: hidden @ head_VD.T, targets_N)
    return losses_N.sum(dtype=torch.float64).to(hidden_ND.dtype)


def regularised_cross_entropy(
    hidden_ND: Float[Tensor, "N D"],
    head_VD: Float[Tensor, "V D"],
    targets_N: Int64[Tensor, " N"],
    matmul_dtype: torch.dtype | None = None,
    z_loss: float = 0.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the cross entropy + z_loss · Σ (log Z)², and without gradient the cross entropy, in nats.

    Z = Σ exp(logits) of a position: the second term (arXiv 2204.02311, section 5) keeps logits from
    drifting. See `linear_cross_entropy` for the other arguments.
    """
    hidden_ND, targets_N = _with_targets(hidden_ND, targets_N)
    dtype = matmul_dtype or hidden_ND.dtype
    return _LinearCrossEntropy.apply(hidden_ND, head_VD, targets_N, dtype, z_loss)


@torch.no_grad()
def token_losses(
    hidden_ND: Float[Tensor, "N D"], logits: Callable[[Tensor], Tensor], targets_N: Int64[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """Return −log P(target) in nats for each position, (N,); every target must be a token id.

    `logits` are those of hidden states, (C, D) → (C, V), in memory of their own.
    """
    losses_N = torch.empty_like(hidden_ND[:, 0])
    for chunk in _chunks(len(targets_N)):
        _, losses_N[chunk], _ = _probabilities(logits(hidden_ND[chunk]), targets_N[chunk])
    return losses_N


def _with_targets(hidden_ND: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    kept_N = targets_N != IGNORE
    return (hidden_ND, targets_N) if kept_N.all() else (hidden_ND[kept_N], targets_N[kept_N])


def _chunks(num_positions: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, num_positions, CHUNK)]


def _probabilities(logits_CV: Tensor, targets_C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Turn logits, in their own memory, into P(token); return it, −log P(target) and log Z, both (C,)."""
    highest_C1 = logits_CV.amax(dim=1, keepdim=True)
    logits_CV -= highest_C1
    target_logits_C = logits_CV.gather(1, targets_C[:, None])[:, 0]
    masses_CV = logits_CV.exp_()
    total_C = masses_CV.sum(dim=1)
    log_total_C = total_C.log()
    probs_CV = masses_CV.div_(total_C[:, None])
    return probs_CV, log_total_C - target_logits_C, log_total_C + highest_C1[:, 0]


class _LinearCrossEntropy(torch.autograd.Function):
    """Sums with ∂/∂logits = softmax · (1 + 2 · z_loss · log Z) − onehot, multiplied back at once."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd calls it by position
        ctx: Any, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, dtype: torch.dtype, z_loss: float
    ) -> tuple[Tensor, Tensor]:
        d_hidden_ND, d_head_VD = empty_like(hidden_ND), empty_like(head_VD).zero_()
        nats, penalty = hidden_ND.new_zeros((2,), dtype=torch.float64)
        rounded_ND, rounded_VD = contiguous(hidden_ND, dtype), contiguous(head_VD, dtype)
        for chunk in _chunks(len(targets_N)):
            targets_C = targets_N[chunk]
            logits_CV = contiguous(product(rounded_ND[chunk], rounded_VD.T), hidden_ND.dtype)
            probs_CV, losses_C, log_z_C = _probabilities(logits_CV, targets_C)
            nats += losses_C.sum(dtype=torch.float64)
            if z_loss:
                penalty += z_loss * log_z_C.square().sum(dtype=torch.float64)
                probs_CV *= (1.0 + 2.0 * z_loss * log_z_C)[:, None]
            probs_CV[torch.arange(len(targets_C)), targets_C] -= 1.0
            d_logits_CV = contiguous(probs_CV, dtype)
            d_hidden_ND[chunk] = product(d_logits_CV, rounded_VD)
            d_head_VD += product(d_logits_CV.T, rounded_ND[chunk])
        ctx.save_for_backward(d_hidden_ND, d_head_VD)
        loss, nats = (nats + penalty).to(hidden_ND.dtype), nats.to(hidden_ND.dtype, copy=True)
        ctx.mark_non_differentiable(nats)
        return loss, nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        d_hidden_ND, d_head_VD = ctx.saved_tensors
        return d_hidden_ND * d_loss, d_head_VD * d_loss, None, None, None
