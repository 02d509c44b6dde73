"""The experiment as a pure function: settings in, every arm's run out."""

import dataclasses
import functools
import time
from pathlib import Path

from experiments.text_sbp.bench import Data, TextBench, load_data, open_bench
from experiments.text_sbp.config import TextSbpConfig
from sbp_bayes.base.config import fingerprint
from sbp_bayes.base.stage import Workspace
from sbp_bayes.comparison import CHECKPOINTS, ArmRun, loss_interval, run_arms
from sbp_bayes.corpus import choose_unique, prepare_corpus
from sbp_bayes.results import ResultRow


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOutput:
    """What a run leaves: every arm of every seed, the corpus, and the seconds this call took."""

    config: TextSbpConfig
    data: Data
    runs: tuple[ArmRun, ...]
    seconds: float

    @property
    def arms(self) -> dict[str, list[ArmRun]]:
        """The runs of each arm, by seed, in the order of the table."""
        return {
            arm: [run for run in self.runs if run.arm == arm]
            for arm in dict.fromkeys(run.arm for run in self.runs)
        }

    def bench(self, seed: int) -> TextBench:
        """The documents and settings of a seed."""
        return TextBench(self.config, self.data, seed)

    def rows(self, run_id: str) -> list[ResultRow]:
        """One row for each arm, seed and checkpoint, scored on test."""
        return [_row(self.config, run, checkpoint, run_id) for run in self.runs for checkpoint in CHECKPOINTS]


def run(config: TextSbpConfig, work: Path | Workspace, num_workers: int | None = None) -> RunOutput:
    """Run every stage that `work` does not hold yet, those that wait for nothing side by side.

    Args:
        config: the settings.
        work: receives one folder a stage, named by the stage's plan.
        num_workers: processes of one thread each; by default the usable cores. Changes speed alone.

    Raises:
        SbpError: bad input or settings; what earlier stages wrote stays.
    """
    started = time.monotonic()
    workspace = work if isinstance(work, Workspace) else Workspace(Path(work))
    corpus = prepare_corpus(config.corpus, workspace)
    data = load_data(corpus, verify=True)
    for seed in config.seeds:  # refuses too little text before any worker starts
        choose_unique(data.pool, config.unique_tokens, seed)
        choose_unique(data.pool, config.oracle_tokens, seed)
    runs = run_arms(
        functools.partial(open_bench, config, corpus), config.seeds, config.arms, workspace, num_workers
    )
    return RunOutput(config=config, data=data, runs=tuple(runs), seconds=time.monotonic() - started)


def _row(config: TextSbpConfig, run: ArmRun, checkpoint: str, run_id: str) -> ResultRow:
    scores = run.scores[checkpoint]
    interval = loss_interval(scores.loss_nats[None], scores.num_tokens)
    return ResultRow(
        experiment="text_sbp",
        run=run_id,
        arm=run.arm,
        seed=run.seed,
        split="test",
        checkpoint=checkpoint,  # type: ignore[arg-type]
        tokens_seen=run.tokens_seen(checkpoint),
        unique_tokens=run.unique_tokens,
        total_flops=run.total_flops(checkpoint),
        loss_nats_per_token=scores.nats_per_token,
        bits_per_byte=scores.bits_per_byte,
        interval_low=interval.low,
        interval_high=interval.high,
        config_fingerprint=fingerprint(config),
    )
