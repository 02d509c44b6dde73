"""Checks of array shapes at the borders of the library, put around its functions as they are imported."""

import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import jaxtyping
import torch
from beartype import beartype

PACKAGES = ("sbp_bayes.concept", "sbp_bayes.lm", "sbp_bayes.synthesizer", "sbp_bayes.evaluation")


class ShapeChecks(MetaPathFinder):
    """Checks the functions and methods of `PACKAGES` that have array annotations, and no others.

    The hook of jaxtyping itself wraps every function, private ones included, at a cost per call.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of the packages as Python does, and check its functions once it is executed."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname.startswith(PACKAGES) else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_check(module: ModuleType) -> None:
            execute(module)
            _check(module, module.__name__)

        spec.loader.exec_module = execute_and_check  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Check what is imported from now on."""
    assert not any(name.startswith(PACKAGES) for name in sys.modules), "imported before the checks were there"
    sys.meta_path.insert(0, ShapeChecks())


def _check(owner: ModuleType | type, module: str) -> None:
    for name, value in list(vars(owner).items()):
        if getattr(value, "__module__", None) != module:
            continue
        if inspect.isclass(value):
            _check(value, module)
        elif inspect.isfunction(value) and any(map(_has_array, value.__annotations__.values())):
            checked = jaxtyping.jaxtyped(typechecker=_only_arrays)(value)
            is_eager = getattr(
                value, "_torchdynamo_disable", False
            )  # which a wrapper around it must be as well
            setattr(owner, name, torch.compiler.disable(checked) if is_eager else checked)


def _only_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let beartype check the arrays alone: mypy checks other types, for which tests give stand-ins."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if _has_array(hint)}
    return beartype(function)


def _has_array(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_has_array, typing.get_args(hint)))
