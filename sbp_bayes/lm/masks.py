"""Which keys each query may read, in the form that each attention backend takes.

Shapes: B rows, T time (S as keys), N = B·T positions, L queries of a block, P positions of a cached prefix.
"""

import dataclasses
import functools
import math
from typing import Any

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class CausalMask:
    """A position reads itself and the earlier positions of its own segment.

    Attributes:
        num_rows: B.
        num_positions: T, of queries and keys alike.
        segments_BT: number of each position's segment, whose positions follow each other; None is
            one segment a row.
        device: where the mask is needed.
    """

    num_rows: int
    num_positions: int
    segments_BT: Tensor | None = None
    device: torch.device | str = "cpu"

    def hidden(self, queries: slice, keys: slice) -> Tensor:
        """Return a block of the mask, bool (B or 1, 1, L, S): whether a query may not read a key."""
        shape = (1, 1, queries.stop - queries.start, keys.stop - keys.start)
        later = torch.ones(shape, dtype=torch.bool, device=self.device).triu(1 + queries.start - keys.start)
        if self.segments_BT is None:
            return later
        return (self.segments_BT[:, None, queries, None] != self.segments_BT[:, None, None, keys]) | later

    def additive(self, queries: slice, keys: slice) -> Tensor:
        """Return the same, float32: 0 where a query may read a key, else −inf."""
        hidden = self.hidden(queries, keys)
        return torch.zeros(hidden.shape, device=self.device).masked_fill_(hidden, -math.inf)

    @functools.cached_property
    def first_read(self) -> list[int]:
        """For each position, the first one that it reads in any row."""
        if self.segments_BT is None:
            return [0] * self.num_positions
        starts = self._starts_BT * torch.arange(self.num_positions, device=self.device)
        return starts.cummax(dim=1).values.amin(dim=0).tolist()

    @functools.cached_property
    def bias(self) -> Any:
        """The same for xformers, as a BlockDiagonalCausalMask (N, N) over all rows in one sequence."""
        from xformers.ops.fmha.attn_bias import BlockDiagonalCausalMask

        return BlockDiagonalCausalMask.from_seqlens(self._lengths(), device=torch.device(self.device))

    def hides_earlier(self, queries: slice, keys: slice) -> bool:
        """Whether a query may not read one of the `keys` before the first of `queries`, in any row."""
        if self.segments_BT is None or keys.start == queries.start:
            return False
        # Segments follow each other: if every query reads the first key, it reads those up to itself.
        first_key, last_query = (self.segments_BT[:, at] for at in (keys.start, queries.stop - 1))
        return not bool((first_key == last_query).all())

    @functools.cached_property
    def _starts_BT(self) -> Tensor:
        """Whether a segment begins at a position."""
        assert self.segments_BT is not None
        starts_BT = torch.ones_like(self.segments_BT, dtype=torch.bool)
        starts_BT[:, 1:] = self.segments_BT[:, 1:] != self.segments_BT[:, :-1]
        return starts_BT

    def _lengths(self) -> list[int]:
        """Return the segments' lengths, row after row."""
        if self.segments_BT is None:
            return [self.num_positions] * self.num_rows
        starts = self._starts_BT.flatten().nonzero()[:, 0]
        rows_N = torch.arange(self.num_rows, device=self.device).repeat_interleave(self.num_positions)
        named = torch.stack((rows_N, self.segments_BT.flatten())).unique(dim=1)
        assert named.shape[1] == len(starts), "a segment's positions must follow each other"
        return starts.diff(append=starts.new_tensor([self.segments_BT.numel()])).tolist()


@dataclasses.dataclass(frozen=True, eq=False)
class CachedMask:
    """One query a row, which reads the first positions of its row's cache.

    Attributes:
        last_B: the last position that each row reads, its own.
        num_keys: S, the cache's positions; those after `last_B` hold leftovers.
    """

    last_B: Tensor
    num_keys: int

    @functools.cached_property
    def additive(self) -> Tensor:
        """The mask (B, 1, 1, S), float32."""
        positions_S = torch.arange(self.num_keys, device=self.last_B.device)
        hidden = (positions_S > self.last_B[:, None])[:, None, None]
        return torch.zeros(hidden.shape, device=self.last_B.device).masked_fill_(hidden, -math.inf)

    @functools.cached_property
    def bias(self) -> Any:
        """The same for xformers, over all rows' caches in one sequence: (B, B·S)."""
        from xformers.ops.fmha.attn_bias import BlockDiagonalCausalWithOffsetPaddedKeysMask

        return BlockDiagonalCausalWithOffsetPaddedKeysMask.from_seqlens(
            q_seqlen=[1] * len(self.last_B),
            kv_padding=self.num_keys,
            kv_seqlen=(self.last_B + 1).tolist(),
            device=self.last_B.device,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class TreeMask:
    """Rows that hold trees of tokens in depth-first order, all of them after one cached prefix.

    A position reads the prefix, the positions on the way from its tree's root, and itself.

    Attributes:
        ends_BT: the position after the last descendant of each position.
        num_cached: P, positions of the prefix, which are the first keys.
    """

    ends_BT: Tensor
    num_cached: int = 0

    @property
    def num_positions(self) -> int:
        """T, of queries."""
        return self.ends_BT.shape[1]

    def additive(self, queries: slice, keys: slice) -> Tensor:
        """Return a block of the mask (B, 1, L, S), float32: 0 where a query may read a key, else −inf.

        Keys are counted from the prefix's first, queries from the first after it.
        """
        device = self.ends_BT.device
        queries_L1 = torch.arange(queries.start, queries.stop, device=device)[:, None]
        keys_S = torch.arange(keys.start - self.num_cached, keys.stop - self.num_cached, device=device)
        ends_BS = self.ends_BT.index_select(1, keys_S.clamp(min=0))
        hidden = (keys_S >= 0) & ((queries_L1 < keys_S) | (queries_L1 >= ends_BS[:, None]))
        return torch.zeros(hidden.shape, device=device).masked_fill_(hidden, -math.inf)[:, None]
