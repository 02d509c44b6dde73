"""A world as a bench of the comparison: documents drawn from it, pairs of one concept, exact samples."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.toy_validation.config import ToyConfig
from experiments.toy_validation.data import ToyData, concept_pairs, consecutive_pairs, make_data
from experiments.toy_validation.facts import has_facts, recall_of, statements_of
from experiments.toy_validation.samples import measure_synthesizer, posterior_samples
from sbp_bayes.base.config import encode
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.stage import Manifest, Outcome, Plan, StageFolder, Workspace, plan_stage, run_stage
from sbp_bayes.comparison import ArmSettings, Made, TuningPairs
from sbp_bayes.corpus import Corpus
from sbp_bayes.lm import model_fingerprint
from sbp_bayes.pretraining import synthetic_tokens_needed
from sbp_bayes.synthesis import CORPUS, ScreenConfig, SynthesisConfig

UNSCREENED = ScreenConfig(reasons=("empty",))
"""A world's documents are short and come again: every sample counts, as P(d2 | d1) has it."""


class ToyBench:
    """One seed's world and documents; see `comparison.Bench`."""

    def __init__(self, config: ToyConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.data: ToyData = make_data(config, seed)
        data = self.data
        self.unique, self.oracle, self.tokenizer = data.unique, data.oracle, data.tokenizer
        self.validation, self.test = data.validation, data.test

    @functools.cached_property
    def settings(self) -> ArmSettings:
        """Settings of one seed that all arms share."""
        config, world = self.config, self.data.world
        pretrain = config.pretrain(config.model(world.vocab_size), self.seed)
        joint = dataclasses.replace(pretrain, synthetic_share=config.synthetic_share)
        return ArmSettings(
            pretrain=pretrain,
            synthetic_share=config.synthetic_share,
            tune=config.tune(world.doc_length, self.seed),
            synthesis=SynthesisConfig(
                num_tokens=synthetic_tokens_needed(joint),
                max_document_tokens=world.doc_length,
                seed=self.seed,
                screen=UNSCREENED,
            ),
            weight_decays=config.weight_decays,
            dropouts=config.dropouts,
            word_dropouts=config.word_dropouts,
            tune_every_arm=config.tune_every_arm,
            tuned_start=config.tuned_start,
        )

    def pairs(self, embedder: str | None, baseline: Callable[[], Manifest], work: Workspace) -> TuningPairs:
        """Pair the documents of one concept."""
        if embedder is not None:
            raise ConfigError(f"embedder = {embedder!r}: pairs are of one concept in a toy world")
        data = self.data
        return TuningPairs(
            train=concept_pairs(data.unique, data.unique_concepts, self.config.pairs_per_document, self.seed),
            validation=consecutive_pairs(data.paired),
            validation_corpus=data.paired,
            concepts=data.unique_concepts,
        )

    def exact_samples(self, num_tokens: int, work: Workspace) -> Manifest:
        """Write samples of the exact posterior predictive."""
        return posterior_samples(self.data, num_tokens, self.seed, work)

    def measure(self, made: Made, work: Workspace) -> Manifest:
        """Compare the synthesizer with P(d2 | d1), and read what its documents state where they state facts.

        The counts are "synthesizer", see `measure_synthesizer`, and "statements", see `statements_of`.
        """
        inputs = {"tuned": made.tuned.fingerprint, "samples": made.samples.fingerprint}
        plan = self._plan("measure", inputs)

        def work_of(folder: StageFolder) -> Outcome:
            synthetic = Corpus.load(made.samples.directory / CORPUS)
            return Outcome(
                counts={
                    "synthesizer": measure_synthesizer(made.tuned, self.data, self.seed),
                    "statements": statements_of(synthetic, self.data),
                }
            )

        return run_stage(plan, work, work_of)

    def examine(self, models: Sequence[Path], work: Workspace) -> Manifest | None:
        """Ask for facts, where the world has them; the counts are those of `recall_of`."""
        if not has_facts(self.data.world):
            return None
        plan = self._plan("recall", {"model": ",".join(map(model_fingerprint, models))})
        return run_stage(plan, work, lambda folder: Outcome(counts=recall_of(models, self.data, self.seed)))

    def _plan(self, stage: str, inputs: dict[str, str]) -> Plan:
        settings = {
            "world": self.config.world,
            "parameters": encode(self.config.parameters),
            "seed": self.seed,
        }
        inputs |= {"test": self.data.paired_test.fingerprint}
        return plan_stage(stage, settings, inputs, __name__, device="cpu")


def open_bench(config: ToyConfig, seed: int) -> ToyBench:
    """Return the bench of one seed."""
    return ToyBench(config, seed)
