"""Worlds small enough to enumerate, and goodness of fit over enumerated documents."""

import itertools
from typing import Any

import numpy as np
import scipy.stats
import torch
from torch import Tensor

from sbp_bayes.concept import PAD
from toy_worlds import make_world

FINITE: dict[str, tuple[str, dict[str, Any]]] = {
    "uniform": ("uniform", {"num_concepts": 2, "vocab_size": 3, "doc_length": 3}),
    "unigrams": ("unigram_mixture", {"num_concepts": 3, "vocab_size": 3, "doc_length": 3}),
    "markov": ("markov_mixture", {"num_concepts": 3, "vocab_size": 3, "doc_length": 3}),
    "markov, sampled": (
        "markov_mixture",
        {"num_concepts": 3, "vocab_size": 3, "doc_length": 3, "initial": "sampled", "concentration": 1.0},
    ),
    "hmm": (
        "hmm_mixture",
        {
            "num_concepts": 3,
            "vocab_size": 4,
            "doc_length": 3,
            "num_entities": 2,
            "num_properties": 2,
            "noise": 0.2,
        },
    ),
    "hmm, no noise": (
        "hmm_mixture",
        {"num_concepts": 2, "vocab_size": 3, "doc_length": 3, "num_entities": 2, "num_properties": 3},
    ),
    "mess3": ("mess3_mixture", {"num_concepts": 3, "doc_length": 3}),
    "facts": (
        "fact_views",
        {"num_concepts": 4, "num_slots": 3, "num_values": 2, "num_stated": 2, "noise": 0.3},
    ),
    "facts, no noise": (
        "fact_views",
        {"num_concepts": 5, "num_slots": 3, "num_values": 2, "num_stated": 3, "noise": 0.0},
    ),
    "biographies": (
        "biographies",
        {
            "num_concepts": 3,
            "num_attributes": 1,
            "num_values": 2,
            "num_stated": 1,
            "num_templates": 2,
            "noise": 0.3,
            "num_names": 2,
        },
    ),
    "biographies, no noise": (
        "biographies",
        {
            "num_concepts": 2,
            "num_attributes": 1,
            "num_values": 2,
            "num_stated": 1,
            "num_templates": 2,
            "noise": 0.0,
        },
    ),
    "styles": (
        "style_and_topic",
        {"num_concepts": 3, "vocab_size": 3, "doc_length": 3, "num_styles": 2, "style_share": 0.4},
    ),
    "styles alone": (
        "style_and_topic",
        {"num_concepts": 2, "vocab_size": 3, "doc_length": 2, "num_styles": 3, "style_share": 1.0},
    ),
}
CONTINUOUS: dict[str, tuple[str, dict[str, Any]]] = {
    "dirichlet": ("dirichlet_unigram", {"vocab_size": 3, "doc_length": 3, "concentration": 0.6}),
    "dirichlet markov": ("dirichlet_markov", {"vocab_size": 3, "doc_length": 3, "concentration": 0.6}),
}
CLOSED_FORM = {**FINITE, **CONTINUOUS}


def small_world(case: str) -> Any:
    """Build the small world of a case."""
    name, params = CLOSED_FORM[case]
    return make_world(name, **params)


def every_document(world: Any, length: int | None = None) -> Tensor:
    """All documents of `length` tokens (the world's own by default), (vocab_size^length, length)."""
    length = world.doc_length if length is None else length
    documents = list(itertools.product(range(world.vocab_size), repeat=length))
    return torch.tensor(documents, dtype=torch.int64).reshape(len(documents), length)


def possible(world: Any, documents: Tensor) -> Tensor:
    """Those of `documents` that the world gives a positive probability."""
    return documents[world.log_prob(documents) > -torch.inf]


def padded(documents: Tensor, columns: int) -> Tensor:
    """The same documents with columns of padding behind them."""
    return torch.nn.functional.pad(documents, (0, columns), value=PAD)


def fit(draws: Tensor, vocab_size: int, log_prob: Tensor) -> float:
    """p-value of the G-test of drawn documents against all documents' probabilities.

    Outcomes are in the order of `every_document`; those expected fewer than 5 times are put together.
    One that is drawn in spite of probability 0 gives 0.
    """
    place = vocab_size ** torch.arange(draws.shape[1] - 1, -1, -1)
    return fit_counts(torch.bincount((draws * place).sum(dim=1), minlength=len(log_prob)), log_prob)


def fit_counts(counts: Tensor, log_prob: Tensor) -> float:
    """p-value of the G-test of counts against the outcomes' probabilities, rare outcomes put together."""
    probs, observed = log_prob.exp().numpy(), counts.numpy()
    assert abs(probs.sum() - 1) < 1e-9
    if observed[probs == 0].any():
        return 0.0
    expected = probs * observed.sum()
    rare = expected < 5
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    observed, expected = observed[expected > 0], expected[expected > 0]
    if len(expected) == 1:
        return 1.0
    expected *= observed.sum() / expected.sum()
    return float(scipy.stats.power_divergence(observed, expected, lambda_="log-likelihood").pvalue)
