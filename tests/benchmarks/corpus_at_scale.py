"""`sbp corpus` on a folder of shards: wall time, peak memory of all its processes, and a kill in the middle.

`python tests/benchmarks/corpus_at_scale.py SHARDS SCRATCH` runs the command once as it is, and once more with
`kill -9` of all its processes at three moments and a new start after each, and says whether both left the
same corpus. Linux only.
"""

import argparse
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sbp_bayes.base.stage import read_manifest
from sbp_bayes.base.store import read_json

MEBIBYTE = 1 << 20


@dataclasses.dataclass
class Run:
    """Seconds, exit status, and the most bytes that processes of one moment had held by then, together."""

    seconds: float
    status: int
    peak: int


def peaks_of_session(session: int) -> list[int]:
    """Return the highest resident memory so far (VmHWM) of each process that runs in `session`, in bytes."""
    peaks = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                (line,) = [x for x in (folder / "status").read_text().splitlines() if x.startswith("VmHWM")]
                peaks.append(int(line.split()[1]) * 1024)
        except (OSError, ValueError):  # it has ended
            continue
    return peaks


def run(shards: Path, out: Path, workers: int, stop: Callable[[], bool] = lambda: False) -> Run:
    """Run the command, and kill all its processes as soon as `stop` says so."""
    command = [sys.executable, "-m", "sbp_bayes.cli", "corpus", shards, "--out", out]
    command += ["--workers", str(workers)]
    start, peak = time.monotonic(), 0
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, sum(peaks_of_session(process.pid)))
        if stop():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        time.sleep(0.02)
    return Run(time.monotonic() - start, process.returncode, peak)


def half_done(out: Path, kind: str, num_shards: int) -> bool:
    return len(list((out / "shards").glob(f"??????.{kind}"))) >= num_shards / 2


def result(out: Path) -> list[object]:
    """All that must be the same."""
    names = ("pool", "validation", "test")
    files = ("tokenizer.json", "rejects.jsonl", "duplicates.parquet")
    prints = [read_json(out / name / "meta.json")["fingerprint"] for name in names]
    return [read_manifest(out).counts, prints, *((out / name).read_bytes() for name in files)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("scratch", type=Path, help="folder for the output, emptied first")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.scratch, ignore_errors=True)
    whole = run(arguments.shards, arguments.scratch / "whole", arguments.workers)
    assert whole.status == 0
    counts = read_manifest(arguments.scratch / "whole").counts
    kept = sum(split["bytes"] for split in counts["splits"].values())
    print(f"{whole.seconds:.1f} s, {kept / whole.seconds / 1e6:.1f} MB of kept text a second, ", end="")
    print(f"peak of all processes together {whole.peak / MEBIBYTE:.0f} MiB")
    out, num_shards = arguments.scratch / "killed", len(list(arguments.shards.rglob("*.zst")))
    moments = {
        "half of the shards are read": lambda: half_done(out, "json", num_shards),
        "half of the shards are tokenised": lambda: half_done(out, "tokens.json", num_shards),
        "the pool is written": (out / "pool" / "meta.json").exists,
    }
    for moment, stop in moments.items():
        stopped = run(arguments.shards, out, arguments.workers, stop)
        assert stopped.status == -signal.SIGKILL
        print(f"killed when {moment}, after {stopped.seconds:.1f} s, peak {stopped.peak / MEBIBYTE:.0f} MiB")
    again = run(arguments.shards, out, arguments.workers)
    same = result(out) == result(arguments.scratch / "whole")
    print(f"{again.seconds:.1f} s to the end; the same corpus: {same}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
