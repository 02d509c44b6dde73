"""A stage of the pipeline: a folder with a plan, its output, and a manifest written last.

The plan is the fingerprint of inputs, configuration and code. A folder with a manifest is finished
and is never run again; a folder with a plan alone was interrupted and goes on where it stopped; a
folder with another plan is refused.
"""

import dataclasses
import fcntl
import functools
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import sbp_bayes
from sbp_bayes.base.config import encode, fingerprint
from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.runtime import torchrun_rank
from sbp_bayes.base.store import read_json, write_json, writing_to

PLAN, MANIFEST, ELAPSED, LOCK = "plan.json", "manifest.json", "elapsed.json", ".lock"
LOCK_SECONDS = 2.0
"""How long a folder in use is waited for: workers of a killed run need a moment to notice."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What determines a stage's output: its name, configuration, inputs' fingerprints and code."""

    stage: str
    config: Any
    inputs: Mapping[str, str]
    code_version: str

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name the output."""
        return fingerprint(dataclasses.asdict(self) | {"config": self.config})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a stage's work reports.

    Attributes:
        counts: by name.
        flops: floating-point operations spent.
        scratch: folders in the stage's that only an interrupted work needs; removed when it is finished.
    """

    counts: Mapping[str, Any]
    flops: float = 0.0
    scratch: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The record of a finished stage. `seconds` is wall-clock time over all interrupted attempts."""

    stage: str
    fingerprint: str
    inputs: dict[str, str]
    config: dict[str, Any]
    code_version: str
    counts: dict[str, Any]
    seconds: float
    flops: float
    directory: Path


@dataclasses.dataclass(frozen=True)
class Workspace:
    """A folder of stage folders, each named by its plan: runs that share a plan share its output."""

    root: Path

    def folder(self, plan: Plan) -> Path:
        """Where the output of `plan` lies."""
        return self.root / f"{plan.stage}-{plan.fingerprint}"


@dataclasses.dataclass
class StageFolder:
    """The folder a stage's work writes into."""

    path: Path
    seconds_before: float
    started: float

    def tick(self) -> None:
        """Keep the seconds spent so far, so that an interrupted stage reports its whole cost."""
        write_json(self.path / ELAPSED, {"seconds": self.seconds})

    @property
    def seconds(self) -> float:
        """Seconds spent on this stage, over all attempts."""
        return self.seconds_before + time.monotonic() - self.started


def plan_stage(name: str, config: Any, inputs: Mapping[str, str], packages: tuple[str, ...]) -> Plan:
    """Build a stage's plan; `packages` are the subpackages of sbp_bayes whose code it runs."""
    return Plan(stage=name, config=config, inputs=dict(inputs), code_version=code_version(*packages))


def run_stage(
    plan: Plan,
    place: Path | Workspace,
    work: Callable[[StageFolder], Outcome],
    *,
    collective: bool = False,
) -> Manifest:
    """Run `work` unless a finished output of the same plan is there already.

    Under torchrun rank 0 alone does this; the others wait until it is finished.

    Args:
        plan: what determines the output.
        place: the stage's own folder, or a workspace that names the folder by the plan. Created if
            missing; holds the plan, the output and at last the manifest.
        work: writes its output under `StageFolder.path`; must go on from what an earlier,
            interrupted call of the same plan left there.
        collective: whether `work` needs all of torchrun's processes. The others then do it too, and must
            write nothing.

    Raises:
        StoreError: the folder holds another plan, or another process is writing it.
    """
    directory = place.folder(plan) if isinstance(place, Workspace) else Path(place)
    if torchrun_rank() > 0:
        return _follow(plan, directory, work if collective else None)
    with _locked(directory):
        _refuse_other_plan(plan, directory)
        if (directory / MANIFEST).exists():
            return read_manifest(directory)
        write_json(directory / PLAN, _plan_record(plan))
        before = read_json(directory / ELAPSED)["seconds"] if (directory / ELAPSED).exists() else 0.0
        folder = StageFolder(directory, before, time.monotonic())
        try:
            outcome = work(folder)
        except BaseException:
            folder.tick()
            raise
        record = _plan_record(plan) | {
            "counts": dict(outcome.counts),
            "seconds": folder.seconds,
            "flops": float(outcome.flops),
        }
        write_json(directory / MANIFEST, record)
        for name in outcome.scratch:
            shutil.rmtree(directory / name, ignore_errors=True)
        return Manifest(**record, directory=directory)


def read_manifest(directory: Path) -> Manifest:
    """Read a finished stage's manifest.

    Raises:
        StoreError: the stage is missing, unfinished or damaged.
    """
    path = Path(directory) / MANIFEST
    if not path.exists():
        state = "is unfinished" if (Path(directory) / PLAN).exists() else "is not a stage's output"
        raise StoreError(f"{directory} {state}: no {MANIFEST}")
    try:
        return Manifest(**read_json(path), directory=Path(directory))
    except TypeError as error:
        raise StoreError(f"{path}: damaged or of another version ({error})") from error


@functools.cache
def code_version(*packages: str) -> str:
    """Hash the Python source of the named subpackages of sbp_bayes (and of `base`)."""
    root = Path(sbp_bayes.__file__).parent
    digest = hashlib.sha256()
    for package in sorted({"base", *packages}):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _follow(plan: Plan, directory: Path, work: Callable[[StageFolder], Outcome] | None) -> Manifest:
    """Take part in a collective work, and wait for rank 0 to finish the stage."""
    if work is not None and not _is_finished(plan, directory):
        work(StageFolder(directory, 0.0, time.monotonic()))
    while not _is_finished(plan, directory):  # torchrun ends this process if rank 0 fails
        time.sleep(0.1)
    return read_manifest(directory)


def _is_finished(plan: Plan, directory: Path) -> bool:
    path = directory / MANIFEST
    return path.exists() and read_manifest(directory).fingerprint == plan.fingerprint


def _plan_record(plan: Plan) -> dict[str, Any]:
    return {
        "stage": plan.stage,
        "fingerprint": plan.fingerprint,
        "inputs": dict(plan.inputs),
        "config": encode(plan.config),
        "code_version": plan.code_version,
    }


def _refuse_other_plan(plan: Plan, directory: Path) -> None:
    if not (directory / PLAN).exists():
        return
    found, wanted = read_json(directory / PLAN), _plan_record(plan)
    if found["fingerprint"] == wanted["fingerprint"]:
        return
    differing = sorted(_differences(found, wanted))
    raise StoreError(
        f"{directory} holds the output of another plan (differs in {', '.join(differing)}): "
        "choose another folder, or remove it"
    )


def _differences(found: Any, wanted: Any, where: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in found.keys() | wanted.keys():
            if where or key != "fingerprint":
                yield from _differences(found.get(key), wanted.get(key), f"{where}.{key}" if where else key)
    elif found != wanted:
        yield where


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with writing_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / LOCK, "w")  # noqa: SIM115 - held open for the block, closed below
    with lock:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _lock(lock):
            if time.monotonic() > deadline:
                raise StoreError(f"{directory} is being written by another process")
            time.sleep(0.05)
        yield


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
