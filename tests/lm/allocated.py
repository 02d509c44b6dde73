"""What torch allocates, by its profiler: tracemalloc does not see it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile

from sbp_bayes.lm import buffers


def peak_bytes(work: Callable[[], object], folder: Path) -> int:
    """Run `work`; return the most bytes that its tensors on the processor held at once.

    Large tensors take PyTorch's memory meanwhile, for the profiler does not see NumPy's.
    """
    with (
        mock.patch.object(buffers, "LARGE", sys.maxsize),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler,
    ):
        work()
    profiler.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    memory = sorted((e for e in events if e["name"] == "[memory]"), key=lambda event: event["ts"])
    return int(torch.tensor([event["args"]["Bytes"] for event in memory]).cumsum(0).max())
