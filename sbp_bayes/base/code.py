"""The version of the code that a stage runs: a hash of syntax trees, blind to comments and docstrings.

The code of a stage is the module that it is written in and every module of this project that one imports,
directly or through others, within functions too. `from package import name` stands for the module in which
`name` is defined, since a package's `__init__` offers many that a stage does not run. Importing a module is
taken to do nothing but define its names, and imports under `TYPE_CHECKING` don't count.

A tree is written without positions, docstrings, and what has no value, so that versions of Python that
parse a module alike (3.11 and later, for code without newer syntax) give the same hash.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = ("experiments", "sbp_bayes", "toy_worlds")
"""Packages whose code is hashed, besides the package of the stage itself."""

Import = tuple[str, str | None]
"""`from module import name`, or `import module` where the name is None."""

LIBRARIES = ("numpy", "tokenizers", "torch", "xformers")
"""Libraries, by the names of their distributions, on which numbers depend."""

_UNHASHED = ("ctx", "kind", "type_comment", "type_ignores")


@functools.cache
def code_version(*modules: str) -> str:
    """Hash the code of the named modules, and of all modules of the project that they import.

    Args:
        modules: full names, as in `__name__`; where a stage runs an object of a class that it does not
            import, the class's module too.

    Returns:
        16 hexadecimal digits (SHA-256).
    """
    return hashlib.sha256(json.dumps(module_digests(*modules)).encode()).hexdigest()[:16]


def module_digests(*modules: str) -> dict[str, str]:
    """Return the hash of each module that `code_version` covers, by its name, in alphabetical order."""
    names = [_full_name(module) for module in modules]
    packages = {*PROJECT, *(name.partition(".")[0] for name in names)}
    digests: dict[str, str] = {}
    while names:
        name = names.pop()
        if name not in digests:
            module = _parse(name)
            digests[name] = module.digest
            names += [
                found
                for imported, attribute in module.imports
                if imported.partition(".")[0] in packages
                for found in _defining(imported, attribute)
            ]
    return dict(sorted(digests.items()))


@functools.cache
def software() -> dict[str, str]:
    """Return the versions of Python, of this package, and of the `LIBRARIES` that are installed, by name."""
    found = {"python": platform.python_version(), "sbp_bayes": sys.modules["sbp_bayes"].__version__}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@dataclasses.dataclass(frozen=True)
class _Module:
    """One file of code.

    Attributes:
        digest: of its syntax tree.
        imports: all of them.
        bindings: those at its top level, by the name that each binds.
        is_lazy: whether it finds some of its names when they are asked for.
    """

    digest: str
    imports: tuple[Import, ...]
    bindings: dict[str, Import]
    is_lazy: bool


def _defining(module: str, name: str | None) -> list[str]:
    """Return the modules whose code `from module import name` asks for; none outside files of Python."""
    path = _path(module)
    if path is None:
        return []
    if name is None or path.name != "__init__.py":
        return [module]
    package = _parse(module)
    if name in package.bindings:
        return _defining(*package.bindings[name])
    if _path(f"{module}.{name}") is not None:
        return [f"{module}.{name}"]
    # Defined in __init__ itself, or found when it is asked for, which may be in any module of the package.
    parts = sorted(path.parent.glob("*.py")) if package.is_lazy else []
    return [module, *(f"{module}.{part.stem}" for part in parts if part != path)]


def _full_name(module: str) -> str:
    """Return a module's name, which is not "__main__" where `python -m` runs it."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return module if spec is None else str(spec.name)


@functools.cache
def _path(module: str) -> Path | None:
    """Return a module's file without importing the module; None where there is no source."""
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a script, or a prompt
        file = getattr(sys.modules.get(top), "__file__", None)
        return None if file is None else Path(file)
    if spec is None:
        return None
    if not inner:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        place = Path(folder).joinpath(*inner)
        for path in (place / "__init__.py", place.parent / f"{place.name}.py"):
            if path.exists():
                return path
    return None


@functools.cache
def _parse(name: str) -> _Module:
    path = _path(name)
    executed = _Executed()
    tree = executed.visit(ast.parse("" if path is None else path.read_bytes()))
    package = name if path is not None and path.name == "__init__.py" else name.rpartition(".")[0]
    found = dict.fromkeys(target for node in executed.imports for _, target in _bindings(node, package))
    return _Module(
        digest=hashlib.sha256(_written(tree).encode()).hexdigest(),
        imports=tuple(found),
        bindings=dict(binding for node in tree.body for binding in _bindings(node, package)),
        is_lazy=any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body),
    )


class _Executed(ast.NodeTransformer):
    """Removes what does nothing when it runs: docstrings, other constants alone, `pass`, types' imports.

    The import statements that are left are in `imports`.
    """

    def __init__(self) -> None:
        self.imports: list[ast.Import | ast.ImportFrom] = []

    def visit(self, node: ast.AST) -> Any:
        return node if isinstance(node, ast.expr) else super().visit(node)  # no statement is in an expression

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else node

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_If(self, node: ast.If) -> Any:
        name = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", None)
        if name != "TYPE_CHECKING":
            return self.generic_visit(node)
        return [kept for statement in node.orelse if (kept := self.visit(statement)) is not None]

    def visit_Import(self, node: ast.Import) -> ast.AST:
        self.imports.append(node)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        self.imports.append(node)
        return node


def _bindings(node: ast.AST, package: str) -> Iterator[tuple[str, Import]]:
    """Yield what an import statement of a module in `package` imports, by the name that it is given."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name, (alias.name, None)
    elif isinstance(node, ast.ImportFrom):
        parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        module = ".".join([*parts, *([node.module] if node.module else [])])
        for alias in node.names:
            yield alias.asname or alias.name, (module, None if alias.name == "*" else alias.name)


def _written(value: Any) -> str:
    """Write a tree in characters of ASCII, the same for every version of Python that parses it so."""
    if isinstance(value, ast.AST):
        fields = ((name, getattr(value, name, None)) for name in value._fields if name not in _UNHASHED)
        inner = ",".join(
            f"{name}={_written(part)}" for name, part in fields if part is not None and part != []
        )
        return f"{type(value).__name__}({inner})"
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return ascii(value)
