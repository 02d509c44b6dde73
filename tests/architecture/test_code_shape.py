"""Rules of size, documentation and randomness, read from the source without importing it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sbp_bayes", "toy_worlds", "experiments", "paper_figures")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function


def _name(path: Path, line: int = 1) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _public(node: ast.Module | ast.ClassDef) -> Iterator[Documented]:
    """Yield the public classes, functions and methods within `node`; no function's own, and no overloads."""
    for child in node.body:
        if isinstance(child, ast.ClassDef | Function) and not child.name.startswith("_"):
            if any(isinstance(name, ast.Name) and name.id == "overload" for name in child.decorator_list):
                continue
            yield child
            if isinstance(child, ast.ClassDef):
                yield from _public(child)


def test_the_packages_are_found():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(PACKAGES)


def test_files_have_at_most_400_lines():
    lengths = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def _code_lines(node: Function) -> int:
    """Lines of a function without its docstring."""
    first = node.body[0]
    documented = ast.get_docstring(node) is not None
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)


def test_functions_have_at_most_60_lines_of_code():
    long = [
        (_name(path, node.lineno), node.name)
        for path in FILES
        for node in ast.walk(_parse(path))
        if isinstance(node, Function) and _code_lines(node) > 60
    ]
    assert long == []


def test_every_public_name_is_documented():
    silent = [
        (_name(path, getattr(node, "lineno", 1)), getattr(node, "name", "module"))
        for path in FILES
        if (module := _parse(path)).body
        for node in [module, *_public(module)]
        if ast.get_docstring(node) is None
    ]
    assert silent == []


def test_every_function_is_annotated():
    bare = [
        (_name(path, node.lineno), node.name)
        for path in FILES
        for node in ast.walk(_parse(path))
        if isinstance(node, Function)
        and (node.returns is None or any(a.annotation is None for a in _own_arguments(node)))
    ]
    assert bare == []


def _own_arguments(node: Function) -> list[ast.arg]:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [argument for argument in arguments if argument.arg not in ("self", "cls")]


GLOBAL_DRAWS = (
    "manual_seed",
    "seed",
    "rand",
    "randn",
    "randint",
    "randperm",
    "multinomial",
    "bernoulli",
    "normal",
)
LOCAL = ("Generator", "Philox", "SeedSequence")


def _global_draws(module: ast.Module) -> Iterator[int]:
    """Yield the lines that use Python's, NumPy's or PyTorch's global generator."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import) and any(alias.name == "random" for alias in node.names):
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"):
            yield node.lineno
        if isinstance(node, ast.Attribute) and node.attr not in LOCAL and _is_numpy_random(node.value):
            yield node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = any(keyword.arg == "generator" for keyword in node.keywords)
            if ast.unparse(node.func.value) == "torch" and node.func.attr in GLOBAL_DRAWS and not given:
                yield node.lineno


def _is_numpy_random(node: ast.expr) -> bool:
    return ast.unparse(node) in ("np.random", "numpy.random")


def test_nothing_draws_from_a_global_generator():
    assert [_name(path, line) for path in FILES for line in _global_draws(_parse(path))] == []


@pytest.mark.parametrize(
    "source",
    [
        "import random",
        "from random import choice",
        "np.random.rand(3)",
        "torch.manual_seed(0)",
        "torch.randn(2)",
    ],
)
def test_the_search_for_global_generators_finds_them(source):
    assert list(_global_draws(ast.parse(source))) == [1]


def test_names_of_test_files_are_unique():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    "module", ["sbp_bayes", "sbp_bayes.base.stage", "sbp_bayes.results", "sbp_bayes.runs"]
)
def test_light_modules_stay_light(module):
    script = (
        f"import {module}, sys; print(*{{'torch', 'sacred', 'matplotlib', 'pyarrow'}} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.split() == []


def _holds_arrays(node: ast.ClassDef) -> bool:
    hints = [ast.unparse(child.annotation) for child in node.body if isinstance(child, ast.AnnAssign)]
    return any(array in hint for hint in hints for array in ("ndarray", "Tensor"))


def test_dataclasses_that_hold_arrays_do_not_compare_them_as_a_tuple():
    """`==` of such a tuple raises: they compare by content (`base.arrays.ArrayRecord`), or by identity."""
    wrong = []
    for path in FILES:
        for node in ast.walk(_parse(path)):
            decorators = " ".join(ast.unparse(d) for d in getattr(node, "decorator_list", []))
            is_record = isinstance(node, ast.ClassDef) and "dataclass" in decorators and _holds_arrays(node)
            if is_record and "eq=False" not in decorators:
                wrong.append(_name(path, node.lineno))
    assert wrong == []
