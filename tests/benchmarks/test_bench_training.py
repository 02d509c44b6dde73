"""Speed of a training step on 2 threads: beside transformers, beside the machine, and packed beside padded.

Bars are reported, not enforced; SBP_BENCH=small tries the files on little work.
"""

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._inductor.config
from pytest_benchmark.fixture import BenchmarkFixture
from side_by_side import IS_SMALL, Report, SideBySide, Spread, torch_threads
from torch import nn
from torch.profiler import ProfilerActivity, profile

from sbp_bayes.base.records import IGNORE, Batch
from sbp_bayes.corpus import Corpus, EpochStream, read_documents, rows_of, train_tokenizer
from sbp_bayes.lm import PRESETS, LMConfig, Transformer, export_hf
from sbp_bayes.training import OptimiserConfig
from sbp_bayes.training.optimiser import build_optimiser

MODEL_6M = PRESETS["6m"]
ROWS = 2 if IS_SMALL else 16
COMPILE_SECONDS = 30 if IS_SMALL else 120
CORPORA = Path(os.environ.get("SBP_CORPORA", Path(__file__).parents[2] / ".data/corpora"))


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with torch_threads(2):
        yield


def training_step(model: nn.Module, loss_of: Callable[[Batch], torch.Tensor]) -> Callable[[Batch], float]:
    """Return a whole step as `training.loop` does it: loss, gradients, clipping, fused AdamW."""
    optimiser = build_optimiser(model, OptimiserConfig(peak_lr=1e-4))

    def step(batch: Batch) -> float:
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return loss.item()

    return step


def our_step(model: Transformer, loss_sum: Callable[[Batch], tuple[torch.Tensor, int]]) -> Callable:
    def loss_of(batch: Batch) -> torch.Tensor:
        loss, num_targets = loss_sum(batch)
        return loss / num_targets

    return training_step(model, loss_of)


def their_step(model: Any, forward: Callable) -> Callable[[Batch], float]:
    def loss_of(batch: Batch) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return forward(input_ids=batch.inputs, labels=batch.inputs, use_cache=False).loss

    return training_step(model, loss_of)


def their_model(model: Transformer, directory: Path) -> Any:
    """The same weights in transformers, from an export."""
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    export_hf(model, directory)
    return transformers.AutoModelForCausalLM.from_pretrained(directory).train()


def whole_rows(config: LMConfig, rows: int) -> Batch:
    """Random tokens, one document a row; transformers shifts by itself, so the last has no target."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(2, config.vocab_size, (rows, config.context_length), generator=generator)
    targets = inputs.roll(-1, dims=1)
    targets[:, -1] = IGNORE
    return Batch(inputs, targets, torch.zeros_like(inputs))


def compiled(name: str, step: Callable[[Batch], float], batch: Batch, report: Report) -> bool:
    """Take the first steps of a compiled road; return whether they came to an end in time."""

    late_reason = f"not within {COMPILE_SECONDS} s"

    def late(*_: object) -> None:
        raise TimeoutError(late_reason)

    before, start = signal.signal(signal.SIGALRM, late), time.monotonic()
    signal.alarm(COMPILE_SECONDS)
    try:
        step(batch)
        step(batch)
    except Exception as error:  # a compiler fails in many ways; the report says how
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        is_late = time.monotonic() - start >= COMPILE_SECONDS  # the compiler may have wrapped our exception
        report.say(f"  {name}: not compiled ({late_reason if is_late else reason})")
        return False
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return True


@pytest.mark.benchmark(group=f"training step: 6m preset, {ROWS} rows of 512 tokens, bfloat16 products")
@pytest.mark.filterwarnings("default")  # compilers warn
def test_training_step(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    torch._inductor.config.compile_threads = 1  # in this process, so that none goes on where we gave up
    batch, report = whole_rows(MODEL_6M, ROWS), Report(benchmark, capsys)
    steps: dict[str, Callable[[Batch], float]] = {}
    for kind in ("", " compiled"):
        ours = Transformer(MODEL_6M).train().set_matmul_dtype(torch.bfloat16)
        theirs = their_model(ours, tmp_path / "exported")
        if kind:
            for layer in ours.layers:  # as `training.engine` does
                layer.compile()
        steps[f"sbp_bayes{kind}"] = our_step(ours, ours.loss_sum)
        steps[f"transformers{kind}"] = their_step(theirs, torch.compile(theirs) if kind else theirs)
    losses = [steps[name](batch) for name in ("sbp_bayes", "transformers")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # one step on one batch from equal weights
    usable = {n: s for n, s in steps.items() if "compiled" not in n or compiled(n, s, batch, report)}
    gemm = gemm_road(torch.bfloat16)
    roads = SideBySide({name: tokens_of(step, batch) for name, step in usable.items()} | {"gemm": gemm})
    roads.run(benchmark)
    report.speeds(roads, "tokens/s (of gemm: operations/s)")
    report.bar("eager, times transformers", roads.ratio("sbp_bayes", "transformers"), 1.8)
    if "transformers compiled" in usable:
        ours = [name for name in usable if name.startswith("sbp_bayes")]
        fastest = max(ours, key=lambda name: Spread.of(roads.speeds[name]).median)
        ratio = roads.ratio(fastest, "transformers compiled")
        report.bar(f"{fastest}, times transformers compiled", ratio, 1.15)
    for name in [name for name in usable if name.startswith("sbp_bayes")]:
        report.bar(f"MFU of {name}", mfu(MODEL_6M, roads, name), 0.45)
    text = operators(steps["sbp_bayes"], batch)
    (tmp_path / "profile.txt").write_text(text)
    report.say(f"{text}\n  saved to {tmp_path / 'profile.txt'}")


def tokens_of(step: Callable[[Batch], float], batch: Batch) -> Callable[[], float]:
    def road() -> float:
        step(batch)
        return batch.num_tokens

    return road


def gemm_road(dtype: torch.dtype, size: int = 2048) -> Callable[[], float]:
    """Floating-point operations of products of square matrices, the machine's peak as it is measured."""
    a = torch.randn(size, size, generator=torch.Generator().manual_seed(0)).to(dtype)

    def road() -> float:
        for _ in range(4):
            a @ a
        return 4 * 2 * size**3

    return road


def mfu(config: LMConfig, roads: SideBySide, name: str) -> Spread:
    """Operations of the weights' products (6N) and of causal attention's, a second, over gemm's.

    A query meets T/2 keys on average: 2 · 2 · H·E · T/2 operations a layer, and twice that backwards.
    """
    attention = 6 * config.num_layers * config.num_heads * config.head_width * config.context_length
    ratio, operations = roads.ratio(name, "gemm"), config.flops_per_token + attention
    return Spread(*(operations * value for value in dataclasses.astuple(ratio)))


def operators(step: Callable[[Batch], float], batch: Batch) -> str:
    """The operators that a step spends most of its time in, as a table with their shares."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(3):
            step(batch)
    averages = profiler.key_averages()
    total = sum(entry.self_cpu_time_total for entry in averages)
    top = sorted(averages, key=lambda entry: -entry.self_cpu_time_total)[:15]
    lines = [f"  {e.self_cpu_time_total / total:6.1%}  {e.count // 3:5} calls  {e.key}" for e in top]
    return "\n".join(["  share of a step's time, by operator", *lines])


@pytest.mark.benchmark(group=f"packing with document masks beside padding: 6m preset, {ROWS} rows a step")
@pytest.mark.skipif(not CORPORA.is_dir(), reason="the packaged corpora are not installed")
def test_packing(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real targets a second over the same documents; padding goes to the longest of each batch."""
    monkeypatch.setenv("SBP_CORPORA", str(CORPORA))
    corpus, report = packaged_corpus(40 if IS_SMALL else 400), Report(benchmark, capsys)
    batches = {"packed": packed_batches(corpus, ROWS), "padded": padded_batches(corpus, ROWS)}
    roads = {}
    for name, chosen in batches.items():
        model = Transformer(MODEL_6M).train().set_matmul_dtype(torch.bfloat16)
        roads[name] = targets_of(our_step(model, model.loss_sum), chosen)
        share = sum(real_targets(b) for b in chosen) / sum(b.num_tokens for b in chosen)
        report.say(f"  {name}: {len(chosen)} steps, {share:.1%} of the positions have a target")
    timed = SideBySide(roads)
    timed.run(benchmark)
    report.speeds(timed, "real tokens/s")
    report.bar("packed, times padded", timed.ratio("packed", "padded"), 1.5)


def packaged_corpus(documents_each: int) -> Corpus:
    """Documents of the three packaged corpora in turn, tokenised at the preset's vocabulary."""
    names = ("wikipedia", "factbook", "cookbook")
    columns = [
        [d for _, d in zip(range(documents_each), read_documents(f"packaged:{n}"), strict=False)]
        for n in names
    ]
    documents = [document for column in columns for document in column]
    tokenizer = train_tokenizer([document.text for document in documents], MODEL_6M.vocab_size)
    return Corpus.build(documents, tokenizer)


def packed_batches(corpus: Corpus, rows: int) -> list[Batch]:
    stream = EpochStream(corpus, 0, MODEL_6M.context_length)
    numbers = range(stream.rows_per_epoch)
    groups = [[stream.row(r) for r in numbers[i : i + rows]] for i in range(0, len(numbers), rows)]
    return [Batch(*(torch.from_numpy(np.stack(part)) for part in zip(*g, strict=True))) for g in groups]


def padded_batches(corpus: Corpus, rows: int) -> list[Batch]:
    """One window of a document a row, in random order."""
    windows = list(rows_of(corpus, MODEL_6M.context_length))
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0)).tolist()
    batches = []
    for start in range(0, len(order), rows):
        group = [windows[i] for i in order[start : start + rows]]
        shape = (len(group), max(len(window.inputs) for window in group))
        inputs, targets, segments = (torch.full(shape, filler) for filler in (0, IGNORE, -1))
        for row, window in enumerate(group):
            length = len(window.inputs)
            inputs[row, :length] = torch.from_numpy(window.inputs)
            targets[row, :length] = torch.from_numpy(window.targets)
            segments[row, :length] = 0
        batches.append(Batch(inputs, targets, segments))
    return batches


def real_targets(batch: Batch) -> int:
    return int((batch.targets != IGNORE).sum())


def targets_of(step: Callable[[Batch], float], batches: list[Batch]) -> Callable[[], float]:
    """A road over a stretch of the batches, another one each round."""
    position, stretch = 0, 2 if IS_SMALL else 8

    def road() -> float:
        nonlocal position
        chosen = [batches[(position + i) % len(batches)] for i in range(stretch)]
        position += stretch
        for batch in chosen:
            step(batch)
        return sum(real_targets(batch) for batch in chosen)

    return road
