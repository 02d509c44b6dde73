"""The memory of a training step as the operating system sees it, beside `lm.memory`'s prediction.

What a process holds is what its tensors need and the holes in glibc's heap. Where large blocks are mapped one
by one (MALLOC_MMAP_THRESHOLD_) there are none, and the peak is the tensors'; but each block is then fresh
memory, whose pages are cleared at the first touch, so the CPU time of the steps is reported beside it. Huge
pages (THP_MEM_ALLOC_ENABLE, torch's own) save a part of that. The bar is reported for all, not enforced;
SBP_BENCH=small tries the file on little work.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from side_by_side import IS_SMALL, Report, Spread

from sbp_bayes.lm import PRESETS, matmul_dtype
from sbp_bayes.lm.memory import training_memory

ROWS = 2 if IS_SMALL else 32
HEAPS = {
    "as it is": {},
    "without holes": {"MALLOC_MMAP_THRESHOLD_": str(2**20)},
    "without holes, in huge pages": {"MALLOC_MMAP_THRESHOLD_": str(2**22), "THP_MEM_ALLOC_ENABLE": "1"},
}
PROGRAM = """
import sys
import time
from pathlib import Path
import torch
from sbp_bayes.base.records import Batch
from sbp_bayes.lm import PRESETS, Transformer, matmul_dtype
from sbp_bayes.training import OptimiserConfig
from sbp_bayes.training.optimiser import build_optimiser

def steps(config, rows, dtype):
    model = Transformer(config).set_matmul_dtype(matmul_dtype(dtype))
    optimiser, generator = build_optimiser(model, OptimiserConfig()), torch.Generator().manual_seed(0)
    for _ in range(3):
        tokens = torch.randint(2, config.vocab_size, (rows, config.context_length), generator=generator)
        batch = Batch(tokens, tokens.roll(-1, 1), torch.zeros_like(tokens))
        optimiser.zero_grad(set_to_none=True)
        loss, num_targets = model.loss_sum(batch)
        (loss / num_targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

def resident(name):  # getrusage's peak is no use: a new process begins with its parent's
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name)]
    return int(line.split()[1]) * 1024

torch.set_num_threads(2)
rows, dtype = int(sys.argv[1]), sys.argv[2]
steps(PRESETS["smoke"], 2, dtype)  # what the libraries load once
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before, start = resident("VmRSS"), time.process_time()
steps(PRESETS["6m"], rows, dtype)
print(resident("VmHWM") - before, time.process_time() - start)
"""


def measured(rows: int, dtype: str, heap: Mapping[str, str]) -> tuple[int, float]:
    """Bytes that the peak of three steps lies above that of the smallest model's, in a new process, and the
    CPU seconds of these steps.
    """
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | heap
    command = [sys.executable, "-c", PROGRAM, str(rows), dtype]
    peak, seconds = subprocess.run(command, env=environment, check=True, capture_output=True).stdout.split()
    return int(peak), float(seconds)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's count of a process's peak")
@pytest.mark.benchmark(group=f"memory of a training step: 6m preset, {ROWS} rows of 512 tokens")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], dtype: str) -> None:
    report = Report(benchmark, capsys)
    predicted = training_memory(PRESETS["6m"], ROWS, matmul_dtype=matmul_dtype(dtype))
    peaks: dict[str, list[float]] = {name: [] for name in HEAPS}
    times: dict[str, list[float]] = {name: [] for name in HEAPS}

    def measure() -> None:
        for name, heap in HEAPS.items():
            peak, seconds = measured(ROWS, dtype, heap)
            peaks[name].append(peak)
            times[name].append(seconds)

    benchmark.pedantic(measure, rounds=1 if IS_SMALL else 3)
    report.say(f"  predicted in {dtype}: {predicted}")
    for name, sizes in peaks.items():
        report.value(f"peak, heap {name}", Spread.of([size / 2**20 for size in sizes]), "MiB")
        ratio = Spread.of([size / predicted.total for size in sizes])
        report.bar(f"peak over predicted, heap {name}", ratio, 1.2, most=True)
        slower = [one / other for one, other in zip(times[name], times["as it is"], strict=True)]
        report.value(f"CPU time, heap {name}", Spread.of(slower), "times that of the heap as it is")
