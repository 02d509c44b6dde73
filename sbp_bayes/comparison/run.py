"""All arms of all seeds: what several arms need is run once, and what waits for nothing runs side by side."""

import functools
from collections.abc import Callable, Hashable, Sequence

from sbp_bayes.arms import ARMS, Arm, in_order
from sbp_bayes.base.config import require_one_of
from sbp_bayes.base.stage import Workspace
from sbp_bayes.base.workers import Task, in_order_of_need, usable_cores
from sbp_bayes.comparison.bench import Bench
from sbp_bayes.comparison.training import ArmRun, ArmStages

OpenBench = Callable[[int], Bench]
"""Seed → its bench; picklable, called in each process that works for the seed."""


def run_arms(
    open_bench: OpenBench,
    seeds: Sequence[int],
    arms: Sequence[str],
    work: Workspace,
    num_workers: int | None = None,
) -> list[ArmRun]:
    """Run the arms of these names for every seed; finished stages in `work` are taken as they are.

    Args:
        open_bench: gives each seed's documents and settings.
        seeds: one or more, all different.
        arms: names in `ARMS`; their order does not matter.
        work: receives one folder a stage, named by its plan.
        num_workers: processes of one thread each; by default the usable cores. Changes speed alone.

    Returns:
        the runs in the order of the table, each arm's by seed.

    Raises:
        ConfigError: there is no such arm, or a bench cannot run it.
        SbpError: bad input or settings; what earlier stages wrote stays.
    """
    for name in arms:
        require_one_of("arms", name, tuple(ARMS))
    rows = [ARMS[name] for name in in_order(arms)]
    num_workers = num_workers or usable_cores()
    # One seed leaves the other cores to its synthesis; several seeds fill them.
    stages = functools.partial(_stages, open_bench, work=work, num_samplers=max(1, num_workers // len(seeds)))
    tasks: dict[Hashable, Task[ArmRun | None]] = {}
    for kind in ("baseline", "companion", "arm"):  # what most others wait for comes first
        for seed in seeds:
            for arm in rows:
                tasks |= _tasks(kind, arm, functools.partial(stages, seed), seed)
    done = in_order_of_need(tasks, num_workers)
    return [run for arm in rows for seed in seeds if (run := done["arm", seed, arm.name]) is not None]


def _tasks(
    kind: str, arm: Arm, stages: Callable[[], ArmStages], seed: int
) -> dict[Hashable, Task[ArmRun | None]]:
    """Return what an arm adds to the tasks of one kind, by name; arms that share a stage share its name."""
    baseline, start = ("baseline", seed), ("start", seed)
    companion = ("companion", seed, *_text_of(arm))
    needs: tuple[Hashable, ...]
    builds_on_baseline = arm.real != "oracle" and arm.companion != "posterior"
    before = (baseline,) if builds_on_baseline else ()
    if kind == "baseline" and builds_on_baseline:
        return {baseline: Task(functools.partial(_baseline, stages))}
    if kind == "companion" and arm.companion:
        tasks: dict[Hashable, Task[ArmRun | None]] = {}
        if before:
            tasks[start] = Task(functools.partial(_starts, stages), before)
        tasks[companion] = Task(functools.partial(_companion, stages, arm), tuple(tasks))
        return tasks
    if kind == "arm":
        needs = (companion,) if arm.companion else before
        if arm.members > 1:  # shares the operations of the whole of SBP
            needs += (("companion", seed, *_text_of(ARMS["sbp"])),)
        return {("arm", seed, arm.name): Task(functools.partial(_run, stages, arm), needs)}
    return {}


def _text_of(arm: Arm) -> tuple[str | None, ...]:
    """Return what distinguishes the synthetic text of an arm."""
    if not arm.has_synthesizer:
        return (arm.companion,)
    return "synthesizer", arm.pairs, arm.start, arm.embedder


def _stages(open_bench: OpenBench, seed: int, *, work: Workspace, num_samplers: int) -> ArmStages:
    return ArmStages(open_bench(seed), work, num_samplers)


def _baseline(stages: Callable[[], ArmStages]) -> None:
    stages().baseline()


def _starts(stages: Callable[[], ArmStages]) -> None:
    stages().starts()


def _companion(stages: Callable[[], ArmStages], arm: Arm) -> None:
    stages().companion(arm)


def _run(stages: Callable[[], ArmStages], arm: Arm) -> ArmRun:
    return stages().run(arm)
