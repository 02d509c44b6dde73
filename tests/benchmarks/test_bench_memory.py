"""The memory of a training step as the operating system sees it, beside `lm.memory`'s prediction.

What a process holds is what its tensors need and the holes in its heap. `lm.buffers` gives large tensors
memory whose holes serve again; beside it stands the same step with PyTorch's own memory, and the CPU time of
one over the other's. The bars are reported, not enforced; SBP_BENCH=small tries the file on little work.
"""

import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from side_by_side import IS_SMALL, Report, Spread

from sbp_bayes.lm import PRESETS, buffers, matmul_dtype
from sbp_bayes.lm.memory import training_memory

sys.path.append(str(Path(__file__).parents[1] / "lm"))
from step_memory import measured

ROWS = 2 if IS_SMALL else 32
MEMORY = {"as it is": buffers.LARGE, "from PyTorch": sys.maxsize}
"""The sizes from which a tensor's memory is not PyTorch's."""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's count of a process's peak")
@pytest.mark.benchmark(group=f"memory of a training step: 6m preset, {ROWS} rows of 512 tokens")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], dtype: str) -> None:
    report = Report(benchmark, capsys)
    predicted = training_memory(PRESETS["6m"], ROWS, matmul_dtype=matmul_dtype(dtype))
    peaks: dict[str, list[float]] = {name: [] for name in MEMORY}
    times: dict[str, list[float]] = {name: [] for name in MEMORY}

    def measure() -> None:
        for name, large in MEMORY.items():
            peak, seconds = measured("6m", ROWS, dtype, large)
            peaks[name].append(peak)
            times[name].append(seconds)

    benchmark.pedantic(measure, rounds=1 if IS_SMALL else 5)
    report.say(f"  predicted in {dtype}: {predicted}")
    for name, sizes in peaks.items():
        report.value(f"peak, memory {name}", Spread.of([size / 2**20 for size in sizes]), "MiB")
        ratio = Spread.of([size / predicted.total for size in sizes])
        report.bar(f"peak over predicted, memory {name}", ratio, 1.2, most=True)
    slower = Spread.of([one / other for one, other in zip(*times.values(), strict=True)])
    report.bar("CPU time, over that with memory from PyTorch", slower, 1.03, most=True)
