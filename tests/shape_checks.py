"""Checks of array shapes at the borders of the library, by the import hook of the tests."""

import typing
from collections.abc import Callable
from typing import Any, TypeVar

import jaxtyping
from beartype import beartype

PACKAGES = ("sbp_bayes.concept", "sbp_bayes.synthesizer", "sbp_bayes.evaluation")
"""Not `lm`, whose functions torch.compile traces: it cannot trace the checks."""

F = TypeVar("F", bound=Callable[..., Any])


def only_arrays(function: F) -> F:
    """Let beartype check the arrays among a function's annotations; other types are mypy's matter.

    Tests give stand-ins where the library asks for a protocol.
    """
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if _has_array(hint)}
    return beartype(function)


def _has_array(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_has_array, typing.get_args(hint)))
