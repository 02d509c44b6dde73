"""What is known in worlds of facts: how many of them a model recalls, and what its synthetic text states."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from experiments.toy_validation.data import ToyData, world_tokens
from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.concept import ConceptModel, ExactModel
from sbp_bayes.corpus import Corpus
from sbp_bayes.evaluation import (
    FactWorld,
    StatementWorld,
    next_world_token,
    recall_items,
    score_recall,
    statement_quality,
)
from sbp_bayes.lm import load_model
from sbp_bayes.synthesizer import PosteriorSynthesizer
from sbp_bayes.synthesizer.vocabulary import NUM_SPECIAL

ITEMS, READ = 1000, 1000
"""Number of questions, and of synthetic documents that are read."""


def has_facts(world: ConceptModel) -> bool:
    """Whether a world's facts can be asked for."""
    return hasattr(world, "fact_question")


def recall_of(models: Sequence[Path], data: ToyData, seed: int) -> dict[str, float]:
    """Ask the models, an ensemble where there are several, for facts whose documents they have not read.

    Returns:
        `recall`: share of questions whose true value has the highest probability among the candidates;
        `probability`: mean of what the true value has among them; `bayes`: the share that nobody can exceed.
    """
    items = recall_items(cast("FactWorld", data.world), seed, ITEMS)
    predictors = [next_world_token(load_model(folder)) for folder in models]

    def ensemble(prefix: Tensor) -> Tensor:
        return torch.stack([predict(prefix) for predict in predictors]).logsumexp(dim=0)

    scores = score_recall(ensemble, items)
    return {
        "recall": float(scores.correct.mean()),
        "probability": float(scores.probability.mean()),
        "bayes": float(items.bayes_rate.mean()),
    }


def statements_of(synthetic: Corpus, data: ToyData) -> dict[str, Any] | None:
    """Read synthetic documents beside their seed documents, as many real pairs, and exact samples.

    Returns:
        "synthetic", "real" and "exact", each with the rates of `statement_quality` and their intervals over
        pairs; None in a world whose documents make no statements.
    """
    world = data.world
    if not hasattr(world, "parse") or not isinstance(world, ExactModel):
        return None
    chosen = range(min(READ, len(synthetic)))
    unique = world_tokens(data.unique)
    d1 = [unique[synthetic.metadata[i]["seed_index"]] for i in chosen]
    d2 = [torch.from_numpy(synthetic.document(i)) - NUM_SPECIAL for i in chosen]
    paired = world_tokens(data.paired_test)
    first, second = paired[0::2], paired[1::2]
    exact = PosteriorSynthesizer(world).sample(first, torch_generator(0, "statements"))
    rows = {"synthetic": (d1, d2), "real": (list(first), list(second)), "exact": (list(first), list(exact))}
    return {
        name: _written(statement_quality(cast("StatementWorld", world), *pair)) for name, pair in rows.items()
    }


def _written(rates: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {
        kind: {"value": rate.estimate, "low": rate.low, "high": rate.high} for kind, rate in rates.items()
    }
