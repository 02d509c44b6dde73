"""The latent-concept model: P(c), P(d | c), and the posterior predictive P(d2 | d1), exact where possible.

What needs Pyro (`pyro_program`, `distributions`, `inference`) is imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from sbp_bayes.concept.conjugate import DirichletCategorical, DirichletMarkov
from sbp_bayes.concept.documents import PAD, document_lengths, pad_documents, prefixes
from sbp_bayes.concept.finite import FiniteConceptModel
from sbp_bayes.concept.importance import (
    LogEstimate,
    annealed_log_prob,
    importance_log_prob,
    importance_log_prob_pair,
)
from sbp_bayes.concept.information import (
    MonteCarloEstimate,
    bayes_loss,
    bayes_loss_curve,
    concept_information,
    conditional_entropy,
    entropy,
    mutual_information,
    sample_pairs,
    synthesizer_floor,
)
from sbp_bayes.concept.protocol import ConceptModel, ExactModel

if TYPE_CHECKING:
    from sbp_bayes.concept.distributions import Documents, DocumentsGivenConcept
    from sbp_bayes.concept.pyro_program import concept_program

_NEED_PYRO = {
    "Documents": "distributions",
    "DocumentsGivenConcept": "distributions",
    "concept_program": "pyro_program",
}

__all__ = [
    "PAD",
    "ConceptModel",
    "DirichletCategorical",
    "DirichletMarkov",
    "Documents",
    "DocumentsGivenConcept",
    "ExactModel",
    "FiniteConceptModel",
    "LogEstimate",
    "MonteCarloEstimate",
    "annealed_log_prob",
    "bayes_loss",
    "bayes_loss_curve",
    "concept_information",
    "concept_program",
    "conditional_entropy",
    "document_lengths",
    "entropy",
    "importance_log_prob",
    "importance_log_prob_pair",
    "mutual_information",
    "pad_documents",
    "prefixes",
    "sample_pairs",
    "synthesizer_floor",
]


def __getattr__(name: str) -> Any:
    """Import what needs Pyro when it is first asked for."""
    if name not in _NEED_PYRO:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_NEED_PYRO[name]}"), name)
