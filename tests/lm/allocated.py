"""What torch allocates, by its profiler: tracemalloc doesn't see it."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(work: Callable[[], object], folder: Path) -> int:
    """Run `work`; return the most bytes that its tensors on the processor held at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    profiler.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    memory = sorted((e for e in events if e["name"] == "[memory]"), key=lambda event: event["ts"])
    return int(torch.tensor([event["args"]["Bytes"] for event in memory]).cumsum(0).max())
