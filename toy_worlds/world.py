"""What all worlds share: parameters by name, and checks of their ranges."""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sbp_bayes.base.config import require

Table = Sequence[Any] | Tensor
"""Numbers in rows: nested sequences, as JSON has them, or a tensor."""


ROW_SUM_TOLERANCE = 1e-6
"""Largest difference from 1 of a row of probabilities: what float32 entries leave."""


class Parameters:
    """A class that keeps its constructor's parameters as attributes of the same names."""

    @property
    def params(self) -> dict[str, Any]:
        """The constructor's parameters by name, JSON types: `type(self)(**params)` is the same world."""
        values = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        return {name: v.tolist() if isinstance(v, Tensor) else v for name, v in values.items()}


def require_count(key: str, value: int, least: int = 1) -> int:
    """Return `value` if it is an integer of at least `least`; else raise a `ConfigError`."""
    valid = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(valid, key, value, f"an integer of at least {least}")
    return value


def require_number(
    key: str,
    value: float,
    low: float,
    high: float = math.inf,
    *,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """Return `value` as a float if it is finite and between `low` and `high`; else raise a `ConfigError`."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    inside = number and (low < value if low_open else low <= value)
    inside = inside and (value < high if high_open else value <= high)
    high_open |= high == math.inf
    require(
        inside, key, value, f"a number in {'(' if low_open else '['}{low}, {high}{')' if high_open else ']'}"
    )
    return float(value)


def require_table(key: str, table: Table, shape: tuple[int, ...]) -> Tensor:
    """Return `table`, float64, if it has this shape and finite entries; else raise a `ConfigError`."""
    try:
        values = torch.as_tensor(table, dtype=torch.float64)
    except (TypeError, ValueError):
        values = torch.empty(0)
    require(values.shape == shape, key, table, f"numbers in the shape {shape}")
    require(bool(values.isfinite().all()), key, table, "finite numbers")
    return values


def require_probabilities(key: str, table: Table, shape: tuple[int, ...]) -> Tensor:
    """Return `table`, float64, if its rows are distributions of this shape; else raise a `ConfigError`."""
    values = require_table(key, table, shape)
    is_distribution = bool((values >= 0).all()) and torch.allclose(
        values.sum(dim=-1), torch.ones(1, dtype=torch.float64), rtol=0.0, atol=ROW_SUM_TOLERANCE
    )
    require(is_distribution, key, table, "probabilities, each row of which sums to 1")
    return values


def require_integers(key: str, table: Table, shape: tuple[int, ...], limit: int) -> Tensor:
    """Return `table`, int64, of this shape and entries in 0 … `limit` − 1; else raise a `ConfigError`."""
    values = require_table(key, table, shape)
    is_inside = bool(((values >= 0) & (values < limit) & (values == values.floor())).all())
    require(is_inside, key, table, f"integers from 0 to {limit - 1}")
    return values.long()


def require_seed(seed: int) -> int:
    """Return `seed` if it is an integer; else raise a `ConfigError`."""
    require(isinstance(seed, int) and not isinstance(seed, bool), "seed", seed, "an integer")
    return seed
