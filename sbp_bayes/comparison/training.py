"""One arm of one seed, by any row of the table: the stages that it needs, its training and its scores."""

import dataclasses
import functools
from collections.abc import Collection, Mapping

from sbp_bayes.arms import ARMS, CHECKPOINTS, Arm
from sbp_bayes.base.seeds import derive_seed, torch_generator
from sbp_bayes.base.stage import Manifest, Outcome, StageFolder, Workspace, plan_stage, run_stage
from sbp_bayes.comparison.bench import Bench, Made, TuningPairs
from sbp_bayes.comparison.related import packed_neighbours, stitched
from sbp_bayes.corpus import TOKENIZER, Corpus
from sbp_bayes.evaluation import SCORES, DocumentScores, arm_flops, evaluate, gauge
from sbp_bayes.lm import Transformer, save_model
from sbp_bayes.pretraining import PretrainConfig, pretrain, steps_of_budget, synthetic_tokens_needed
from sbp_bayes.synthesis import CORPUS, NoDocuments, SeedDocuments, synthesize
from sbp_bayes.synthesizer import load_alone, random_pairs, tune

Try = tuple[Manifest, ...]
"""The pretrainings of one choice of hyper-parameters: one, or an ensemble's members."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompanionStages:
    """What was run until the synthetic text of an arm was there.

    Attributes:
        stages: all of them, the samples last.
        samples: whose `corpus` folder is the synthetic text.
        tuned: the synthesizer; None where the text is sampled without one.
        pairs: the stages of the pairs.
        gauge: net information and use of d1; see `evaluation.gauge`.
        measures: of the synthesizer and its text; see `Bench.measure`.
    """

    stages: tuple[Manifest, ...]
    samples: Manifest
    tuned: Manifest | None = None
    pairs: tuple[Manifest, ...] = ()
    gauge: Manifest | None = None
    measures: Manifest | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmRun:
    """One arm of one seed, trained and scored.

    Attributes:
        arm: its name.
        seed: of the bench.
        tries: one for each choice of hyper-parameters that was tried.
        chosen: that of the lowest validation loss.
        companion: the synthetic text's stages; None where there is none.
        needed: further stages without which the arm would have other weights.
        evaluations: of the test documents, by checkpoint.
        examination: of what the best checkpoint on validation knows; see `Bench.examine`.
        unique_tokens: distinct real tokens, one EOS a document included, that it could train on.
    """

    arm: str
    seed: int
    tries: tuple[Try, ...]
    chosen: Try
    companion: CompanionStages | None
    needed: tuple[Manifest, ...]
    evaluations: Mapping[str, Manifest]
    examination: Manifest | None
    unique_tokens: int

    @property
    def trained(self) -> Manifest:
        """The chosen pretraining; of an ensemble its first member."""
        return self.chosen[0]

    @functools.cached_property
    def scores(self) -> Mapping[str, DocumentScores]:
        """Losses on the test documents, by checkpoint."""
        return {
            name: DocumentScores.load(stage.directory / SCORES) for name, stage in self.evaluations.items()
        }

    @property
    def validation_nats_per_token(self) -> float:
        """Lowest validation loss of the chosen pretraining; of an ensemble the members' mean."""
        return sum(map(_best_loss, self.chosen)) / len(self.chosen)

    def part(self, checkpoint: str) -> float:
        """Return the share of the training that lies before a checkpoint."""
        counts = self.trained.counts
        return counts["best_step"] / counts["num_steps"] if checkpoint == "best_validation" else 1.0

    def tokens_seen(self, checkpoint: str) -> int:
        """Return the positions that one model was trained on up to a checkpoint."""
        return round(self.trained.counts["num_tokens"] * self.part(checkpoint))

    def total_flops(self, checkpoint: str) -> float:
        """Return the operations up to a checkpoint, every stage that the arm needs included."""
        steps = "best_step" if checkpoint == "best_validation" else "num_steps"
        own = sum(arm_flops(member, steps=member.counts[steps]) for member in self.chosen)
        tried = [stage for one in self.tries if one != self.chosen for stage in one]
        return own + sum({stage.fingerprint: stage.flops for stage in (*tried, *self.needed)}.values())


@dataclasses.dataclass(frozen=True)
class ArmStages:
    """The stages of one seed's arms; each is found finished where it is."""

    bench: Bench
    work: Workspace
    num_samplers: int = 1

    def baseline(self) -> Manifest:
        """Pretrain on D_unique alone, with the settings of all arms."""
        return self._pretrain(self.bench.settings.pretrain, self.bench.unique, None, "baseline")

    def starts(self) -> tuple[Manifest, ...]:
        """Pretrain on D_unique alone what synthesis starts from; of several tries the best comes first."""
        if not self.bench.settings.tuned_start:
            return (self.baseline(),)
        tries = self._tries(ARMS["baseline"], None, ("weight_decay", "dropout"))
        trained = [self._pretrain(config, self.bench.unique, None, label) for config, label in tries]
        return tuple(sorted(trained, key=_best_loss))

    def companion(self, arm: Arm) -> CompanionStages:
        """Run all stages until the synthetic text of `arm` is there, its measures included."""
        settings, bench = self.bench.settings, self.bench
        if arm.companion == "posterior":
            samples = bench.exact_samples(self._synthetic_tokens(), self.work)
            return CompanionStages(stages=(samples,), samples=samples)
        starts = trained = self.starts()
        if arm.companion == "model":
            samples = synthesize(
                settings.synthesis,
                starts[0].directory / "best",
                NoDocuments(),
                self.work,
                tokenizer=bench.tokenizer,
                num_workers=self.num_samplers,
            )
            return CompanionStages(stages=(*starts, samples), samples=samples)
        if arm.start == "scratch":
            starts = (untrained_model(bench, self.work),)
        pairs = self._pairs(arm)
        taught = bench.unique, pairs.train, pairs.validation_corpus, pairs.validation
        tunings = [
            tune(config, starts[0].directory / "best", *taught, self.work, tokenizer=bench.tokenizer)
            for config in (
                dataclasses.replace(settings.tune, word_dropout=share)
                for share in (settings.tune.word_dropout, *settings.word_dropouts)
            )
        ]
        tuned = min(tunings, key=lambda one: one.counts["validation_nats_per_token"])
        # What a synthesizer from random weights must beat is the model that the others start from.
        without_d1 = trained[0].directory / "best"
        gauged = gauge(settings.tune, tuned.directory / "best", without_d1, *taught, self.work)
        samples = synthesize(
            settings.synthesis,
            tuned.directory / "best",
            SeedDocuments(bench.unique, load_alone(tuned.directory, bench.unique)),
            self.work,
            tokenizer=bench.tokenizer,
            num_workers=self.num_samplers,
        )
        return CompanionStages(
            stages=(*starts, *pairs.stages, *tunings, samples),
            samples=samples,
            tuned=tuned,
            pairs=pairs.stages,
            gauge=gauged,
            measures=bench.measure(
                Made(start=starts[0], pairs=pairs, tuned=tuned, samples=samples), self.work
            ),
        )

    def run(self, arm: Arm) -> ArmRun:
        """Train and score one arm."""
        companion = self.companion(arm) if arm.companion else None
        synthetic = self._synthetic(arm, companion)
        needed = companion.stages if companion else ()
        real = {"unique": self.bench.unique, "oracle": self.bench.oracle}.get(arm.real)
        if real is None:
            pairs = self._pairs(arm)
            real = packed_neighbours(self.bench.unique, pairs.train, self.bench.tokenizer.vocab_size)
            needed += pairs.stages
        tries = []
        tried = ("weight_decay", "dropout") if self.bench.settings.tune_every_arm else (arm.tried,)
        for config, label in self._tries(arm, synthetic, tried):
            members = [
                dataclasses.replace(config, seed=derive_seed(config.seed, "member", m) if m else config.seed)
                for m in range(arm.members)
            ]
            tries.append(tuple(self._pretrain(member, real, synthetic, label) for member in members))
        chosen = min(tries, key=lambda one: sum(map(_best_loss, one)))
        models = {name: [m.directory / folder for m in chosen] for name, folder in CHECKPOINTS.items()}
        evaluations = {
            name: evaluate(folders, self.bench.test, self.work) for name, folders in models.items()
        }
        return ArmRun(
            arm=arm.name,
            seed=self.bench.settings.pretrain.seed,
            tries=tuple(tries),
            chosen=chosen,
            companion=companion,
            needed=needed,
            evaluations=evaluations,
            examination=self.bench.examine(models["best_validation"], self.work),
            unique_tokens=(self.bench.oracle if arm.real == "oracle" else self.bench.unique).num_tokens,
        )

    def _tries(
        self, arm: Arm, synthetic: Corpus | None, tried: Collection[str | None]
    ) -> list[tuple[PretrainConfig, str]]:
        """Return the settings of each pretraining that is tried, the arms' own first, with its label."""
        settings = self.bench.settings
        own = settings.pretrain
        if synthetic is not None:
            own = dataclasses.replace(own, synthetic_share=self._share(arm, synthetic), order=arm.order)
        if arm.members > 1:
            own = dataclasses.replace(own, budget_tokens=self._member_tokens(arm.members))
        tries = [(own, arm.label)]
        if "weight_decay" in tried:
            for decay in settings.weight_decays:
                optimiser = dataclasses.replace(own.optimiser, weight_decay=decay)
                changed = dataclasses.replace(own, optimiser=optimiser)
                tries.append((changed, f"{arm.label}, decay {decay:g}"))
        if "dropout" in tried:
            for rate in settings.dropouts:
                tries.append((dataclasses.replace(own, dropout=rate), f"{arm.label}, dropout {rate:g}"))
        return tries

    def _share(self, arm: Arm, synthetic: Corpus) -> float:
        """Return the companion's share of the budget: stitched text brings its d1s along."""
        settings = self.bench.settings
        if arm.companion != "stitched":
            return settings.synthetic_share
        own, length = settings.pretrain, settings.pretrain.model.context_length
        num_rows = own.rows_per_batch * steps_of_budget(own.budget_tokens, own.rows_per_batch, length)
        return min(synthetic.num_tokens // length / num_rows, 1.0)

    def _member_tokens(self, members: int) -> int:
        """Return the budget of one of an ensemble's models, so that all of them cost what SBP costs."""
        before = {m.fingerprint: m.flops for m in self.companion(ARMS["sbp"]).stages}
        per_token = self.baseline().flops / self.baseline().counts["num_tokens"]
        budget = self.bench.settings.pretrain.budget_tokens
        return round((sum(before.values()) / per_token + budget) / members)

    def _synthetic(self, arm: Arm, companion: CompanionStages | None) -> Corpus | None:
        if companion is None:
            return None
        synthetic = Corpus.load(companion.samples.directory / CORPUS)
        if arm.companion != "stitched":
            return synthetic
        limit = self.bench.settings.tune.max_document_tokens
        return stitched(synthetic, self.bench.unique, limit, self.bench.tokenizer.vocab_size)

    def _pairs(self, arm: Arm) -> TuningPairs:
        pairs = self.bench.pairs(arm.embedder, self.baseline, self.work)
        if arm.pairs == "related":
            return pairs
        generator = torch_generator(self.bench.settings.pretrain.seed, "random pairs")
        return dataclasses.replace(pairs, train=random_pairs(pairs.train, generator, pairs.concepts))

    def _synthetic_tokens(self) -> int:
        """Return the tokens that joint pretraining needs so that no sample comes twice."""
        settings = self.bench.settings
        return synthetic_tokens_needed(
            dataclasses.replace(settings.pretrain, synthetic_share=settings.synthetic_share)
        )

    def _pretrain(
        self, config: PretrainConfig, real: Corpus, synthetic: Corpus | None, label: str
    ) -> Manifest:
        bench = self.bench
        return pretrain(
            config,
            real,
            synthetic,
            bench.validation,
            self.work,
            tokenizer=bench.tokenizer,
            label=f"{label}, seed {config.seed}",
        )


def untrained_model(bench: Bench, work: Workspace) -> Manifest:
    """Write the weights that the bench's pretrainings start from, as `best`."""
    config, tokenizer = bench.settings.pretrain, bench.tokenizer
    settings, inputs = {"model": config.model, "seed": config.seed}, {"tokenizer": tokenizer.fingerprint}
    plan = plan_stage("untrained", settings, inputs, __name__, device="cpu")

    def write(folder: StageFolder) -> Outcome:
        tokenizer.save(folder.path / TOKENIZER)
        save_model(Transformer(config.model, seed=derive_seed(config.seed, "model")), folder.path / "best")
        return Outcome(counts={"num_parameters": config.model.num_parameters})

    return run_stage(plan, work, write)


def _best_loss(pretraining: Manifest) -> float:
    return pretraining.counts["best_validation_nats_per_token"]
