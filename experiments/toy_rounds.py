"""Several rounds of bootstrapping: does the distribution of concepts drift when synthetic text breeds more?

`python -m experiments.toy_rounds with toy.world=fact_views`. Round r tunes a synthesizer from the model
of round r − 1 on pairs of the documents so far (D_unique, and as many samples of the round before, each
about its seed document's concept), samples from it with d1 uniform over those documents, and pretrains anew.
"""

import dataclasses
import functools
import sys
from typing import Any

import numpy as np
import torch

from experiments.runner import (
    make_experiment,
    run_command_line,
    run_folder,
    settings_of,
    workspace,
)
from experiments.toy_validation.bench import ToyBench
from experiments.toy_validation.config import ToyConfig
from experiments.toy_validation.data import concept_pairs, consecutive_pairs, make_data
from experiments.toy_validation.run import bayes_loss
from experiments.toy_validation.samples import measure_synthesizer
from experiments.toy_validation.worlds import decode_toy, open_settings, toy_config
from sbp_bayes.base.config import decode, encode, fingerprint, require
from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.base.stage import Manifest, Workspace
from sbp_bayes.base.store import write_json
from sbp_bayes.base.workers import side_by_side
from sbp_bayes.comparison import ArmStages
from sbp_bayes.concept import FiniteConceptModel
from sbp_bayes.corpus import Corpus
from sbp_bayes.evaluation import SCORES, DocumentScores, arm_flops, evaluate
from sbp_bayes.pretraining import pretrain
from sbp_bayes.synthesis import CORPUS, SeedDocuments, synthesize
from sbp_bayes.synthesizer import tune
from sbp_bayes.synthesizer.vocabulary import NUM_SPECIAL

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundsConfig:
    """How often to bootstrap.

    Attributes:
        toy: the world, of finitely many concepts, and the trainings.
        num_rounds: rounds after the baseline.
    """

    toy: ToyConfig
    num_rounds: int = 3

    def __post_init__(self) -> None:
        require(self.num_rounds >= 1, "num_rounds", self.num_rounds, "at least 1")


def run_rounds(config: RoundsConfig, work: Workspace, num_workers: int | None = None) -> list[dict[str, Any]]:
    """Return one record per seed and round: loss above Bayes, FLOPs of all rounds so far, and `drift`.

    Raises:
        ConfigError: a world with a continuous concept, whose drift has no exact measure here.
    """
    world = make_data(config.toy, config.toy.seeds[0]).world
    if not isinstance(world, FiniteConceptModel):
        raise ConfigError(f"toy.world = {config.toy.world!r}: expected a world of finitely many concepts")
    per_seed = side_by_side(
        [functools.partial(_run_seed, config, seed, work) for seed in config.toy.seeds], num_workers
    )
    return [record for records in per_seed for record in records]


def _run_seed(config: RoundsConfig, seed: int, work: Workspace) -> list[dict[str, Any]]:
    toy, bench = config.toy, ToyBench(config.toy, seed)
    data, settings = bench.data, bench.settings
    assert isinstance(data.world, FiniteConceptModel)
    trained, documents, concepts = ArmStages(bench, work).baseline(), data.unique, data.unique_concepts
    spent = [trained]
    records: list[dict[str, Any]] = [
        {"seed": seed, "round": 0, "excess": _excess(trained, bench, work), "flops": trained.flops}
    ]
    joint = dataclasses.replace(settings.pretrain, synthetic_share=settings.synthetic_share)
    tokenizer = bench.tokenizer
    for number in range(1, config.num_rounds + 1):
        pairs = concept_pairs(documents, concepts, toy.pairs_per_document, seed)
        held_out = data.paired, consecutive_pairs(data.paired)
        tuned = tune(
            settings.tune, trained.directory / "best", documents, pairs, *held_out, work, tokenizer=tokenizer
        )
        source = SeedDocuments(documents)
        samples = synthesize(
            settings.synthesis, tuned.directory / "best", source, work, tokenizer=tokenizer, num_workers=1
        )
        synthetic = Corpus.load(samples.directory / CORPUS)
        lineage = concepts[[metadata["seed_index"] for metadata in synthetic.metadata]]
        label = f"round {number}, seed {seed}"
        trained = pretrain(
            joint, data.unique, synthetic, data.validation, work, tokenizer=tokenizer, label=label
        )
        spent += [tuned, samples, trained]
        records.append(
            {
                "seed": seed,
                "round": number,
                "excess": _excess(trained, bench, work),
                "flops": arm_flops(trained, spent),
                "synthesizer": measure_synthesizer(tuned, data, seed),
                **drift(data.world, synthetic, lineage),
            }
        )
        kept = _next_documents(synthetic, data.world.doc_length, len(data.unique))
        documents = Corpus.concatenate([data.unique, synthetic.select(kept)])
        concepts = np.concatenate([data.unique_concepts, lineage[kept]])
    return records


def _excess(trained: Manifest, bench: ToyBench, work: Workspace) -> float:
    """Return the test loss of the best checkpoint on validation above the Bayes-optimal one, nats a token."""
    scores = DocumentScores.load(evaluate(trained.directory / "best", bench.test, work).directory / SCORES)
    return float(scores.loss_nats.sum() / bench.test.lengths.sum()) - (bayes_loss(bench.data) or 0.0)


def drift(world: FiniteConceptModel, synthetic: Corpus, lineage: np.ndarray) -> dict[str, float]:
    """Measure whose concepts a synthetic corpus is about.

    Returns:
        `total_variation` between the mean of P(c | d) over its documents and P(c), `noise`, what it would be
        for as many concepts drawn from P(c) itself (the mean of 100 draws), `entropy` of the mean posterior
        in nats, `lineage`: the mean of P(c | d) at the concept of the document that each chain began with,
        and `impossible_share` of documents that no concept can produce, which are left out.

    Raises:
        CorpusError: no document is one that a concept can produce.
    """
    whole = np.flatnonzero(synthetic.lengths == world.doc_length)
    if not len(whole):
        raise CorpusError(f"none of {len(synthetic):,} samples has the world's {world.doc_length} tokens")
    tokens = np.stack([synthetic.document(int(i)) for i in whole]) - NUM_SPECIAL
    documents = torch.from_numpy(tokens)
    legal = torch.from_numpy((tokens >= 0).all(axis=1))
    legal[legal.clone()] = world.log_prob(documents[legal]).isfinite()
    if not legal.any():
        raise CorpusError(f"none of {len(synthetic):,} samples is one that a concept can produce")
    posterior_NK = world.posterior(documents[legal]).exp()
    mean_K, prior_K = posterior_NK.mean(dim=0), world.log_prior_K.exp()
    own = torch.from_numpy(lineage[whole])[legal]
    counts = torch.from_numpy(
        np.random.Generator(np.random.Philox(0)).multinomial(
            len(own), prior_K.numpy() / prior_K.sum().item(), 100
        )
    )
    return {
        "total_variation": float((mean_K - prior_K).abs().sum() / 2),
        "noise": float((counts / len(own) - prior_K).abs().sum(dim=1).mean() / 2),
        "entropy": float(-torch.special.xlogy(mean_K, mean_K).sum()),
        "lineage": float(posterior_NK[torch.arange(len(own)), own].mean()),
        "impossible_share": 1.0 - len(own) / len(synthetic),
    }


def _next_documents(synthetic: Corpus, doc_length: int, number: int) -> np.ndarray:
    """Return the first `number` whole documents: those that can be seed documents of the next round."""
    return np.flatnonzero(synthetic.lengths == doc_length)[:number]


DEFAULT = RoundsConfig(toy=toy_config("fact_views", arms=("baseline", "sbp")))
_SETTINGS = encode(DEFAULT) | {"toy": open_settings(DEFAULT.toy)}
experiment = make_experiment("toy_rounds", {"fact_views": _SETTINGS}, default="fact_views")


@experiment.main
def main(_config: dict[str, Any]) -> dict[str, Any]:
    """Run the rounds, print them and keep them in the run's folder."""
    settings = settings_of(_config)
    config = decode(RoundsConfig, settings | {"toy": encode(decode_toy(settings["toy"]))})
    records = run_rounds(config, workspace(_config))
    for number in range(config.num_rounds + 1):
        own = [record for record in records if record["round"] == number]
        numbers = {
            key: np.mean([record[key] for record in own])
            for key in ("excess", "total_variation", "noise", "entropy", "lineage")
            if key in own[0]
        }
        print(f"round {number}: " + ", ".join(f"{key} {value:.4f}" for key, value in numbers.items()))
    folder = run_folder(experiment)
    if folder is not None:
        record = {"schema_version": SCHEMA_VERSION, "config_fingerprint": fingerprint(encode(config))}
        write_json(folder / "toy_rounds.json", record | {"config": encode(config), "records": records})
    return {"rounds": config.num_rounds}


if __name__ == "__main__":
    sys.exit(run_command_line(experiment, sys.argv[1:]))
