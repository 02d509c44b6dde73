"""The experiment as a pure function: settings in, result rows and the report's content out."""

import dataclasses
import time
from pathlib import Path

from experiments.text_sbp.config import TextSbpConfig
from experiments.text_sbp.quality import measure_quality
from sbp_bayes.base.config import fingerprint
from sbp_bayes.base.stage import Manifest, Workspace
from sbp_bayes.corpus import Corpus, Tokenizer, choose_unique, prepare_corpus
from sbp_bayes.evaluation import Bootstrap, DocumentScores, evaluate
from sbp_bayes.pipeline import SbpStages, bootstrap
from sbp_bayes.pretraining import pretrain
from sbp_bayes.results import ResultRow

ARMS = ("baseline", "sbp", "oracle")
CHECKPOINTS = {"best_validation": "best", "last": "last"}
"""Checkpoint's name in results → its folder in a pretraining's output."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """The prepared corpus."""

    manifest: Manifest
    tokenizer: Tokenizer
    pool: Corpus
    validation: Corpus
    test: Corpus


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedRun:
    """All stages of one seed.

    Attributes:
        unique, oracle_documents: the real documents of baseline and SBP, and of the oracle.
        algorithm: the stages of Algorithm 1, the baseline among them.
        oracle: the oracle's pretraining.
        quality: measures of the synthetic text.
        evaluations: of the test split, by arm and checkpoint.
    """

    seed: int
    unique: Corpus
    oracle_documents: Corpus
    algorithm: SbpStages
    oracle: Manifest
    quality: Manifest
    evaluations: dict[str, dict[str, Manifest]]

    def pretraining(self, arm: str) -> Manifest:
        """The pretraining of `arm`."""
        return {"baseline": self.algorithm.baseline, "sbp": self.algorithm.joint, "oracle": self.oracle}[arm]

    def documents(self, arm: str) -> Corpus:
        """The real documents that `arm` trains on."""
        return self.oracle_documents if arm == "oracle" else self.unique

    def total_flops(self, arm: str) -> float:
        """Floating-point operations of every stage that `arm` needs (the ledger's sum)."""
        stages = self.algorithm
        extra = [stages.baseline, stages.pairs, stages.tune, stages.synthesis] if arm == "sbp" else []
        return sum(stage.flops for stage in [*extra, self.pretraining(arm)])

    def scores(self, arm: str, checkpoint: str) -> DocumentScores:
        """The losses of `arm` on the test documents."""
        return DocumentScores.load(self.evaluations[arm][checkpoint].directory / "scores.npz")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOutput:
    """What a run leaves: the stages of every seed, the corpus, and the seconds this call took."""

    config: TextSbpConfig
    data: Data
    seeds: tuple[SeedRun, ...]
    seconds: float

    def rows(self, run_id: str) -> list[ResultRow]:
        """One row an arm, checkpoint and seed, scored on test."""
        return [
            _row(self.config, run, arm, checkpoint, run_id)
            for run in self.seeds
            for arm in ARMS
            for checkpoint in CHECKPOINTS
        ]


def run(config: TextSbpConfig, work: Path) -> RunOutput:
    """Run every stage that `work` does not hold yet.

    Args:
        config: the settings.
        work: receives one folder a stage, named by the stage's plan.

    Raises:
        SbpError: bad input or settings; what earlier stages wrote stays.
    """
    started = time.monotonic()
    workspace = Workspace(Path(work))
    data = load_data(prepare_corpus(config.corpus, workspace))
    seeds = tuple(_run_seed(config, data, workspace, seed) for seed in config.seeds)
    return RunOutput(config=config, data=data, seeds=seeds, seconds=time.monotonic() - started)


def load_data(manifest: Manifest) -> Data:
    """Open a prepared corpus; token arrays stay memory-mapped."""
    folder = manifest.directory
    splits = {name: Corpus.load(folder / name) for name in ("pool", "validation", "test")}
    return Data(manifest=manifest, tokenizer=Tokenizer.load(folder / "tokenizer.json"), **splits)


def _run_seed(config: TextSbpConfig, data: Data, work: Workspace, seed: int) -> SeedRun:
    unique = choose_unique(data.pool, config.unique_tokens, seed)
    oracle_documents = choose_unique(data.pool, config.oracle_tokens, seed)
    algorithm = bootstrap(config.algorithm(seed), unique, data.validation, data.tokenizer, work)
    oracle = pretrain(
        config.pretrain(seed),
        oracle_documents,
        None,
        data.validation,
        work,
        tokenizer=data.tokenizer,
        label="oracle",
    )
    trained = {"baseline": algorithm.baseline, "sbp": algorithm.joint, "oracle": oracle}
    return SeedRun(
        seed=seed,
        unique=unique,
        oracle_documents=oracle_documents,
        algorithm=algorithm,
        oracle=oracle,
        quality=measure_quality(config, seed, unique, algorithm, work),
        evaluations={
            arm: {
                name: evaluate(stage.directory / folder, data.test, work)
                for name, folder in CHECKPOINTS.items()
            }
            for arm, stage in trained.items()
        },
    )


def _row(config: TextSbpConfig, run: SeedRun, arm: str, checkpoint: str, run_id: str) -> ResultRow:
    stage, scores = run.pretraining(arm), run.scores(arm, checkpoint)
    steps = stage.counts["best_step" if checkpoint == "best_validation" else "num_steps"]
    part = steps / stage.counts["num_steps"]
    interval = Bootstrap(num_resamples=config.num_resamples).loss({run.seed: scores})
    return ResultRow(
        experiment="text_sbp",
        run=run_id,
        arm=arm,
        seed=run.seed,
        split="test",
        checkpoint=checkpoint,  # type: ignore[arg-type]
        tokens_seen=round(stage.counts["num_tokens"] * part),
        unique_tokens=run.documents(arm).num_tokens,
        total_flops=run.total_flops(arm) - stage.flops * (1 - part),
        loss_nats_per_token=scores.nats_per_token,
        bits_per_byte=scores.bits_per_byte,
        interval_low=interval.low,
        interval_high=interval.high,
        config_fingerprint=fingerprint(config),
    )
