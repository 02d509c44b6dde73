"""Blocks of rows over as many threads as torch is set to; a block's result is one thread's, so it's the same
for any number of them.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from sbp_bayes.base.workers import thread_pool

Item = TypeVar("Item")
Result = TypeVar("Result")


def blocks(length: int, size: int) -> list[slice]:
    """Return slices of at most `size` that cover 0 to `length`."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def map_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return work(item) of each item, in order; torch uses one thread within each call."""
    with thread_pool() as pool:
        return list(pool.map(work, items))
