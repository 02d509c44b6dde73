"""The experiment as a pure function: settings in, result rows and the report's content out."""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

from experiments.text_sbp.config import TextSbpConfig
from experiments.text_sbp.quality import measure_quality
from sbp_bayes.base.config import fingerprint
from sbp_bayes.base.stage import Manifest, Workspace
from sbp_bayes.base.workers import side_by_side, usable_cores
from sbp_bayes.corpus import Corpus, Tokenizer, choose_unique, load_split, prepare_corpus
from sbp_bayes.evaluation import DocumentScores, arm_flops, evaluate, loss_interval, pair_arms
from sbp_bayes.pipeline import SbpStages, bootstrap
from sbp_bayes.pretraining import best_on_validation, pretrain
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
        tuned_baselines: the baseline with the other weight decays that are tried for it.
        quality: measures of the synthetic text.
        baseline_scores, sbp_scores, oracle_scores: evaluations of the test split, by checkpoint.
    """

    seed: int
    unique: Corpus
    oracle_documents: Corpus
    algorithm: SbpStages
    oracle: Manifest
    tuned_baselines: tuple[Manifest, ...]
    quality: Manifest
    baseline_scores: dict[str, Manifest]
    sbp_scores: dict[str, Manifest]
    oracle_scores: dict[str, Manifest]

    @property
    def best_baseline(self) -> Manifest:
        """The baseline whose weight decay is best on validation."""
        return best_on_validation((self.algorithm.baseline, *self.tuned_baselines))

    def pretraining(self, arm: str, checkpoint: str = "last") -> Manifest:
        """The pretraining of `arm`; the baseline's best checkpoint is that of the best weight decay."""
        if arm == "baseline" and checkpoint == "best_validation":
            return self.best_baseline
        return {"baseline": self.algorithm.baseline, "sbp": self.algorithm.joint, "oracle": self.oracle}[arm]

    def documents(self, arm: str) -> Corpus:
        """The real documents that `arm` trains on."""
        return self.oracle_documents if arm == "oracle" else self.unique

    def total_flops(self, arm: str, checkpoint: str) -> float:
        """Floating-point operations up to a checkpoint of `arm`, every stage that it needs included.

        The baseline's best checkpoint needs all weight decays that were tried for it.
        """
        needed: tuple[Manifest, ...] = ()
        if arm == "sbp":
            needed = self.algorithm.before_joint
        elif arm == "baseline" and checkpoint == "best_validation":
            needed = (self.algorithm.baseline, *self.tuned_baselines)
        return arm_flops(self.pretraining(arm, checkpoint), needed, steps=self.steps(arm, checkpoint))

    def steps(self, arm: str, checkpoint: str) -> int:
        """Steps of the pretraining of `arm` up to a checkpoint."""
        counts = self.pretraining(arm, checkpoint).counts
        return counts["best_step" if checkpoint == "best_validation" else "num_steps"]

    def scores(self, arm: str, checkpoint: str) -> DocumentScores:
        """The losses of `arm` on the test documents."""
        return DocumentScores.load(self.evaluations(arm)[checkpoint].directory / "scores.npz")

    def evaluations(self, arm: str) -> dict[str, Manifest]:
        """The evaluations of `arm` on the test split, by checkpoint."""
        return {"baseline": self.baseline_scores, "sbp": self.sbp_scores, "oracle": self.oracle_scores}[arm]


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


def run(config: TextSbpConfig, work: Path | Workspace, num_workers: int | None = None) -> RunOutput:
    """Run every stage that `work` does not hold yet, the seeds and the oracles side by side.

    Args:
        config: the settings.
        work: receives one folder a stage, named by the stage's plan.
        num_workers: processes of one thread each; by default the usable cores. Changes speed alone.

    Raises:
        SbpError: bad input or settings; what earlier stages wrote stays.
    """
    started = time.monotonic()
    workspace = work if isinstance(work, Workspace) else Workspace(Path(work))
    num_workers = num_workers or usable_cores()
    corpus = prepare_corpus(config.corpus, workspace)
    data, seeds = load_data(corpus, verify=True), config.seeds
    for seed in seeds:  # refuses too little text before any worker starts
        choose_unique(data.pool, config.unique_tokens, seed)
        choose_unique(data.pool, config.oracle_tokens, seed)
    # One seed leaves the other cores to its synthesis; several seeds fill them.
    samplers = max(1, num_workers // len(seeds))
    calls = [functools.partial(_run_sbp, config, corpus, workspace, seed, samplers) for seed in seeds]
    calls += [functools.partial(_run_oracle, config, corpus, workspace, seed) for seed in seeds]
    calls += [functools.partial(_run_tuned_baselines, config, corpus, workspace, seed) for seed in seeds]
    parts = side_by_side(calls, num_workers)
    runs = tuple(
        _seed_run(
            config, data, workspace, seed, {**parts[i], **parts[i + len(seeds)], **parts[i + 2 * len(seeds)]}
        )
        for i, seed in enumerate(seeds)
    )
    return RunOutput(config=config, data=data, seeds=runs, seconds=time.monotonic() - started)


def load_data(manifest: Manifest, *, verify: bool = False) -> Data:
    """Open a prepared corpus, each of whose splits must hold documents; token arrays stay memory-mapped.

    `verify` is that of `Corpus.load`.
    """
    folder = manifest.directory
    splits = {name: load_split(folder, name, verify=verify) for name in ("pool", "validation", "test")}
    return Data(manifest=manifest, tokenizer=Tokenizer.load(folder / "tokenizer.json"), **splits)


def _run_sbp(
    config: TextSbpConfig, corpus: Manifest, work: Workspace, seed: int, samplers: int
) -> dict[str, Any]:
    """Run Algorithm 1, the baseline in it; return the fields of `SeedRun` that it gives."""
    data = load_data(corpus)
    unique = choose_unique(data.pool, config.unique_tokens, seed)
    stages = bootstrap(
        config.algorithm(seed), unique, data.validation, data.tokenizer, work, num_workers=samplers
    )
    return {
        "algorithm": stages,
        "quality": measure_quality(config, seed, unique, stages, work),
        "sbp_scores": _evaluate(stages.joint, data.test, work),
    }


def _run_oracle(config: TextSbpConfig, corpus: Manifest, work: Workspace, seed: int) -> dict[str, Any]:
    data = load_data(corpus)
    oracle = pretrain(
        config.pretrain(seed),
        choose_unique(data.pool, config.oracle_tokens, seed),
        None,
        data.validation,
        work,
        tokenizer=data.tokenizer,
        label="oracle",
    )
    return {"oracle": oracle, "oracle_scores": _evaluate(oracle, data.test, work)}


def _run_tuned_baselines(
    config: TextSbpConfig, corpus: Manifest, work: Workspace, seed: int
) -> dict[str, Any]:
    data = load_data(corpus)
    tuned = [
        pretrain(
            config.pretrain(seed, weight_decay=weight_decay),
            choose_unique(data.pool, config.unique_tokens, seed),
            None,
            data.validation,
            work,
            tokenizer=data.tokenizer,
            label=f"baseline, decay {weight_decay:g}",
        )
        for weight_decay in config.baseline_weight_decays
    ]
    return {"tuned_baselines": tuple(tuned)}


def _seed_run(
    config: TextSbpConfig, data: Data, work: Workspace, seed: int, parts: dict[str, Any]
) -> SeedRun:
    """Put a seed's parts together, and score the baselines that its validation has chosen."""
    tried = (parts["algorithm"].baseline, *parts["tuned_baselines"])
    folders = {
        "best_validation": best_on_validation(tried).directory / "best",
        "last": parts["algorithm"].baseline.directory / "last",
    }
    return SeedRun(
        seed=seed,
        unique=choose_unique(data.pool, config.unique_tokens, seed),
        oracle_documents=choose_unique(data.pool, config.oracle_tokens, seed),
        baseline_scores={name: evaluate(folder, data.test, work) for name, folder in folders.items()},
        **parts,
    )


def _evaluate(pretraining: Manifest, test: Corpus, work: Workspace) -> dict[str, Manifest]:
    return {
        name: evaluate(pretraining.directory / folder, test, work) for name, folder in CHECKPOINTS.items()
    }


def _row(config: TextSbpConfig, run: SeedRun, arm: str, checkpoint: str, run_id: str) -> ResultRow:
    stage, scores = run.pretraining(arm, checkpoint), run.scores(arm, checkpoint)
    part = run.steps(arm, checkpoint) / stage.counts["num_steps"]
    (loss_SD,), tokens_D = pair_arms({run.seed: scores})
    interval = loss_interval(loss_SD, tokens_D)
    return ResultRow(
        experiment="text_sbp",
        run=run_id,
        arm=arm,
        seed=run.seed,
        split="test",
        checkpoint=checkpoint,  # type: ignore[arg-type]
        tokens_seen=round(stage.counts["num_tokens"] * part),
        unique_tokens=run.documents(arm).num_tokens,
        total_flops=run.total_flops(arm, checkpoint),
        loss_nats_per_token=scores.nats_per_token,
        bits_per_byte=scores.bits_per_byte,
        interval_low=interval.low,
        interval_high=interval.high,
        config_fingerprint=fingerprint(config),
    )
