"""`sbp corpus` on a folder of shards: wall time, peak memory of all its processes, and a kill in the middle.

`python tests/benchmarks/corpus_at_scale.py SHARDS SCRATCH` runs the command once as it is, and once more with
`kill -9` of all its processes at each of several moments and a new start after each, and says whether both
left the same corpus. Linux only.
"""

import argparse
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from sbp_bayes.base.stage import MANIFEST, read_manifest
from sbp_bayes.base.store import read_json

MEBIBYTE = 1 << 20


@dataclasses.dataclass
class Run:
    """Seconds, exit status, and the sum over processes of each one's highest resident memory in bytes."""

    seconds: float
    status: int
    peak: int


def peaks_of_session(session: int) -> dict[int, int]:
    """Return the highest resident memory so far (VmHWM) of each process that runs in `session`, in bytes."""
    peaks = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                lines = (folder / "status").read_text().splitlines()
                peaks[int(folder.name)] = sum(
                    int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM")
                )
        except (OSError, ValueError):  # it ended meanwhile
            continue
    return peaks


def run(shards: Path, out: Path, workers: int, stop_after: float | None = None) -> Run:
    """Run the command; kill all its processes after so many seconds."""
    command = [
        sys.executable,
        "-m",
        "sbp_bayes.cli",
        "corpus",
        shards,
        "--out",
        out,
        "--workers",
        str(workers),
    ]
    start, peaks = time.monotonic(), {}
    process = subprocess.Popen(command, start_new_session=True)
    while process.poll() is None:
        peaks |= peaks_of_session(process.pid)
        if stop_after is not None and time.monotonic() - start > stop_after:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            break
        time.sleep(0.05)
    return Run(time.monotonic() - start, process.returncode, sum(peaks.values()))


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
    parser.add_argument("--kills", type=int, default=4)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.scratch, ignore_errors=True)
    whole = run(arguments.shards, arguments.scratch / "whole", arguments.workers)
    assert whole.status == 0
    counts = read_manifest(arguments.scratch / "whole").counts
    kept = sum(split["bytes"] for split in counts["splits"].values())
    print(f"{whole.seconds:.1f} s, {kept / whole.seconds / 1e6:.1f} MB of kept text a second, ", end="")
    print(f"peak of all processes together {whole.peak / MEBIBYTE:.0f} MiB")
    for kill in range(arguments.kills):
        share = (kill + 0.5) / arguments.kills
        stopped = run(
            arguments.shards, arguments.scratch / "killed", arguments.workers, share * whole.seconds
        )
        print(f"killed after {stopped.seconds:.1f} s")
        if (arguments.scratch / "killed" / MANIFEST).exists():
            break
    again = run(arguments.shards, arguments.scratch / "killed", arguments.workers)
    same = result(arguments.scratch / "killed") == result(arguments.scratch / "whole")
    print(f"{again.seconds:.1f} s to the end; the same corpus: {same}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
