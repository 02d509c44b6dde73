"""What all worlds share: parameters by name, and checks of their ranges."""

import inspect
import math
from typing import Any

from sbp_bayes.base.config import require


class Parameters:
    """A class that keeps its constructor's parameters as attributes of the same names."""

    @property
    def params(self) -> dict[str, Any]:
        """The constructor's parameters by name, JSON types: `type(self)(**params)` is the same world."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}


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


def require_seed(seed: int) -> int:
    """Return `seed` if it is an integer; else raise a `ConfigError`."""
    require(isinstance(seed, int) and not isinstance(seed, bool), "seed", seed, "an integer")
    return seed
