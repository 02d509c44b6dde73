"""The arms of one world, each seed with a world and documents of its own."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from experiments.toy_validation.bench import open_bench
from experiments.toy_validation.config import ToyConfig
from experiments.toy_validation.data import ToyData, make_data, world_tokens
from sbp_bayes.arms import CHECKPOINTS
from sbp_bayes.base.stage import Workspace
from sbp_bayes.comparison import ArmRun, gauges_of, run_arms
from sbp_bayes.concept import ExactModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One arm of one seed.

    Attributes:
        arm, seed: what was trained.
        losses: test loss by checkpoint, nats a token of the world: −log p(d), EOS included, over the tokens.
        validation: best validation loss, nats per position, by which controls are chosen.
        bayes: the Bayes-optimal loss on the same documents, −log P(d); None where P(d) has no closed form.
        flops: over all stages that the arm needs.
        tokens_seen: positions that one model was trained on.
        synthesizer: measures of the arm's synthesizer, where it has one; see `measure_synthesizer`.
        statements: what its synthetic text states, in a world of statements; see `facts.statements_of`.
        recall: facts that the best checkpoint on validation recalls, in a world of facts; see
            `facts.recall_of`.
        net_information, use_of_d1: what its synthesizer learns of d2 from d1, nats a token of the world; see
            `evaluation.gauges`.
    """

    arm: str
    seed: int
    losses: dict[str, float]
    validation: float | None = None
    bayes: float | None
    flops: float
    tokens_seen: int
    synthesizer: dict[str, float] | None
    statements: dict[str, Any] | None = None
    recall: dict[str, float] | None = None
    net_information: float | None = None
    use_of_d1: float | None = None


def run(config: ToyConfig, work: Workspace, num_workers: int | None = None) -> list[ArmResult]:
    """Run all arms of all seeds; finished stages in `work` are taken as they are.

    Where P(d2 | d1) has no closed form the arm of exact samples is left out.

    Raises:
        ConfigError: an unknown world or arm, or a parameter out of its range.
    """
    data = {seed: make_data(config, seed) for seed in config.seeds}  # refuses bad parameters at once
    world = data[config.seeds[0]].world
    arms = [arm for arm in config.arms if arm != "exact_posterior" or isinstance(world, ExactModel)]
    runs = run_arms(functools.partial(open_bench, config), config.seeds, arms, work, num_workers)
    return results_of(runs, data)


def results_of(runs: Sequence[ArmRun], data: dict[int, ToyData]) -> list[ArmResult]:
    """Return the numbers of finished runs; `data` are those of each seed."""
    bayes = {seed: bayes_loss(one) for seed, one in data.items()}
    gauged = _gauged(runs, data)
    return [
        ArmResult(
            arm=run.arm,
            seed=run.seed,
            losses={
                name: float(run.scores[name].loss_nats.sum() / data[run.seed].test.lengths.sum())
                for name in CHECKPOINTS
            },
            validation=run.validation_nats_per_token,
            bayes=bayes[run.seed],
            flops=run.total_flops("last"),
            tokens_seen=run.tokens_seen("last"),
            recall=None if run.examination is None else dict(run.examination.counts),
            **_measures(run),
            **gauged.get((run.arm, run.seed), {}),
        )
        for run in runs
    ]


def _gauged(runs: Sequence[ArmRun], data: dict[int, ToyData]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return net information and use of d1 by arm and seed; EOS is no token of the world."""
    return {
        (record["arm"], seed): {
            name: record[name]["estimate"] * (one.world.doc_length + 1) / one.world.doc_length
            for name in ("net_information", "use_of_d1")
        }
        for seed, one in data.items()
        for record in gauges_of([run for run in runs if run.seed == seed])
    }


def _measures(run: ArmRun) -> dict[str, Any]:
    measures = run.companion.measures if run.companion else None
    return {"synthesizer": None} if measures is None else dict(measures.counts)


def bayes_loss(data: ToyData) -> float | None:
    """Return −log P(d) a token over the test documents, in nats; None without a closed form."""
    if not isinstance(data.world, ExactModel):
        return None
    documents = world_tokens(data.test)
    return float(-data.world.log_prob(documents).sum() / documents.numel())
