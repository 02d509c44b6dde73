"""Say what this machine lacks for the set-up before it downloads gigabytes; standard library only.

`python3 .ci/check_machine.py` writes one line on stderr for each thing that is missing, with the command that
mends it, and ends with exit code 1. It asks the Python that runs it, which is the one that will make .venv.
"""

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

GIB = 2**30
ROOM, TEMPORARY_ROOM = 3 * GIB, 1 * GIB
"""Free space that an installation of 2.2 GB is given, and pip for the packages that it has downloaded."""

MACHINES = {"linux": ("x86_64", "aarch64"), "darwin": ("arm64",)}
"""System → processors that PyTorch has wheels for."""

INCLUDE = sysconfig.get_path("include")
PYTHON_DEV = f"python3.{sys.version_info.minor}-"
"""How Debian's packages for this Python begin."""


def main() -> int:
    """Print the faults; return 1 if there is one, else 0."""
    faults = [*_platform(), *_venv(), *_room(), *_compiler()]
    for fault in faults:
        print(f"sbp_bayes needs {fault}", file=sys.stderr)
    return 1 if faults else 0


def _platform() -> Iterator[str]:
    if platform.machine() not in MACHINES.get(sys.platform, ()) or sys.maxsize < 2**32:
        yield (
            "Python for Linux on x86-64 or aarch64, or for macOS on Apple silicon: PyTorch has no wheel for "
            f"{sys.platform} on {platform.machine()} in {sys.maxsize.bit_length() + 1} bits"
        )
    elif "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or ""):
        yield "glibc, since PyTorch has no wheel for musl: take the image python:3.12, not python:3.12-alpine"


def _venv() -> Iterator[str]:
    if importlib.util.find_spec("ensurepip") is None:
        yield f"venv with pip in it: {_install(f'{PYTHON_DEV}venv', 'python3-pip')}"


def _room() -> Iterator[str]:
    for folder, needed, remedy in (
        (Path.cwd(), ROOM, "clone it where there is more"),
        (Path(tempfile.gettempdir()), TEMPORARY_ROOM, "TMPDIR=FOLDER make names another folder"),
    ):
        free = shutil.disk_usage(folder).free
        if free < needed:
            yield f"{needed / GIB:.0f} GiB of free disk in {folder}, which has {free / GIB:.1f}: {remedy}"


def _compiler() -> Iterator[str]:
    """hnswlib comes as source: setuptools compiles it with CXX, or what this Python was compiled with."""
    asked = os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++"
    if _compiles(asked, "Python.h") or _has_wheel("hnswlib"):
        return
    works = next((name for name in (asked, "c++", "g++", "clang++") if _compiles(name, "vector")), None)
    headers = (Path(INCLUDE) / "Python.h").exists()
    if headers and works is not None:
        yield f"a C++ compiler for hnswlib, and {asked!r} is none that works: make CXX={works}"
        return
    missing = {} if works else {"a C++ compiler": ("g++", "gcc-c++")}
    missing |= {} if headers else {"Python's headers": (f"{PYTHON_DEV}dev", "python3-devel")}
    debian, fedora = (" ".join(packages) for packages in zip(*missing.values(), strict=True))
    yield f"{' and '.join(missing)}, since hnswlib comes as source: {_install(debian, fedora)}"


def _compiles(compiler: str, header: str) -> bool:
    """Whether `compiler` knows the standard library of C++14 and `header`."""
    command = [*shlex.split(compiler), "-x", "c++", "-std=c++14", "-fsyntax-only", "-I", INCLUDE, "-"]
    source = f"#include <vector>\n#include <{header}>\n".encode()
    try:
        return subprocess.run(command, input=source, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _has_wheel(name: str) -> bool:
    """Whether this Python's pip, as it is set up here, knows a wheel of `name`, which needs no compiler."""
    options = ["--quiet", "--retries", "0", "--no-deps", "--only-binary", ":all:", "-c", "constraints.txt"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, name]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _install(debian: str, fedora: str) -> str:
    """Return the command that installs packages here, or those of all systems where it is not known."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    commands = {
        "debian": f"{sudo}apt install {debian}",
        "fedora": f"{sudo}dnf install {fedora}",
        "macOS": "xcode-select --install",
    }
    if sys.platform == "darwin":
        return commands["macOS"]
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    families = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    known = [command for family, command in commands.items() if family in families]
    return known[0] if known else f"{commands['debian']} (Debian, Ubuntu) or {commands['fedora']} (Fedora)"


if __name__ == "__main__":
    sys.exit(main())
