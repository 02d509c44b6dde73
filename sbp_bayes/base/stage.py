"""A stage of the pipeline: a folder with a plan, its output, and a manifest written last.

The plan is the fingerprint of inputs, configuration, device and code. A folder with a manifest is finished
and is never run again; a folder with a plan alone was interrupted and goes on where it stopped; a
folder with another plan is refused, unless it differs in code alone and the user accepts that.
"""

import dataclasses
import json
import shutil
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sbp_bayes.base.code import code_version, software
from sbp_bayes.base.config import encode, fingerprint
from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.lock import holder, locked
from sbp_bayes.base.progress import say
from sbp_bayes.base.runtime import torchrun_job, torchrun_rank
from sbp_bayes.base.store import read_json, write_json

PLAN, MANIFEST, ELAPSED = "plan.json", "manifest.json", "elapsed.json"
CODE = "code_version"
RESOLVED = ("config.engine.device", "config.matmul_dtype", "device")
"""What a plan says of the machine, where the user left it open."""

DIFFERENCES_SHOWN = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What determines a stage's output.

    Attributes:
        stage: its name.
        config: its settings, those that depend on the machine resolved.
        inputs: fingerprints by name.
        code_version: of the code that it runs.
        device: the kind of device on which torch computes, "cpu" or "cuda"; None: torch isn't used.
    """

    stage: str
    config: Any
    inputs: Mapping[str, str]
    code_version: str
    device: str | None = None

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
    """The record of a finished stage.

    Attributes:
        stage, inputs, config, device: as in the plan.
        fingerprint, code_version: of the plan with which the stage was begun.
        counts, flops: see `Outcome`.
        seconds: wall-clock time over all interrupted attempts.
        attempts: the code versions that worked on the stage, each with the versions of the software; more
            than one only where the user accepted other code, or where the software has changed.
        directory: the stage's folder.
    """

    stage: str
    fingerprint: str
    inputs: dict[str, str]
    config: dict[str, Any]
    code_version: str
    counts: dict[str, Any]
    seconds: float
    flops: float
    directory: Path
    device: str | None = None
    attempts: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Folder:
    """The folder of one stage.

    Attributes:
        root: where it is.
        accept_code: whether to take up, or to use, what another version of the code has left there.
    """

    root: Path
    accept_code: bool = False

    def folder(self, plan: Plan) -> Path:
        """Where the output of `plan` lies."""
        return self.root


@dataclasses.dataclass(frozen=True)
class Workspace:
    """A folder of stage folders, each named by its plan: runs that share a plan share its output.

    Attributes:
        root: where it is.
        accept_code: whether a plan that has no folder yet takes up, or uses, the folder of a plan that
            differs in code alone: a finished one if there is one, or else the one that was begun last.
    """

    root: Path
    accept_code: bool = False

    def folder(self, plan: Plan) -> Path:
        """Where the output of `plan` lies."""
        own = self.root / f"{plan.stage}-{plan.fingerprint}"
        if not self.accept_code or (own / PLAN).exists():
            return own
        others = [folder for folder, keys in self.siblings(plan) if keys == [CODE]]
        return max(others, key=_finished_and_begun, default=own)

    def siblings(self, plan: Plan) -> Iterator[tuple[Path, list[str]]]:
        """Yield the folders of the same stage with other plans, each with the keys that differ."""
        for path in sorted(self.root.glob(f"{plan.stage}-*/{PLAN}")):
            keys = [key for key, _, _ in _differences(plan, read_json(path))]
            if keys:
                yield path.parent, keys


Place = Path | Folder | Workspace
"""Where a stage's output goes."""


def as_place(place: Place) -> Folder | Workspace:
    """Return `place`, a path as the folder of one stage."""
    return place if isinstance(place, Folder | Workspace) else Folder(Path(place))


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


def plan_stage(
    name: str, config: Any, inputs: Mapping[str, str], *modules: str, device: str | None = None
) -> Plan:
    """Build a stage's plan; `modules` are those whose code it runs, the stage's own first (`__name__`)."""
    return Plan(
        stage=name, config=config, inputs=dict(inputs), code_version=code_version(*modules), device=device
    )


def run_stage(
    plan: Plan, place: Place, work: Callable[[StageFolder], Outcome], *, collective: bool = False
) -> Manifest:
    """Run `work` unless a finished output of the same plan is there already.

    Where another process works on the same folder, this one waits until it has finished or ended.
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
        StoreError: the folder holds another plan, or cannot be written.
    """
    place = as_place(place)
    directory = place.folder(plan)
    stage = _Stage(plan, directory, place.accept_code)
    if torchrun_rank() > 0:
        return stage.follow(work if collective else None)
    stage.refuse_other_plan()
    if not stage.is_finished:
        if isinstance(place, Workspace) and not (directory / PLAN).exists():
            _tell_of_unfinished(plan, place)
        with locked(directory, on_wait=stage.refuse_other_plan):
            stage.refuse_other_plan()
            if not stage.is_finished:
                stage.finish(work)
    return read_manifest(directory)


@dataclasses.dataclass(frozen=True)
class _Stage:
    """A plan and the folder of its output."""

    plan: Plan
    directory: Path
    accept_code: bool

    @property
    def is_finished(self) -> bool:
        return (self.directory / MANIFEST).exists() and self.fits(read_json(self.directory / MANIFEST))

    def fits(self, found: Mapping[str, Any]) -> bool:
        """Whether a record is of this plan, or of one that differs in code which is accepted."""
        keys = [key for key, _, _ in _differences(self.plan, found)]
        known = [attempt[CODE] for attempt in found.get("attempts", ())]
        return not keys or (keys == [CODE] and (self.accept_code or self.plan.code_version in known))

    def refuse_other_plan(self) -> None:
        path = self.directory / PLAN
        if path.exists() and not self.fits(found := read_json(path)):
            differences = list(_differences(self.plan, found))
            is_code = [key for key, _, _ in differences] == [CODE]
            way_on = ", or accept that with --accept-code" if is_code else ""
            raise StoreError(
                f"{self.directory} holds the output of another plan (differs in {_written(differences)}): "
                f"choose another folder, or remove it{way_on}"
            )

    def finish(self, work: Callable[[StageFolder], Outcome]) -> None:
        """Do the work, or what is left of it, and write the manifest."""
        directory = self.directory
        record = self._begin()
        before = read_json(directory / ELAPSED)["seconds"] if (directory / ELAPSED).exists() else 0.0
        folder = StageFolder(directory, before, time.monotonic())
        try:
            outcome = work(folder)
        except BaseException:
            folder.tick()
            raise
        finished = {
            "counts": dict(outcome.counts),
            "seconds": folder.seconds,
            "flops": float(outcome.flops),
        }
        write_json(directory / MANIFEST, record | finished)
        for name in outcome.scratch:
            shutil.rmtree(directory / name, ignore_errors=True)

    def follow(self, work: Callable[[StageFolder], Outcome] | None) -> Manifest:
        """Take part in a collective work once rank 0 does it, and wait for rank 0 to finish the stage."""
        while not self.is_finished:  # torchrun ends this process if rank 0 fails
            leader = holder(self.directory)
            if work is not None and leader is not None and leader.job == torchrun_job():
                work(StageFolder(self.directory, 0.0, time.monotonic()))
                work = None
            time.sleep(0.1)
        return read_manifest(self.directory)

    def _begin(self) -> dict[str, Any]:
        """Write who works on the stage into its plan, and return that."""
        path, plan = self.directory / PLAN, self.plan
        attempt = {CODE: plan.code_version, "software": software()}
        record = read_json(path) if path.exists() else _record(plan)
        attempts = record.get("attempts", [])
        if attempts and attempts[-1] != attempt:
            say(f"{self.directory} goes on, with {_written(list(_unequal(attempt, attempts[-1])))}")
        if attempt not in attempts:
            record["attempts"] = [*attempts, attempt]
            write_json(path, record)
        return dict(record)


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


def _record(plan: Plan) -> dict[str, Any]:
    return {
        "stage": plan.stage,
        "fingerprint": plan.fingerprint,
        "inputs": dict(plan.inputs),
        "config": encode(plan.config),
        CODE: plan.code_version,
        "device": plan.device,
        "attempts": [],
    }


Difference = tuple[str, Any, Any]
"""A key, its value in a plan, and its value in another plan's record."""


def _differences(plan: Plan, found: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield where the record of a plan differs from `plan`, in alphabetical order of the keys."""
    if found.get("fingerprint") != plan.fingerprint:
        wanted = {
            key: value for key, value in _record(plan).items() if key not in ("fingerprint", "attempts")
        }
        yield from _unequal(wanted, {key: found.get(key) for key in wanted})


def _unequal(wanted: Any, found: Any, where: str = "") -> Iterator[Difference]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted(wanted.keys() | found.keys()):
            yield from _unequal(wanted.get(key), found.get(key), f"{where}.{key}" if where else key)
    elif wanted != found:
        yield where, wanted, found


def _written(differences: Sequence[Difference]) -> str:
    shown = [
        f"{key} = {_short(wanted)} here, {_short(found)} in the plan"
        for key, wanted, found in differences[:DIFFERENCES_SHOWN]
    ]
    more = len(differences) - len(shown)
    return "; ".join([*shown, f"{more} more"] if more else shown)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return textwrap.shorten(text, 60, placeholder="…")


def _finished_and_begun(folder: Path) -> tuple[bool, int]:
    return (folder / MANIFEST).exists(), (folder / PLAN).stat().st_mtime_ns


def _tell_of_unfinished(plan: Plan, work: Workspace) -> None:
    """Say that a stage begins anew, where it was begun before on another machine or by other code."""
    for folder, keys in work.siblings(plan):
        if set(keys) <= {CODE, *RESOLVED} and not (folder / MANIFEST).exists():
            differences = _written(list(_differences(plan, read_json(folder / PLAN))))
            way_on = " (accept_code=True goes on with it)" if keys == [CODE] else ""
            say(f"{folder} is unfinished and differs in {differences}: {plan.stage} begins anew{way_on}")
