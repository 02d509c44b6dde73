"""Attention as matrix products on a processor: over blocks of queries, with its gradient by hand, to train;
over blocks of a cache's keys to sample.

All query heads that share keys are rows of one factor, so a block is one large product where PyTorch's own
kernel multiplies small tiles in float32. Short rows keep the weights for the backward pass; those of long
rows are computed again there, so memory grows with the length of a row, not with its square. A block reads
no key after its last query, and none before the first document that one of its queries is in.

Shapes: B rows, T time (S as keys), H query heads, G key-value heads, R = H/G query heads that share keys,
E head width, L queries of a block. Positions come before the heads that share keys, (B, G, T, R, E), so
that a block's queries lie together.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sbp_bayes.lm.buffers import contiguous, empty_like
from sbp_bayes.lm.masks import CachedMask, CausalMask

QUERIES, KEYS = 128, 128
"""Queries of a block in training, and most keys of a sum in sampling: kernels take so few in one piece."""

KEPT_LENGTH = 512
"""Longest rows whose attention weights are kept: they add a third to what the `6m` preset keeps."""


def blocked_attention(q_BHTE: Tensor, k_BGSE: Tensor, v_BGSE: Tensor, mask: CausalMask) -> Tensor:
    """Return softmax(q kᵀ / √E + mask) v (B, H, T, E); products, scores and weights have q's type."""
    return _Blocked.apply(q_BHTE, k_BGSE, v_BGSE, mask)


def cached_attention(q_BH1E: Tensor, k_BGSE: Tensor, v_BGSE: Tensor, mask: CachedMask) -> Tensor:
    """Return softmax(q kᵀ / √E + mask) v (B, H, 1, E), of one query a row.

    A sum over keys is taken `KEYS` at a time: where S is a multiple of 64, more keys that a row doesn't read
    change no bit of its result. That is not so of sums over all of a long cache, which are cut by its length.
    """
    groups, width = k_BGSE.shape[:2], q_BH1E.shape[-1]
    q = (q_BH1E * width**-0.5).view(*groups, -1, width).flatten(0, 1)
    k, v = k_BGSE.flatten(0, 1), v_BGSE.flatten(0, 1)
    scores = torch.bmm(k, q.transpose(1, 2)).transpose(1, 2).contiguous()
    weights = scores.unflatten(0, groups).add_(mask.additive).softmax(dim=-1).flatten(0, 1)
    mixed = torch.bmm(weights[:, :, :KEYS], v[:, :KEYS])
    for start in range(KEYS, mask.num_keys, KEYS):
        part = slice(start, start + KEYS)
        mixed.baddbmm_(weights[:, :, part], v[:, part])
    return mixed.view(q_BH1E.shape)


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BHTE: Tensor, k_BGSE: Tensor, v_BGSE: Tensor, mask: CausalMask) -> Tensor:
        k_BGSE, v_BGSE = contiguous(k_BGSE), contiguous(v_BGSE)
        q = _by_shared_keys(q_BHTE, k_BGSE)
        scaled_q = torch.mul(q, q_BHTE.shape[-1] ** -0.5, out=empty_like(q))
        mixed_BTHE = empty_like(q_BHTE.transpose(1, 2))
        mixed = _by_shared_keys(mixed_BTHE.transpose(1, 2), k_BGSE)
        kept = []
        for queries, keys in _blocks(mask):
            weights = _weights(scaled_q, k_BGSE, mask, queries, keys)
            mixed[:, :, queries] = _product(weights, v_BGSE[:, :, keys])
            if mask.num_positions <= KEPT_LENGTH:
                kept.append(weights)
        ctx.mask = mask
        ctx.save_for_backward(scaled_q, k_BGSE, v_BGSE, mixed_BTHE, *kept)
        return mixed_BTHE.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mixed_BHTE: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        scaled_q, k_BGSE, v_BGSE, mixed_BTHE, *kept = ctx.saved_tensors
        # Σ over keys of weight · ∂/∂weight is the same for a query's whole row.
        d_mixed_BTHE = d_mixed_BHTE.transpose(1, 2)
        along_BTH1 = torch.mul(d_mixed_BTHE, mixed_BTHE, out=empty_like(mixed_BTHE)).sum(-1, keepdim=True)
        along = _by_shared_keys(along_BTH1.transpose(1, 2), k_BGSE)
        d_mixed = contiguous(_by_shared_keys(d_mixed_BHTE, k_BGSE))
        summed = torch.promote_types(k_BGSE.dtype, torch.float32)
        d_q = empty_like(scaled_q)
        d_k, d_v = (empty_like(x, dtype=summed).zero_() for x in (k_BGSE, v_BGSE))
        for number, (queries, keys) in enumerate(_blocks(ctx.mask)):
            weights = kept[number] if kept else _weights(scaled_q, k_BGSE, ctx.mask, queries, keys)
            d_out = d_mixed[:, :, queries]
            d_v[:, :, keys] += _product_over_queries(weights, d_out)
            d_scores = _product(d_out, v_BGSE[:, :, keys].transpose(-1, -2))
            d_scores.sub_(along[:, :, queries]).mul_(weights)
            d_q[:, :, queries] = _product(d_scores, k_BGSE[:, :, keys])
            d_k[:, :, keys] += _product_over_queries(d_scores, scaled_q[:, :, queries])
        d_q_BHTE = d_q.mul_(scaled_q.shape[-1] ** -0.5).transpose(2, 3).flatten(1, 2)
        return d_q_BHTE, contiguous(d_k, k_BGSE.dtype), contiguous(d_v, v_BGSE.dtype), None


def _by_shared_keys(x_BHTE: Tensor, k_BGSE: Tensor) -> Tensor:
    """View heads (B, H, T, …) as (B, G, T, R, …)."""
    return x_BHTE.unflatten(1, (k_BGSE.shape[1], -1)).transpose(2, 3)


def _blocks(mask: CausalMask) -> Iterator[tuple[slice, slice]]:
    """Yield each block's positions, and those of the keys that it reads."""
    for start in range(0, mask.num_positions, QUERIES):
        queries = slice(start, min(start + QUERIES, mask.num_positions))
        yield queries, slice(mask.first_read[start], queries.stop)


def _weights(scaled_q: Tensor, k_BGSE: Tensor, mask: CausalMask, queries: slice, keys: slice) -> Tensor:
    """Return softmax(scores) (B, G, L, R, S), the same bits in both passes."""
    scores = _product(scaled_q[:, :, queries], k_BGSE[:, :, keys].transpose(-1, -2))
    first = keys.start if mask.hides_earlier(queries, keys) else queries.start
    hidden = mask.hidden(queries, slice(first, keys.stop))[:, :, :, None]
    scores[..., first - keys.start :].masked_fill_(hidden, -torch.inf)
    # In the scores' own memory: blocks grow along a row, so what one leaves is a hole too small for the next.
    return torch.softmax(scores, dim=-1, out=scores)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Return left (B, G, L, R, X) · right (B, G, X, Y), the L·R rows of a group in one product."""
    out = empty_like(left, shape=(*left.shape[:-1], right.shape[-1]))
    rows = out.flatten(2, 3).flatten(0, 1)
    torch.bmm(left.flatten(2, 3).flatten(0, 1), right.flatten(0, 1), out=rows)
    return out


def _product_over_queries(left: Tensor, right: Tensor) -> Tensor:
    """Return Σ over L and R of left (B, G, L, R, X) · right (B, G, L, R, Y): (B, G, X, Y)."""
    groups, (left, right) = left.shape[:2], (x.flatten(2, 3).flatten(0, 1) for x in (left, right))
    return torch.bmm(left.transpose(1, 2), right).unflatten(0, groups)
