"""Documents that join D_unique without a tuned synthesizer, and what a tuned one is measured by."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.toy_validation.data import ToyData, corpus_of, world_tokens
from sbp_bayes.base.records import EOS
from sbp_bayes.base.seeds import derive_seed, torch_generator
from sbp_bayes.base.stage import Manifest, Outcome, StageFolder, Workspace, plan_stage, run_stage
from sbp_bayes.concept import FiniteConceptModel
from sbp_bayes.corpus import Corpus, Document
from sbp_bayes.lm import Transformer, generate, load_model, save_model
from sbp_bayes.pretraining import PretrainConfig
from sbp_bayes.synthesis import CORPUS
from sbp_bayes.synthesizer import NeuralSynthesizer, PosteriorSynthesizer
from sbp_bayes.synthesizer.vocabulary import NUM_SPECIAL


def untrained_model(config: PretrainConfig, work: Workspace) -> Manifest:
    """Write the weights that a pretraining of `config` starts from, as `best`."""
    plan = plan_stage("untrained", {"model": config.model, "seed": config.seed}, {}, ("lm",))

    def write(folder: StageFolder) -> Outcome:
        save_model(Transformer(config.model, seed=derive_seed(config.seed, "model")), folder.path / "best")
        return Outcome(counts={"num_parameters": config.model.num_parameters})

    return run_stage(plan, work, write)


def posterior_samples(data: ToyData, num_tokens: int, seed: int, work: Workspace) -> Manifest:
    """Write d2 ~ P(d2 | d1) for d1 uniform over D_unique, at least `num_tokens` tokens with their EOS."""

    def sample() -> tuple[Corpus, float]:
        number = -(-num_tokens // (data.world.doc_length + 1))
        generator = torch_generator(seed, "posterior samples")
        d1 = world_tokens(data.unique)[torch.randint(len(data.unique), (number,), generator=generator)]
        drawn = PosteriorSynthesizer(data.world).sample(d1, generator)
        return corpus_of(torch.stack(list(drawn)), "posterior", data.tokenizer), 0.0

    settings = {"num_tokens": num_tokens, "seed": seed}
    return _corpus_stage("posterior_samples", settings, {"unique": data.unique.fingerprint}, work, sample)


def baseline_samples(
    baseline: Manifest, data: ToyData, num_tokens: int, seed: int, work: Workspace
) -> Manifest:
    """Write documents of the baseline's best checkpoint on validation, sampled without any d1."""

    def sample() -> tuple[Corpus, float]:
        model = load_model(baseline.directory / "best")
        number = -(-num_tokens // (data.world.doc_length + 1))
        documents: list[Document] = []
        tokens: list[np.ndarray] = []
        complete: list[bool] = []
        while sum(len(t) + 1 for t in tokens) < num_tokens:
            streams = [derive_seed(seed, "baseline samples", len(tokens) + i) for i in range(number)]
            for drawn in generate(
                model,
                [np.array([EOS])] * number,
                max_new_tokens=data.world.doc_length + 1,
                stream_seeds=streams,
            ):
                text = " ".join(str(token - NUM_SPECIAL) for token in drawn.tokens)
                documents.append(Document(id=f"baseline:{len(tokens)}", text=text, source="baseline"))
                tokens.append(drawn.tokens)
                complete.append(drawn.finished)
        corpus = Corpus.from_tokens(documents, tokens, vocab_size=model.config.vocab_size, complete=complete)
        return corpus, model.config.flops_per_token / 3 * corpus.num_tokens

    settings = {"num_tokens": num_tokens, "seed": seed}
    return _corpus_stage("baseline_samples", settings, {"baseline": baseline.fingerprint}, work, sample)


def measure_synthesizer(tuned: Manifest, data: ToyData, seed: int) -> dict[str, float]:
    """Compare a tuned synthesizer with the exact posterior predictive on held-out pairs.

    Returns:
        nats a token of the world, the EOS of p_θ included: `loss` = −log p_θ(d2 | d1), `floor` =
        −log P(d2 | d1), `marginal` = −log P(d2), and `kl` = loss − floor with its standard error. Where
        concepts are finitely many also `agreement`, the mean of Σ_c P(c | d1) P(c | d2) over sampled d2, and
        `exact_agreement` with d2 from the exact posterior, each with its standard error.
    """
    world, documents = data.world, world_tokens(data.paired_test)
    d1, d2 = documents[0::2], documents[1::2]
    neural = NeuralSynthesizer(load_model(tuned.directory / "best"), world.doc_length)
    loss_N = -neural.log_prob(d2 + NUM_SPECIAL, given=d1 + NUM_SPECIAL)
    floor_N, marginal_N = -world.log_prob_pair(d2, given=d1), -world.log_prob(d2)
    tokens = world.doc_length
    measures = {
        "loss": float(loss_N.mean()) / tokens,
        "floor": float(floor_N.mean()) / tokens,
        "marginal": float(marginal_N.mean()) / tokens,
        **_with_error("kl", (loss_N - floor_N) / tokens),
    }
    if isinstance(world, FiniteConceptModel):
        exact = PosteriorSynthesizer(world).sample(d1, torch_generator(seed, "exact agreement"))
        drawn = neural.sample(d1 + NUM_SPECIAL, torch_generator(seed, "agreement"))
        whole = [i for i, d in enumerate(drawn) if len(d) == tokens and int(d.min()) >= NUM_SPECIAL]
        sampled = torch.stack([drawn[i] for i in whole]) - NUM_SPECIAL if whole else d1[:0]
        possible = world.log_prob(sampled).isfinite()
        agreement_N = torch.zeros(len(d1), dtype=torch.float64)
        kept = torch.tensor(whole, dtype=torch.int64)[possible]
        agreement_N[kept] = _agreement(world, d1[kept], sampled[possible])
        measures |= _with_error("agreement", agreement_N)
        measures |= _with_error("exact_agreement", _agreement(world, d1, torch.stack(list(exact))))
        measures["impossible_share"] = 1.0 - len(kept) / len(d1)
    return measures


def _agreement(world: FiniteConceptModel, d1: Tensor, d2: Tensor) -> Tensor:
    return (world.posterior(d1) + world.posterior(d2)).exp().sum(dim=1)


def _with_error(name: str, values_N: Tensor) -> dict[str, float]:
    return {name: float(values_N.mean()), f"{name}_error": float(values_N.std() / len(values_N) ** 0.5)}


def _corpus_stage(
    name: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    work: Workspace,
    sample: Callable[[], tuple[Corpus, float]],
) -> Manifest:
    plan = plan_stage(name, settings, inputs, ("lm", "corpus", "concept", "synthesizer"))

    def write(folder: StageFolder) -> Outcome:
        corpus, flops = sample()
        corpus.save(folder.path / CORPUS)
        return Outcome(counts={"documents": len(corpus), "tokens": corpus.num_tokens}, flops=flops)

    return run_stage(plan, work, write)
