"""A program that trains for three steps and prints the bytes of its peak beyond what it holds before, and the
CPU seconds of the steps: `python step_memory.py PRESET ROWS DTYPE LARGE`, LARGE as in `lm.buffers`.

Linux only: it reads and resets the system's own count of its resident memory.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from sbp_bayes.base.records import Batch
from sbp_bayes.lm import PRESETS, LMConfig, Transformer, buffers, matmul_dtype
from sbp_bayes.training import OptimiserConfig
from sbp_bayes.training.optimiser import build_optimiser


def measured(preset: str, rows: int, dtype: str, large: int = buffers.LARGE) -> tuple[int, float]:
    """Run this program in a process of its own, since a heap keeps what earlier work left on it."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, __file__, preset, str(rows), dtype, str(large)]
    peak, seconds = subprocess.run(command, env=environment, check=True, capture_output=True).stdout.split()
    return int(peak), float(seconds)


def steps(config: LMConfig, rows: int, dtype: str) -> None:
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


def resident(name: str) -> int:
    """Return a value of /proc/self/status; getrusage's peak begins with that of the parent process."""
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name)]
    return int(line.split()[1]) * 1024


def main(preset: str, rows: str, dtype: str, large: str) -> None:
    torch.set_num_threads(2)
    buffers.LARGE = int(large)
    steps(PRESETS["smoke"], 2, dtype)  # what the libraries load once
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start = resident("VmRSS"), time.process_time()
    steps(PRESETS[preset], int(rows), dtype)
    print(resident("VmHWM") - before, time.process_time() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
