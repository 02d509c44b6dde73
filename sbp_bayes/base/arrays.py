"""Equality of records that hold arrays."""

import dataclasses
from typing import Any


class ArrayRecord:
    """Base of dataclasses that hold arrays: equal where every field is, arrays entry by entry.

    A dataclass's own `==` compares fields as a tuple, which asks an array of booleans whether it is true, and
    raises. Subclasses say `eq=False`, so that this one stands. Arrays are equal if number format, shape and
    all entries are; NaN equals NaN. Records cannot be hashed; those that name their content have a
    `fingerprint`.
    """

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        return all(_are_equal(getattr(self, name), getattr(other, name)) for name in names)

    __hash__ = None  # type: ignore[assignment]


def _are_equal(first: Any, second: Any) -> bool:
    if isinstance(first, list | tuple) and type(first) is type(second):
        return len(first) == len(second) and all(map(_are_equal, first, second))
    if not hasattr(first, "dtype") or not hasattr(second, "dtype"):
        return not hasattr(first, "dtype") and not hasattr(second, "dtype") and bool(first == second)
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    if hasattr(first, "is_floating_point"):
        import torch

        return torch.equal(first, second) or (
            first.is_floating_point() and torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)
        )
    import numpy as np

    return np.array_equal(first, second, equal_nan=first.dtype.kind in "fc")
