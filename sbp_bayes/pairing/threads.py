"""Blocks of rows over as many threads as torch is set to; a block's result is one thread's, so it's the same
for any number of them.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def blocks(length: int, size: int) -> list[slice]:
    """Return slices of at most `size` that cover 0 to `length`."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def map_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return work(item) of each item, in order; torch uses one thread within each call."""
    number = torch.get_num_threads()
    if number == 1:
        return [work(item) for item in items]
    try:
        with ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, items))
    finally:
        torch.set_num_threads(number)
