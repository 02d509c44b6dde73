"""Docstrings of installed scientific packages as documents, read from source without importing it."""

import ast
import contextlib
import gc
import importlib.metadata
import importlib.util
import inspect
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.corpus.records import Document

PACKAGES = ("matplotlib", "networkx", "numpy", "scipy", "sympy", "torch")
MIN_CHARS = 200

_SIMPLE = (ast.Expr, ast.Assign, ast.Assert, ast.Return, ast.Import, ast.ImportFrom, ast.AugAssign, ast.Raise)
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def read_docstrings(packages: tuple[str, ...] = PACKAGES) -> Iterator[Document]:
    """Yield the docstrings of at least 200 characters of `packages`, in order of file and line.

    Folders named "tests" are left out: much code, few docstrings. The id is "module:qualname" ("#2"
    follows a second definition of the same name); the label is the package and subpackage, for instance
    "scipy.stats".

    Raises:
        CorpusError: a package is not installed.
    """
    for package in packages:
        root = _package_root(package)
        for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
            if "tests" not in path.relative_to(root).parts:
                yield from _documents_of(path, _module_name(path, root))


def docstring_versions(packages: tuple[str, ...] = PACKAGES) -> str:
    """Return the packages' versions, which determine their docstrings.

    Raises:
        CorpusError: a package is not installed.
    """
    for package in packages:
        _package_root(package)
    return " ".join(f"{package}=={importlib.metadata.version(package)}" for package in packages)


def _package_root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise CorpusError(f"packaged:docstrings needs {package}: run `pip install {package}`")
    return Path(spec.origin).parent


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _documents_of(path: Path, module: str) -> Iterator[Document]:
    label = ".".join(module.split(".")[:2])
    seen: Counter[str] = Counter()
    with _without_garbage_collection():
        found = _docstrings(path)
    for qualname, text in found:
        seen[qualname] += 1
        again = f"#{seen[qualname]}" if seen[qualname] > 1 else ""
        metadata = {"module": module, "qualname": qualname}
        name = f"{module}:{qualname}{again}"
        yield Document(id=name, text=text, source="docstrings", label=label, metadata=metadata)


def _docstrings(path: Path) -> list[tuple[str, str]]:
    """Return (qualname, docstring) of the long docstrings in a file, in order of line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return []  # templates, and tests of parsers, that are no Python
        return [(qualname, text) for qualname, node in _documented(tree) if (text := _long_docstring(node))]


def _long_docstring(node: _Documented) -> str | None:
    raw = ast.get_docstring(node, clean=False)
    if raw is None or len(raw) < MIN_CHARS:
        return None
    text = inspect.cleandoc(raw)
    return text if len(text) >= MIN_CHARS else None


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Syntax trees are large and free of cycles: looking for cycles in them takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _documented(tree: ast.Module) -> list[tuple[str, _Documented]]:
    """Return the module, classes and functions of a file in order of line, nested ones included."""
    found: list[tuple[str, _Documented]] = [("", tree)]

    def visit(node: ast.AST, prefix: str) -> None:
        for block in ("body", "handlers", "orelse", "finalbody", "cases"):
            for child in getattr(node, block, ()):
                if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    found.append((prefix + child.name, child))
                    visit(child, f"{prefix}{child.name}.")
                elif not isinstance(child, _SIMPLE):
                    visit(child, prefix)

    visit(tree, "")
    return found
