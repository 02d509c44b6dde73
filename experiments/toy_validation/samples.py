"""Documents that join D_unique without a tuned synthesizer, and what a tuned one is measured by."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from experiments.toy_validation.data import ToyData, corpus_of, world_tokens
from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.base.stage import Manifest, Outcome, StageFolder, Workspace, plan_stage, run_stage
from sbp_bayes.concept import ExactModel, FiniteConceptModel
from sbp_bayes.corpus import Corpus
from sbp_bayes.evaluation import concept_calibration, score_pairs
from sbp_bayes.lm import load_model
from sbp_bayes.synthesis import CORPUS
from sbp_bayes.synthesizer import NeuralSynthesizer, PosteriorSynthesizer, WorldTokens

CALIBRATED, SAMPLES_PER_DOCUMENT = 100, 4
"""Documents d1, and samples of each, from which concepts are inferred."""


def posterior_samples(data: ToyData, num_tokens: int, seed: int, work: Workspace) -> Manifest:
    """Write d2 ~ P(d2 | d1) for d1 uniform over D_unique, at least `num_tokens` tokens with their EOS."""
    world = data.world
    assert isinstance(world, ExactModel), "exact samples of a world without closed forms"

    def sample() -> tuple[Corpus, float]:
        number = -(-num_tokens // (world.doc_length + 1))
        generator = torch_generator(seed, "posterior samples")
        d1 = world_tokens(data.unique)[torch.randint(len(data.unique), (number,), generator=generator)]
        drawn = PosteriorSynthesizer(world).sample(d1, generator)
        return corpus_of(torch.stack(list(drawn)), "posterior", data.tokenizer), 0.0

    settings = {"num_tokens": num_tokens, "seed": seed}
    return _corpus_stage("posterior_samples", settings, {"unique": data.unique.fingerprint}, work, sample)


def measure_synthesizer(tuned: Manifest, data: ToyData, seed: int) -> dict[str, float]:
    """Compare a tuned synthesizer with the exact posterior predictive on held-out pairs.

    Returns:
        nats a token: `loss` = −log p_θ(d2 | d1), `floor` = −log P(d2 | d1), `marginal` = −log P(d2), and
        `kl` = loss − floor with its standard error. Where concepts are finitely many also `carried`, the
        share of samples from which the concept is inferred that d1 makes the most probable, `exact_carried`,
        the same of exact samples, and the samples' `impossible_share`; see `concept_calibration`. Empty where
        P(d) has no closed form.
    """
    world, documents = data.world, world_tokens(data.paired_test)
    if not isinstance(world, ExactModel):
        return {}
    d1, d2 = documents[0::2], documents[1::2]
    neural = WorldTokens(NeuralSynthesizer(load_model(tuned.directory / "best"), world.doc_length))
    scores = score_pairs(world, neural, d1, d2)
    kl_N = (scores.model - scores.truth).sum(axis=1) / world.doc_length
    measures = {
        "loss": float(scores.model.sum() / d2.numel()),
        "floor": float(scores.truth.sum() / d2.numel()),
        "marginal": float(-world.log_prob(d2).sum() / d2.numel()),
        "kl": float(kl_N.mean()),
        "kl_error": float(kl_N.std() / len(kl_N) ** 0.5),
    }
    if isinstance(world, FiniteConceptModel):
        calibration = concept_calibration(
            world, neural, d1[:CALIBRATED], samples_per_document=SAMPLES_PER_DOCUMENT, seed=seed
        )
        measures |= {
            "carried": calibration.carried.estimate,
            "exact_carried": calibration.exact_carried.estimate,
            "impossible_share": calibration.impossible_share,
        }
    return measures


def _corpus_stage(
    name: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    work: Workspace,
    sample: Callable[[], tuple[Corpus, float]],
) -> Manifest:
    plan = plan_stage(name, settings, inputs, __name__, device="cpu")

    def write(folder: StageFolder) -> Outcome:
        corpus, flops = sample()
        corpus.save(folder.path / CORPUS)
        return Outcome(counts={"documents": len(corpus), "tokens": corpus.num_tokens}, flops=flops)

    return run_stage(plan, work, write)
