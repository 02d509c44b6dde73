"""The arms of one world: one pretraining function, in which the text that joins D_unique differs.

Every arm sees the same number of tokens. Where the synthetic text comes from:

- baseline, tuned_baseline: there is none, D_unique repeats;
- sbp: a synthesizer tuned from the baseline's best checkpoint on pairs of one concept;
- from_scratch: the same, tuned from random weights;
- random_pairs: the same, on pairs without a common concept;
- unconditional: the baseline's own samples (self-distillation);
- exact_posterior: d2 ~ P(d2 | d1), which no synthesizer can beat;
- oracle: there is none, but 20 times as many real documents.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

from experiments.toy_validation.config import Arm, ToyConfig
from experiments.toy_validation.data import (
    ToyData,
    concept_pairs,
    consecutive_pairs,
    make_data,
    world_tokens,
)
from experiments.toy_validation.samples import (
    baseline_samples,
    has_closed_form,
    measure_synthesizer,
    posterior_samples,
    untrained_model,
)
from sbp_bayes.base.records import Pairs
from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.base.stage import Manifest, Workspace
from sbp_bayes.base.workers import side_by_side
from sbp_bayes.corpus import Corpus
from sbp_bayes.evaluation import DocumentScores, arm_flops, evaluate
from sbp_bayes.pretraining import PretrainConfig, best_on_validation, pretrain, synthetic_tokens_needed
from sbp_bayes.synthesis import CORPUS, ScreenConfig, SynthesisConfig, synthesize
from sbp_bayes.synthesizer import random_pairs, tune

UNSCREENED = ScreenConfig(reasons=("empty",))
"""A world's documents are short and come again: every sample counts, as P(d2 | d1) has it."""

CHECKPOINTS = {"best_validation": "best", "last": "last"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One arm of one seed.

    Attributes:
        arm, seed: what was trained.
        losses: test loss by checkpoint, nats a token of the world: −log p(d), EOS included, over the tokens.
        bayes: the Bayes-optimal loss on the same documents, −log P(d); None where P(d) has no closed form.
        flops: over all stages that the arm needs.
        tokens_seen: positions trained on.
        synthesizer: measures of the arm's synthesizer, where it has one; see `measure_synthesizer`.
    """

    arm: Arm
    seed: int
    losses: dict[str, float]
    bayes: float | None
    flops: float
    tokens_seen: int
    synthesizer: dict[str, float] | None


@dataclasses.dataclass(frozen=True)
class SeedRun:
    """What the arms of one seed share: its data, and the stages that train on them."""

    config: ToyConfig
    seed: int
    data: ToyData
    work: Workspace

    @property
    def pretraining(self) -> PretrainConfig:
        """Settings of the baseline's pretraining."""
        model = self.config.model(self.data.world.vocab_size)
        return self.config.pretrain(model, self.seed)

    def pretrain(
        self, config: PretrainConfig, real: Corpus, synthetic: Corpus | None, label: str
    ) -> Manifest:
        """Pretrain on `real`, and on `synthetic` where the configuration has a share of it."""
        return pretrain(
            config,
            real,
            synthetic,
            self.data.validation,
            self.work,
            tokenizer=self.data.tokenizer,
            label=f"{label}, seed {self.seed}",
        )

    def baseline(self) -> Manifest:
        """Pretrain on D_unique alone."""
        return self.pretrain(self.pretraining, self.data.unique, None, "baseline")

    def joint(self, samples: Manifest, label: str) -> Manifest:
        """Pretrain on D_unique and the samples of a stage."""
        synthetic = Corpus.load(samples.directory / CORPUS)
        config = dataclasses.replace(self.pretraining, synthetic_share=self.config.synthetic_share)
        return self.pretrain(config, self.data.unique, synthetic, label)

    @property
    def synthetic_tokens(self) -> int:
        """Tokens that joint pretraining needs so that no sample comes twice."""
        return synthetic_tokens_needed(
            dataclasses.replace(self.pretraining, synthetic_share=self.config.synthetic_share)
        )

    def result(
        self,
        arm: Arm,
        trained: Manifest,
        before: Sequence[Manifest] = (),
        measures: dict[str, float] | None = None,
    ) -> ArmResult:
        """Score a finished training on test; `before` are the other stages that the arm needs."""
        losses = {}
        for name, folder in CHECKPOINTS.items():
            scored = evaluate(trained.directory / folder, self.data.test, self.work)
            scores = DocumentScores.load(scored.directory / "scores.npz")
            losses[name] = float(scores.loss_nats.sum() / self.data.test.lengths.sum())
        return ArmResult(
            arm=arm,
            seed=self.seed,
            losses=losses,
            bayes=bayes_loss(self.data),
            flops=arm_flops(trained, before),
            tokens_seen=trained.counts["num_tokens"],
            synthesizer=measures,
        )


def run(config: ToyConfig, work: Workspace, num_workers: int | None = None) -> list[ArmResult]:
    """Run all arms of all seeds, side by side; finished stages in `work` are taken as they are.

    Where P(d2 | d1) has no closed form the arm of exact samples is left out.

    Raises:
        ConfigError: an unknown world, or a parameter out of its range.
    """
    world = make_data(config, config.seeds[0]).world  # refuses bad parameters before any worker starts
    arms = [arm for arm in config.arms if arm != "exact_posterior" or has_closed_form(world)]
    alone: list[Arm] = [arm for arm in arms if arm in _ALONE]
    joined: list[Arm] = [arm for arm in arms if arm not in _ALONE]
    first = side_by_side(_calls(config, work, alone), num_workers)  # the others start from the baseline
    return first + side_by_side(_calls(config, work, joined), num_workers)


def bayes_loss(data: ToyData) -> float | None:
    """Return −log P(d) a token over the test documents, in nats; None without a closed form."""
    if not has_closed_form(data.world):
        return None
    documents = world_tokens(data.test)
    return float(-data.world.log_prob(documents).sum() / documents.numel())


def _calls(config: ToyConfig, work: Workspace, arms: list[Arm]) -> list[Callable[[], ArmResult]]:
    return [functools.partial(_run_arm, config, work, arm, seed) for seed in config.seeds for arm in arms]


def _run_arm(config: ToyConfig, work: Workspace, arm: Arm, seed: int) -> ArmResult:
    return ARMS[arm](SeedRun(config, seed, make_data(config, seed), work))


def _baseline(run: SeedRun) -> ArmResult:
    return run.result("baseline", run.baseline())


def _tuned_baseline(run: SeedRun) -> ArmResult:
    """The baseline's own weight decay is tried too, so tuning can only help on validation."""
    tried = [run.baseline()]
    for weight_decay in run.config.weight_decays:
        config = run.config.pretrain(run.pretraining.model, run.seed, weight_decay=weight_decay)
        tried.append(run.pretrain(config, run.data.unique, None, f"baseline, decay {weight_decay:g}"))
    best = best_on_validation(tried)
    return run.result("tuned_baseline", best, tried)


def _oracle(run: SeedRun) -> ArmResult:
    return run.result("oracle", run.pretrain(run.pretraining, run.data.oracle, None, "oracle"))


def tune_and_sample(
    run: SeedRun, start: Manifest, documents: Corpus, pairs: Pairs
) -> tuple[Manifest, Manifest]:
    """Tune a synthesizer from the best checkpoint of `start` on pairs of `documents`, and sample from it."""
    data, doc_length = run.data, run.data.world.doc_length
    tuned = tune(
        run.config.tune(doc_length, run.seed),
        start.directory / "best",
        documents,
        pairs,
        data.paired,
        consecutive_pairs(data.paired),
        run.work,
        tokenizer=data.tokenizer,
    )
    samples = synthesize(
        SynthesisConfig(
            num_tokens=run.synthetic_tokens, max_document_tokens=doc_length, seed=run.seed, screen=UNSCREENED
        ),
        tuned.directory / "best",
        documents,
        run.work,
        tokenizer=data.tokenizer,
        num_workers=1,
    )
    return tuned, samples


def _tuned(arm: Arm, run: SeedRun) -> ArmResult:
    data, seed = run.data, run.seed
    pairs: Pairs = concept_pairs(data.unique, data.unique_concepts, run.config.pairs_per_document, seed)
    if arm == "random_pairs":
        pairs = random_pairs(pairs, torch_generator(seed, "random pairs"), data.unique_concepts)
    if arm == "from_scratch":
        start = untrained_model(run.pretraining, data.tokenizer, run.work)
    else:
        start = run.baseline()
    tuned, samples = tune_and_sample(run, start, data.unique, pairs)
    joint = run.joint(samples, arm)
    return run.result(arm, joint, [start, tuned, samples], measure_synthesizer(tuned, data, seed))


def _exact_posterior(run: SeedRun) -> ArmResult:
    samples = posterior_samples(run.data, run.synthetic_tokens, run.seed, run.work)
    return run.result("exact_posterior", run.joint(samples, "exact posterior"), [samples])


def _unconditional(run: SeedRun) -> ArmResult:
    baseline = run.baseline()
    samples = baseline_samples(baseline, run.data, run.synthetic_tokens, run.seed, run.work)
    return run.result("unconditional", run.joint(samples, "unconditional"), [baseline, samples])


ARMS: dict[Arm, Callable[[SeedRun], ArmResult]] = {
    "baseline": _baseline,
    "tuned_baseline": _tuned_baseline,
    "oracle": _oracle,
    "sbp": functools.partial(_tuned, "sbp"),
    "random_pairs": functools.partial(_tuned, "random_pairs"),
    "from_scratch": functools.partial(_tuned, "from_scratch"),
    "exact_posterior": _exact_posterior,
    "unconditional": _unconditional,
}

_ALONE: tuple[Arm, ...] = ("baseline", "oracle")
