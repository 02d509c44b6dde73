"""What a set-up needs is said before it downloads, in one line each with the command that mends it."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
DEBIAN, FEDORA = {"ID": "ubuntu", "ID_LIKE": "debian"}, {"ID": "fedora"}
DEV, VENV = (f"python3.{sys.version_info.minor}-{part}" for part in ("dev", "venv"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The check's module, on a machine of Debian's kind that has everything but a wheel of hnswlib."""
    spec = importlib.util.spec_from_file_location("check_machine", ROOT / ".ci" / "check_machine.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "Python.h").touch()
    monkeypatch.setattr(module, "INCLUDE", str(tmp_path / "include"))
    monkeypatch.setattr(module, "_has_wheel", lambda name: False)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: DEBIAN)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=9e9))
    monkeypatch.delenv("CXX", raising=False)
    _compilers(monkeypatch, tmp_path, "g++")
    return module


def _compilers(monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    """Let stand-ins be the only programs: each accepts whatever it can find the headers of."""
    programs = folder / "programs"
    shutil.rmtree(programs, ignore_errors=True)
    programs.mkdir()
    for name in names:
        header = f'case "$(/bin/cat)" in *Python.h*) [ -e {folder}/include/Python.h ];; esac'
        (programs / name).write_text(f"#!/bin/sh\n{header}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(sysconfig, "get_config_var", {"CXX": "g++", "HOST_GNU_TYPE": "x-linux-gnu"}.get)


@pytest.fixture
def said(machine: ModuleType, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """Run the check; return its lines."""

    def run() -> list[str]:
        code = machine.main()
        output = capsys.readouterr()
        assert output.out == ""
        assert code == (1 if output.err else 0)
        return [line.removeprefix("sbp_bayes needs ") for line in output.err.splitlines()]

    return run


def test_a_machine_that_has_everything_is_told_nothing(said) -> None:
    assert said() == []


@pytest.mark.parametrize(
    ("release", "compiler", "headers", "both"),
    [
        (DEBIAN, "sudo apt install g++", f"sudo apt install {DEV}", f"sudo apt install g++ {DEV}"),
        (
            FEDORA,
            "sudo dnf install gcc-c++",
            "sudo dnf install python3-devel",
            "sudo dnf install gcc-c++ python3-devel",
        ),
        (
            {},
            "sudo apt install g++ (Debian, Ubuntu) or sudo dnf install gcc-c++ (Fedora)",
            f"sudo apt install {DEV} (Debian, Ubuntu) or sudo dnf install python3-devel (Fedora)",
            f"sudo apt install g++ {DEV} (Debian, Ubuntu) or sudo dnf install gcc-c++ python3-devel (Fedora)",
        ),
    ],
)
def test_what_hnswlib_is_compiled_with_is_named(
    said, monkeypatch, tmp_path, release, compiler, headers, both
) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    (tmp_path / "include" / "Python.h").unlink()
    assert said() == [f"Python's headers, since hnswlib comes as source: {headers}"]
    _compilers(monkeypatch, tmp_path)
    assert said() == [f"a C++ compiler and Python's headers, since hnswlib comes as source: {both}"]
    (tmp_path / "include" / "Python.h").touch()
    assert said() == [f"a C++ compiler, since hnswlib comes as source: {compiler}"]


def test_root_and_macos_have_commands_of_their_own(said, monkeypatch, tmp_path) -> None:
    _compilers(monkeypatch, tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert said()[0].endswith(": apt install g++")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert said()[0].endswith(": xcode-select --install")


def test_the_compiler_that_is_asked_for_counts(said, monkeypatch, tmp_path) -> None:
    _compilers(monkeypatch, tmp_path, "c++", "mine")
    assert said() == ["a C++ compiler for hnswlib, and 'g++' is none that works: make CXX=c++"]
    monkeypatch.setenv("CXX", "mine -O2")
    assert said() == []
    monkeypatch.setenv("CXX", "gone")
    assert said() == ["a C++ compiler for hnswlib, and 'gone' is none that works: make CXX=c++"]


def test_with_a_wheel_of_hnswlib_no_compiler_is_needed(machine, said, monkeypatch, tmp_path) -> None:
    _compilers(monkeypatch, tmp_path)
    monkeypatch.setattr(machine, "_has_wheel", lambda name: name == "hnswlib")
    assert said() == []


@pytest.mark.parametrize(
    ("system", "processor", "bits", "named"),
    [
        ("linux", "riscv64", 64, "linux on riscv64 in 64 bits"),
        ("linux", "aarch64", 32, "linux on aarch64 in 32 bits"),
        ("darwin", "x86_64", 64, "darwin on x86_64 in 64 bits"),
        ("freebsd14", "x86_64", 64, "freebsd14 on x86_64 in 64 bits"),
    ],
)
def test_a_machine_without_wheels_of_pytorch_is_named(
    said, monkeypatch, system, processor, bits, named
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: processor)
    monkeypatch.setattr(sys, "maxsize", 2 ** (bits - 1) - 1)
    (line,) = said()
    assert line.endswith(f"PyTorch has no wheel for {named}")


def test_musl_a_missing_venv_and_a_full_disk_are_named_together(said, monkeypatch) -> None:
    monkeypatch.setattr(
        sysconfig, "get_config_var", {"CXX": "g++", "HOST_GNU_TYPE": "x86_64-alpine-linux-musl"}.get
    )
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else find(name))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**29))
    assert said() == [
        "glibc, since PyTorch has no wheel for musl: take the image python:3.12, not python:3.12-alpine",
        f"venv with pip in it: sudo apt install {VENV}",
        f"3 GiB of free disk in {Path.cwd()}, which has 0.5: clone it where there is more",
        f"1 GiB of free disk in {tempfile.gettempdir()}, which has 0.5: "
        "TMPDIR=FOLDER make names another folder",
    ]


def _wheel(folder: Path, name: str, version: str) -> None:
    folder.mkdir()
    information = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(
            f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{information}/RECORD", "")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_stops_before_it_downloads_unless_pip_has_a_wheel(tmp_path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".ci"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    (version,) = (
        x[9:] for x in (tmp_path / "constraints.txt").read_text().split() if x.startswith("hnswlib==")
    )
    (tmp_path / "programs").mkdir()
    for program in ("make", "sh", "test", "echo", "rm", "touch", "cat"):
        (tmp_path / "programs" / program).symlink_to(shutil.which(program))
    environment = {
        "PATH": str(tmp_path / "programs"),
        "HOME": str(tmp_path),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
    }
    python = os.path.realpath(sys.executable)

    def said(*command: str) -> tuple[int, list[str]]:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, [line for line in done.stderr.splitlines() if "sbp_bayes needs " in line]

    code, lines = said("make", "setup", f"PYTHON={python}")
    assert code != 0
    assert len(lines) == 1
    assert "a C++ compiler" in lines[0]
    assert not (tmp_path / ".venv").exists()
    _wheel(tmp_path / "wheels", "hnswlib", version)
    assert said(python, ".ci/check_machine.py") == (0, [])
