"""A concept model as a Pyro program: c ~ P(c), then documents d ~ P(d | c), in plates."""

from collections.abc import Callable

import pyro
from pyro.poutine.runtime import InferDict
from torch import Tensor

from sbp_bayes.base.errors import ConceptError
from sbp_bayes.concept.distributions import DocumentsGivenConcept, concept_distribution
from sbp_bayes.concept.protocol import ConceptModel


def concept_program(model: ConceptModel) -> Callable[..., Tensor]:
    """Return a Pyro model function `program(documents=None, num_documents=1, documents_per_concept=None)`.

    Its sites are "concept" and "documents". With one document a concept, documents are (N, doc_length) in
    the plate "concepts" (dim −1); with `documents_per_concept` M, or observed documents (N, M, doc_length),
    they are in the plates "concepts" (dim −2) and "documents_of_concept" (dim −1). Observed documents may
    be padded. The concept of a finite model is marked for parallel enumeration, so `TraceEnum_ELBO` and
    `infer_discrete` need no `config_enumerate`; a continuous model's needs `concept_prior` for a density.

    Example: `elbo = TraceEnum_ELBO(max_plate_nesting=1)`, then
    `-elbo.loss(concept_program(model), lambda documents: None, documents)` is Σ log P(documents).
    """

    def program(
        documents: Tensor | None = None, num_documents: int = 1, documents_per_concept: int | None = None
    ) -> Tensor:
        if documents is not None:
            if documents.ndim not in (2, 3):
                raise ConceptError(
                    f"documents of shape {tuple(documents.shape)}: expected (batch, time), "
                    "or (batch, documents per concept, time)"
                )
            num_documents = documents.shape[0]
            documents_per_concept = documents.shape[1] if documents.ndim == 3 else None
        alone = documents_per_concept is None
        with pyro.plate("concepts", num_documents, dim=-1 if alone else -2):
            prior = concept_distribution(model)
            infer = InferDict(enumerate="parallel") if prior.has_enumerate_support else None
            c = pyro.sample("concept", prior, infer=infer)
            law = DocumentsGivenConcept(model, c)
            if alone:
                return pyro.sample("documents", law, obs=documents)
            with pyro.plate("documents_of_concept", documents_per_concept, dim=-1):
                return pyro.sample("documents", law, obs=documents)

    return program
