"""A run's record: libraries, code, machine, and what was printed, at a rate that a reader can bear."""

import io
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from experiments.record import LIBRARIES, code_state, library_versions, machine, recorded
from sbp_bayes.base.progress import progress, use_display

ROOT = Path(__file__).parents[2]
AUTHOR = ("-c", "user.name=A", "-c", "user.email=a@b.c")

SCRIPT = """
import sys
from experiments.runner import make_experiment, run_command_line
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.progress import progress
from sbp_bayes.base.workers import side_by_side

def work():
    with progress("working", 10, "steps") as advance:
        advance(10)

experiment = make_experiment("tiny", {"small": {"seeds": [0]}}, default="small")

@experiment.main
def main():
    print("begun")
    side_by_side([work, work], 2)
    raise ConfigError("a mistake")

if __name__ == "__main__":
    sys.exit(run_command_line(experiment, sys.argv[1:]))
"""

NVIDIA_SMI = """#!/bin/sh
case "$*" in
  *-x*) echo "<l><driver_version>N/A</driver_version><gpu><product_name>Orin</product_name>"
        echo "<fb_memory_usage><total>N/A</total></fb_memory_usage></gpu></l>" ;;
  *) echo "Orin, [N/A], 540" ;;
esac
"""


@pytest.fixture(autouse=True)
def _own_display():
    use_display(None)
    yield
    use_display(None)


def test_every_library_of_the_project_is_recorded():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["experiments"]]
    names = {requirement.split(";")[0].split("<")[0].split(">")[0] for requirement in needed}
    assert names <= set(LIBRARIES)
    import torch

    assert library_versions()["torch"] == torch.__version__


def test_a_run_leaves_libraries_code_machine_and_output_behind(tmp_path):
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    (tmp_path / "tiny.py").write_text(SCRIPT)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path}
    command = [sys.executable, "tiny.py", "with", "small"]
    done = subprocess.run(command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    run = json.loads((tmp_path / "runs/1/run.json").read_text())
    libraries = {f"{name}=={version}" for name, version in library_versions().items()}
    assert libraries <= set(run["experiment"]["dependencies"])
    assert run["host"]["machine"] == {**machine(), "gpus": ["Orin, [N/A], 540"]}
    assert run["host"]["code"] == code_state()
    first, *between, last = (tmp_path / "runs/1/cout.txt").read_text().splitlines()
    assert first == "begun"
    assert [line.split(" in ")[0] for line in between] == ["working: 10 steps"] * 2
    assert last == "python -m experiments.tiny: error: a mistake"


def _git(folder: Path, *arguments: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    subprocess.run(["git", *AUTHOR, *arguments], cwd=folder, check=True, capture_output=True, env=environment)


def test_the_commit_and_the_trees_state_are_told_and_no_remote(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))  # as in a hook of another repository
    _git(tmp_path, "init", "--quiet")
    assert code_state(tmp_path)["note"] == "a git repository without commits"
    _git(tmp_path, "remote", "add", "origin", "https://user:secret@example.org/x.git")
    (tmp_path / "a.py").write_text("a = 1\n")
    _git(tmp_path, "add", "a.py")
    _git(tmp_path, "commit", "--quiet", "--message", "a")
    state = code_state(tmp_path)
    head = (tmp_path / ".git" / (tmp_path / ".git/HEAD").read_text().split()[1]).read_text().strip()
    assert (state["commit"], state["clean"]) == (head, True)
    assert "secret" not in json.dumps(state)
    (tmp_path / "a.py").write_text("a = 2\n")
    assert (code_state(tmp_path)["commit"], code_state(tmp_path)["clean"]) == (head, False)
    (tmp_path / "inner").mkdir()
    inner = code_state(tmp_path / "inner")
    assert (inner["commit"], inner["note"]) == (None, "the folder is no git repository of its own")


def test_without_git_or_a_repository_the_record_says_so(tmp_path, monkeypatch):
    assert code_state(tmp_path)["note"].startswith("fatal: not a git repository")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_state(ROOT) == {
        "version": code_state(ROOT)["version"],
        "commit": None,
        "clean": None,
        "note": "git is not installed",
    }
    assert machine()["gpus"] == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_on_a_terminal_are_lines_in_the_record(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with recorded(tmp_path / "cout.txt"), progress("tuning", 400, "tokens") as advance:
        for _ in range(400):
            advance(1)
    assert "400/400" in terminal.getvalue()
    assert (tmp_path / "cout.txt").read_text().startswith("tuning: 400 tokens in ")
    assert (tmp_path / "cout.txt").read_text().count("\n") == 1
    assert sys.stderr is terminal


def test_what_is_printed_is_recorded_as_plain_lines_when_it_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # takes what no encoding can
    with recorded(tmp_path / "cout.txt"):
        print("one", end="")
        print(" line")
        assert (tmp_path / "cout.txt").read_text() == "one line\n"
        print("\x1b[1mbold\x1b[0m é \udcff")
        for percent in range(0, 101, 10):
            print(f"\r{percent}%", end="", file=sys.stderr)
        print("\r100%\r", file=sys.stderr)
        print("no end", end="")
    expected = "one line\nbold é \\udcff\n100%\nno end\n"
    assert (tmp_path / "cout.txt").read_text(encoding="utf-8") == expected
    assert sys.stdout.getvalue().startswith("one line\n")
