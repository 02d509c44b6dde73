"""Speed of the talk's benchmarks beside the harness's own hf model on the exported checkpoint, on 2 threads.

Bars are reported, not enforced; SBP_BENCH=small tries the file on little work. Both get the same requests, in
batches of at most as many positions: theirs holds as many rows as the longest of a task allow.
"""

import dataclasses
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from side_by_side import IS_SMALL, Report, SideBySide, torch_threads

from sbp_bayes.corpus import Tokenizer
from sbp_bayes.evaluation.harness import BENCHMARKS
from sbp_bayes.evaluation.harness.answers import Answers
from sbp_bayes.evaluation.harness.items import read_items
from sbp_bayes.lm import PRESETS, Transformer, export_hf
from sbp_bayes.lm.continuations import TOKENS_PER_BATCH
from tests.evaluation.harness.benchmark_items import FILES, sentence, small_tokenizer

NUM_ITEMS = 4 if IS_SMALL else 1000
ROUNDS = 1 if IS_SMALL else 3
BAR = 2.0
"""How many times as fast as theirs ours is to be."""

for name in ("lm_eval", "accelerate", "peft"):
    pytest.importorskip(name, reason="lm-evaluation-harness and what its hf model needs (the extra [eval])")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with torch_threads(2):
        yield


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return small_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transformer:
    return Transformer(dataclasses.replace(PRESETS["6m"], vocab_size=tokenizer.vocab_size), seed=0).eval()


@pytest.fixture(scope="module")
def exported(model: Transformer, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exported") / "hf"
    export_hf(model, directory, tokenizer)
    return directory


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many items of each benchmark as are timed, and the examples."""
    root = tmp_path_factory.mktemp("items")
    for name, (make, number) in FILES.items():
        path, draw = root / name, random.Random(name)
        path.parent.mkdir(exist_ok=True)
        size = number if path.stem in ("train", "dev") else NUM_ITEMS
        items = [
            make(draw, 2 + i) | ({"text": sentence(draw, 60)} if "text" in make(draw, 2) else {})
            for i in range(size)
        ]
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return root


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.benchmark(group=f"evaluation: {NUM_ITEMS} items of a benchmark")
def test_evaluation(
    benchmark: BenchmarkFixture,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    root: Path,
    model: Transformer,
    tokenizer: Tokenizer,
    exported: Path,
    name: str,
) -> None:
    from lm_eval.models.huggingface import HFLM

    from sbp_bayes.evaluation.harness.adapter import CheckpointLM
    from sbp_bayes.evaluation.harness.tasks import load_tasks

    items = {name: read_items(BENCHMARKS[name], root)}
    task = load_tasks({name: BENCHMARKS[name]}, items)[name]
    task.build_all_requests()
    kind = task.instances[0].request_type
    longest = max(
        len(tokens) for tokens in tokenizer.encode(["".join(map(str, r.args)) for r in task.instances])
    )
    rows = TOKENS_PER_BATCH // min(longest, model.config.context_length)
    theirs = HFLM(pretrained=str(exported), device="cpu", dtype="float32", batch_size=rows)
    attempts = iter(range(1000))

    def ours() -> float:
        answers = Answers(tmp_path / str(next(attempts)) / "answers.jsonl")
        getattr(CheckpointLM(model, tokenizer, answers), kind)(task.instances)
        return NUM_ITEMS

    def their_road() -> float:
        getattr(theirs, kind)(task.instances, disable_tqdm=True)
        return NUM_ITEMS

    roads: dict[str, Any] = {"ours": ours, "lm-eval's hf": their_road}
    side = SideBySide(roads)
    side.run(benchmark, ROUNDS)
    report = Report(benchmark, capsys)
    report.speeds(side, "items/s")
    report.bar(f"{name}: ours beside lm-eval's hf", side.ratio("ours", "lm-eval's hf"), BAR)
