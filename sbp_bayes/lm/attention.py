"""Attention behind one function: causal within segments, or of one new position over a cache.

A mask knows what may be read; each backend takes it in its own form. `sdpa` is PyTorch's, `blocked` matrix
products over blocks of queries, `reference` the sum written out in float64, and `xformers`
memory_efficient_attention on CUDA, where all rows are one sequence of blocks, so that no product crosses
documents. The others ask for the mask block by block, as they go, and keep none of it: over all positions
it would have T² entries a row.

Shapes: B rows, T time (S as keys), N = B·T positions, H query heads, G key-value heads (H a multiple
of G), E head width, L queries of a block.
"""

import functools
import logging
import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sbp_bayes.base.config import require_one_of
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.lm.blocked import KEPT_LENGTH, blocked_attention, cached_attention
from sbp_bayes.lm.masks import CachedMask, CausalMask, TreeMask

Backend = Literal["auto", "xformers", "sdpa", "blocked", "reference"]
"""Who computes attention; "auto" is xformers on CUDA where its operator runs, blocked on a processor for
gradients and caches, and else sdpa."""

Work = Literal["rows", "gradient", "cache"]
"""What attention is for: whole rows, whole rows with gradients, or one query a row over a cache."""

QUERY_BLOCK = 64
"""Queries that share one call: a block reads no key after its last query, which leaves out nearly half
of the products at no cost in exactness."""


@torch.compiler.disable
def attention(
    q_BHTE: Float[Tensor, "B H T E"],
    k_BGSE: Float[Tensor, "B G S E"],
    v_BGSE: Float[Tensor, "B G S E"],
    mask: CausalMask | CachedMask | TreeMask,
    backend: Backend = "auto",
) -> Float[Tensor, "B H T E"]:
    """Return softmax(q kᵀ / √E + mask) v, of shape (B, H, T, E).

    Args:
        q_BHTE: queries.
        k_BGSE: keys; query head h reads head h // (H / G).
        v_BGSE: values.
        mask: what each query may read.
        backend: who computes it.

    Raises:
        ConfigError: a backend that there is not, or that cannot run here; the message says why.
    """
    work: Work = (
        "cache" if isinstance(mask, CachedMask) else "gradient" if torch.is_grad_enabled() else "rows"
    )
    if isinstance(mask, TreeMask) and backend != "reference":
        backend = "sdpa"  # the one that takes any mask
    chosen = choose_backend(backend, q_BHTE.device, q_BHTE.dtype, q_BHTE.shape[-1], work)
    if isinstance(mask, TreeMask):
        block = reference_attention if chosen == "reference" else _sdpa
        return _over_blocks(block, q_BHTE, k_BGSE, v_BGSE, mask)
    if chosen == "xformers":
        return _xformers(q_BHTE, k_BGSE, v_BGSE, mask)
    if chosen == "blocked":
        if isinstance(mask, CachedMask):
            return cached_attention(q_BHTE, k_BGSE, v_BGSE, mask)
        return blocked_attention(q_BHTE, k_BGSE, v_BGSE, mask)
    if isinstance(mask, CachedMask):
        one_query = reference_attention if chosen == "reference" else _sdpa_one_query
        return one_query(q_BHTE, k_BGSE, v_BGSE, mask.additive.to(q_BHTE.dtype)).to(q_BHTE.dtype)
    block = reference_attention if chosen == "reference" else _sdpa
    return _over_blocks(block, q_BHTE, k_BGSE, v_BGSE, mask)


def reference_attention(
    q_BHTE: Float[Tensor, "B H T E"],
    k_BGSE: Float[Tensor, "B G S E"],
    v_BGSE: Float[Tensor, "B G S E"],
    mask_B1TS: Float[Tensor, "#B 1 T S"],
) -> Float64[Tensor, "B H T E"]:
    """The same as `attention`, written out in float64: the second road that tests compare with."""
    shared = q_BHTE.shape[1] // k_BGSE.shape[1]
    q, k, v = q_BHTE.double(), k_BGSE.double(), v_BGSE.double()
    k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
    scores_BHTS = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return (scores_BHTS + mask_B1TS).softmax(dim=-1) @ v


@functools.cache
def choose_backend(
    name: str, device: torch.device, dtype: torch.dtype, head_width: int, work: Work = "rows"
) -> Backend:
    """Return the backend that `name` means for such tensors and work, and log it once.

    Raises:
        ConfigError: `name` is none, or cannot run there.
    """
    require_one_of("attention", name, get_args(Backend))
    chosen, reason = name, "as asked for"
    if name == "auto" and device.type != "cuda":
        chosen = "sdpa" if work == "rows" else "blocked"
        reason = f"the default on {device.type}"
    elif name in ("auto", "xformers"):
        obstacle = _why_not_xformers(device, dtype, head_width)
        if name == "xformers" and obstacle:
            raise ConfigError(f"attention = 'xformers' cannot run: {obstacle}")
        if name == "auto":
            chosen, reason = ("sdpa", f"no xformers: {obstacle}") if obstacle else ("xformers", "the default")
    message = "attention of %s on %s in %s: %s (%s)"
    logging.getLogger(__name__).info(message, work, device, str(dtype).removeprefix("torch."), chosen, reason)
    return chosen  # type: ignore[return-value]


def _why_not_xformers(device: torch.device, dtype: torch.dtype, head_width: int) -> str:
    """Return why memory_efficient_attention cannot go forward and back with such tensors, or ""."""
    if device.type != "cuda":
        return f"its kernels need CUDA, and the tensors are on {device}"
    try:
        with torch.enable_grad():
            q = torch.zeros(2, 2, 3, head_width, device=device, dtype=dtype, requires_grad=True)
            _xformers(q, q[:, :1], q[:, :1], CausalMask(2, 3, device=device)).sum().backward()
    except (ImportError, RuntimeError) as error:  # RuntimeError has NotImplementedError under it
        return " ".join(str(error).split())
    return ""


def _over_blocks(
    attend: Callable[..., Tensor], q_BHTE: Tensor, k_BGSE: Tensor, v_BGSE: Tensor, mask: CausalMask | TreeMask
) -> Tensor:
    """Return attend(q, k, v, mask) of one block of queries after the other; keys may begin before them.

    For gradients, blocks of long rows are computed again in the backward pass: what they keep, of which their
    masks are a part, grows with the square of a row's length.
    """
    again = torch.is_grad_enabled() and mask.num_positions > KEPT_LENGTH

    def attend_block(start: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        additive = mask.additive(slice(start, start + q.shape[2]), slice(0, k.shape[2]))
        return attend(q, k, v, additive.to(q.dtype)).to(q.dtype)

    mixed = []
    num_before = k_BGSE.shape[2] - mask.num_positions
    for start in range(0, mask.num_positions, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, mask.num_positions)
        read = slice(0, num_before + end)
        block = start, q_BHTE[:, :, start:end], k_BGSE[:, :, read], v_BGSE[:, :, read]
        mixed.append(
            checkpoint(attend_block, *block, use_reentrant=False, preserve_rng_state=False)
            if again
            else attend_block(*block)
        )
    return torch.cat(mixed, dim=2)


def _sdpa(q_BHLE: Tensor, k_BGSE: Tensor, v_BGSE: Tensor, mask_B1LS: Tensor) -> Tensor:
    shares_keys = q_BHLE.shape[1] != k_BGSE.shape[1]
    return F.scaled_dot_product_attention(q_BHLE, k_BGSE, v_BGSE, attn_mask=mask_B1LS, enable_gqa=shares_keys)


def _sdpa_one_query(q_BH1E: Tensor, k_BGSE: Tensor, v_BGSE: Tensor, mask_B11S: Tensor) -> Tensor:
    """The query heads that share keys stand where queries do: no key is copied."""
    num_rows, num_kv_heads = k_BGSE.shape[:2]
    q = q_BH1E.view(num_rows, num_kv_heads, -1, q_BH1E.shape[-1])
    return F.scaled_dot_product_attention(q, k_BGSE, v_BGSE, attn_mask=mask_B11S).reshape(q_BH1E.shape)


def _xformers(q_BHTE: Tensor, k_BGSE: Tensor, v_BGSE: Tensor, mask: CausalMask | CachedMask) -> Tensor:
    """All rows as one sequence; keys are repeated for the heads that share them, as gradients need."""
    from xformers.ops import memory_efficient_attention

    shared = q_BHTE.shape[1] // k_BGSE.shape[1]
    k, v = (x.repeat_interleave(shared, dim=1) for x in (k_BGSE, v_BGSE))
    q_1NHE, k_1NHE, v_1NHE = (x.transpose(1, 2).flatten(0, 1)[None] for x in (q_BHTE, k, v))
    mixed_1NHE = memory_efficient_attention(q_1NHE, k_1NHE, v_1NHE, attn_bias=mask.bias)
    return mixed_1NHE[0].unflatten(0, (len(q_BHTE), -1)).transpose(1, 2)
