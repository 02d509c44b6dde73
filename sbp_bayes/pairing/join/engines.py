"""Where a join's work is done: in this process; see `ray_engine` for many.

The work is the same and so are the results: an engine decides who holds a shard and who asks it.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.pairing.join.shard import Method, Shard

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class QueryBlock(ArrayRecord):
    """A block of queries and the shards that must answer it.

    Attributes:
        number: of the block.
        shards: their numbers.
        queries: unit rows, float32 (Q, D).
        own: int64 (Q,), see `Shard.answer`.
    """

    number: int
    shards: Sequence[int]
    queries: np.ndarray
    own: np.ndarray


Answer = tuple[int, int, np.ndarray | None]
"""Block, shard, and what `Shard.answer` returned."""


class Shards(Protocol):
    """Shards that somebody holds."""

    def answers(
        self, query_blocks: Iterable[QueryBlock], k: int, method: Method, effort: int
    ) -> Iterator[Answer]:
        """Yield each shard's answer to each block of queries, in any order; see `Shard.answer`."""
        ...


class Session(Protocol):
    """An engine at work."""

    def hold(self, unit: np.ndarray, starts: np.ndarray) -> AbstractContextManager[Shards]:
        """Have keys (N, D) held as shards, which begin at `starts`, within the block."""
        ...

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return function(item) of each item, in order; the function is importable, not a closure."""
        ...


class Engine(Protocol):
    """Something that can do a join's work."""

    def start(self) -> AbstractContextManager[Session]:
        """Be ready for work within the block; a start within another one costs nothing."""
        ...


class LocalEngine:
    """Does all work in this process, shard by shard, each by as many threads as torch is set to."""

    def start(self) -> AbstractContextManager[Session]:
        """See `Engine`."""
        return nullcontext(_InProcess())


class _InProcess:
    def hold(self, unit: np.ndarray, starts: np.ndarray) -> AbstractContextManager[Shards]:
        return nullcontext(_OwnShards(unit, starts))

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        return [function(item) for item in items]


class _OwnShards:
    def __init__(self, unit: np.ndarray, starts: np.ndarray) -> None:
        parts = np.split(unit, starts[1:])
        self._shards = [Shard(part, int(start)) for part, start in zip(parts, starts, strict=True)]

    def answers(
        self, query_blocks: Iterable[QueryBlock], k: int, method: Method, effort: int
    ) -> Iterator[Answer]:
        for block in query_blocks:
            for shard in block.shards:
                found = self._shards[shard].answer(block.queries, block.own, k, method, effort)
                yield block.number, shard, found
