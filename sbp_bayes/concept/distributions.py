"""A concept model's laws as Pyro distributions: of the concept, of documents given it, and of documents.

They serve inside `pyro.sample`, plates and enumeration. `Distribution.sample` has no generator argument:
these draw from PyTorch's global one, as all of Pyro does (`pyro.set_rng_seed`, or
`inference.global_generator` to have an explicit generator stand in for it).

A document's event_shape is (doc_length,). A padded one is in the support: it is the event that a document
begins with its tokens, and its probability is the prefix's.
"""

from typing import Any

import torch
from pyro.distributions import Categorical, TorchDistribution
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from sbp_bayes.concept.documents import PAD
from sbp_bayes.concept.finite import FiniteConceptModel
from sbp_bayes.concept.information import MAX_DOCUMENTS, enumerate_documents
from sbp_bayes.concept.protocol import ConceptModel, ExactModel

Shape = Size | list[int] | tuple[int, ...]
"""What torch takes for a shape."""


class DocumentConstraint(constraints.Constraint):
    """Token ids 0 … vocab_size − 1, then padding alone; event_dim 1.

    Args:
        vocab_size: number of tokens.
    """

    is_discrete = True
    event_dim = 1

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def check(self, value: Tensor) -> Tensor:
        """Return whether each document is one, a bool tensor of its batch shape."""
        known = ((value >= PAD) & (value < self.vocab_size)).all(dim=-1)
        return known & ((value[..., :-1] != PAD) | (value[..., 1:] == PAD)).all(dim=-1)


class Concept(TorchDistribution):
    """P(c) of a model with a continuous concept, drawn by the model's own sampler.

    Its density and support are those of the model's `concept_prior`, a torch distribution; without one it
    can be drawn from and no more.

    Args:
        model: says P(c).
        batch_shape: of independent concepts.
        validate_args: whether values are checked against the support.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (torch's own convention)

    def __init__(
        self, model: ConceptModel, batch_shape: Shape = (), validate_args: bool | None = None
    ) -> None:
        self.model = model
        super().__init__(Size(batch_shape), concept_event_shape(model), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint | None:
        """The support of the model's `concept_prior`."""
        return self._prior().support

    def expand(self, batch_shape: Shape, _instance: Any = None) -> "Concept":
        """Return independent concepts of `batch_shape`."""
        return Concept(self.model, Size(batch_shape), self._validate_args)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw (*sample_shape, *batch_shape, *event_shape) from the global generator."""
        shape = self._extended_shape(Size(sample_shape))
        number = shape[: len(shape) - len(self.event_shape)].numel()
        return self.model.sample_concept(number, torch.default_generator).reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log P(c), a density on the concept's space.

        Raises:
            NotImplementedError: the model has no `concept_prior`.
        """
        prior = self._prior()
        if self._validate_args:
            self._validate_sample(value)
        log_prob = prior.log_prob(value)
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    def _prior(self) -> Distribution:
        prior = getattr(self.model, "concept_prior", None)
        if prior is None:
            raise NotImplementedError(f"{type(self.model).__name__} has no concept_prior, so no density P(c)")
        return prior


class _OfDocuments(TorchDistribution):
    """What laws of documents share: event_shape, support, and enumeration of `MAX_DOCUMENTS` at most."""

    def __init__(self, model: ConceptModel, batch_shape: Size, validate_args: bool | None) -> None:
        self.model = model
        self.has_enumerate_support = model.vocab_size**model.doc_length <= MAX_DOCUMENTS
        super().__init__(Size(batch_shape), Size([model.doc_length]), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Documents of the model's vocabulary, padded ones too."""
        return DocumentConstraint(self.model.vocab_size)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return all full documents, (V ** T, *batch_shape or ones, T).

        Raises:
            ConfigError: too many of them.
        """
        d = enumerate_documents(self.model)
        d = d.reshape(len(d), *[1] * len(self.batch_shape), -1)
        return d.expand(len(d), *self.batch_shape, -1) if expand else d

    def _flat(self, value: Tensor, *others: tuple[Tensor, int]) -> tuple[Size, list[Tensor]]:
        """Broadcast documents and others of some event dimensions; return the batch and each flattened."""
        if self._validate_args:
            self._validate_sample(value)
        parts = [(value, 1), *others]
        batches = [x.shape[: x.ndim - event_dim] for x, event_dim in parts]
        batch = torch.broadcast_shapes(self.batch_shape, *batches)
        return batch, [
            x.expand(batch + x.shape[x.ndim - n :]).reshape(-1, *x.shape[x.ndim - n :]) for x, n in parts
        ]


class DocumentsGivenConcept(_OfDocuments):
    """P(d | c): batch_shape is the concepts', event_shape (doc_length,).

    Args:
        model: says P(d | c).
        c: concepts, (*batch_shape,) where there are finitely many, else (*batch_shape, *concept's shape).
        validate_args: whether concepts and documents are checked.
    """

    def __init__(self, model: ConceptModel, c: Tensor, validate_args: bool | None = None) -> None:
        self.c = c
        self._concept_dim = len(concept_event_shape(model))
        self.model = model
        super().__init__(model, c.shape[: c.ndim - self._concept_dim], validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """Of `c`: an index of the model's, or a point of its prior's support."""
        if isinstance(self.model, FiniteConceptModel):
            return {"c": constraints.integer_interval(0, self.model.num_concepts - 1)}
        prior = getattr(self.model, "concept_prior", None)
        return {"c": constraints.dependent if prior is None else prior.support}

    def expand(self, batch_shape: Shape, _instance: Any = None) -> "DocumentsGivenConcept":
        """Return the law of independent documents, one for each element of `batch_shape`."""
        event = self.c.shape[self.c.ndim - self._concept_dim :]
        return DocumentsGivenConcept(
            self.model, self.c.expand(Size(batch_shape) + event), self._validate_args
        )

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw documents, int64 (*sample_shape, *batch_shape, doc_length), from the global generator."""
        event = self.c.shape[self.c.ndim - self._concept_dim :]
        c = self.c.detach().expand(Size(sample_shape) + self.batch_shape + event).reshape(-1, *event)
        d = self.model.sample(c, torch.default_generator)
        return d.reshape(self._extended_shape(Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log P(d | c), nats, of the batch shape that documents and concepts broadcast to."""
        batch, (d, c) = self._flat(value, (self.c, self._concept_dim))
        return self.model.log_prob_given(d, c).reshape(batch)


class Documents(_OfDocuments):
    """P(d), or the posterior predictive P(d2 | d1): event_shape (doc_length,).

    Args:
        model: says P(d).
        given: d1, int64 (*batch_shape, time); without it the marginal, of batch_shape ().
        validate_args: whether documents are checked.
    """

    model: ExactModel
    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (torch's own convention)

    def __init__(
        self, model: ExactModel, given: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        self.given = given
        super().__init__(model, Size() if given is None else given.shape[:-1], validate_args)

    def expand(self, batch_shape: Shape, _instance: Any = None) -> "Documents":
        """Return the law of independent documents, one for each element of `batch_shape`."""
        given = None if self.given is None else self.given.expand(Size(batch_shape) + self.given.shape[-1:])
        new = Documents(self.model, given, self._validate_args)
        new._batch_shape = Size(batch_shape)
        return new

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw documents, int64 (*sample_shape, *batch_shape, doc_length), from the global generator."""
        shape, draw = self._extended_shape(Size(sample_shape)), torch.default_generator
        if self.given is None:
            return self.model.sample(self.model.sample_concept(shape[:-1].numel(), draw), draw).reshape(shape)
        given = self.given.expand(shape[:-1] + self.given.shape[-1:]).flatten(0, -2)
        return self.model.sample(self.model.sample_posterior(given, 1, draw)[:, 0], draw).reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log P(d), or log P(d | d1), nats, of the batch shape that documents broadcast to."""
        if self.given is None:
            batch, (d,) = self._flat(value)
            return self.model.log_prob(d).reshape(batch)
        batch, (d, given) = self._flat(value, (self.given, 1))
        return self.model.log_prob_pair(d, given).reshape(batch)


def concept_distribution(model: ConceptModel) -> TorchDistribution:
    """Return P(c): Pyro's Categorical of a finite model's prior, which it can enumerate, else `Concept`."""
    if isinstance(model, FiniteConceptModel):
        return Categorical(logits=model.log_prior_K)
    return Concept(model)


def concept_event_shape(model: ConceptModel) -> Size:
    """Return the shape of one concept: () of an index, else that of a point, by drawing one."""
    if isinstance(model, FiniteConceptModel):
        return Size()
    return model.sample_concept(1, torch.Generator()).shape[1:]
