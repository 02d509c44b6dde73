"""Causal attention within segments.

Shapes: B rows, T time (S as keys), H query heads, G key-value heads (H a multiple of G), E head width.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

QUERY_BLOCK = 64
"""Queries that share one call: a block reads no key after its last query, which leaves out nearly half
of the products at no cost in exactness."""


def causal_mask(num_positions: int, segments_BT: Tensor | None = None) -> Tensor:
    """Return the additive mask (B, 1, T, S), float32: 0 where position t may read s, else −inf.

    A position reads itself and the earlier positions of its own segment; without segments a row is
    one segment and B is 1.
    """
    may_read = torch.ones(1, num_positions, num_positions, dtype=torch.bool).tril()
    if segments_BT is not None:
        may_read = may_read & (segments_BT[:, :, None] == segments_BT[:, None, :])
    return torch.zeros(may_read.shape).masked_fill_(~may_read, -math.inf)[:, None]


def attention(q_BHTE: Tensor, k_BGSE: Tensor, v_BGSE: Tensor, mask_B1TS: Tensor) -> Tensor:
    """Return softmax(q kᵀ / √E + mask) v, of shape (B, H, T, E), for causal masks.

    Args:
        q_BHTE: queries.
        k_BGSE: keys at the queries' positions; query head h reads head h // (H / G).
        v_BGSE: values.
        mask_B1TS: additive mask from `causal_mask`.
    """
    mask_B1TS = mask_B1TS.to(q_BHTE.dtype)
    num_positions = q_BHTE.shape[2]
    mixed = []
    for start in range(0, num_positions, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, num_positions)
        mixed.append(
            F.scaled_dot_product_attention(
                q_BHTE[:, :, start:end],
                k_BGSE[:, :, :end],
                v_BGSE[:, :, :end],
                attn_mask=mask_B1TS[:, :, start:end, :end],
                enable_gqa=q_BHTE.shape[1] != k_BGSE.shape[1],
            )
        )
    return torch.cat(mixed, dim=2)


def reference_attention(q_BHTE: Tensor, k_BGSE: Tensor, v_BGSE: Tensor, mask_B1TS: Tensor) -> Tensor:
    """The same as `attention`, written out in float64: the second road that tests compare with."""
    shared = q_BHTE.shape[1] // k_BGSE.shape[1]
    q, k, v = q_BHTE.double(), k_BGSE.double(), v_BGSE.double()
    k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
    scores_BHTS = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return (scores_BHTS + mask_B1TS).softmax(dim=-1) @ v
