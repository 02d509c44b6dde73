"""The latent-concept model: P(c), P(d | c), and the posterior predictive P(d2 | d1), exact where possible.

What needs Pyro (`pyro_program`, `distributions`, `inference`) is imported on first use.
"""

from sbp_bayes.concept.conjugate import DirichletCategorical, DirichletMarkov
from sbp_bayes.concept.documents import PAD, document_lengths, pad_documents, prefixes
from sbp_bayes.concept.finite import FiniteConceptModel
from sbp_bayes.concept.protocol import ConceptModel

__all__ = [
    "PAD",
    "ConceptModel",
    "DirichletCategorical",
    "DirichletMarkov",
    "FiniteConceptModel",
    "document_lengths",
    "pad_documents",
    "prefixes",
]
