"""Concept models with finitely many concepts: every integral over c is a sum, in log space and float64.

Shapes: N documents, T time, C concepts of one chunk, K all concepts, V vocabulary.
"""

import abc
from collections.abc import Iterator

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import ConceptError
from sbp_bayes.concept.documents import check_documents, extensions

CHUNK_BYTES = 64 * 2**20
"""Of one chunk's table of log P(d | c): what bounds memory however many concepts there are."""


class FiniteConceptModel(abc.ABC):
    """K concepts with prior P(c); a subclass says how documents come from a concept.

    A subclass defines `_sample` and `_token_log_likelihood`; it may define `_log_likelihood` where a sum
    over positions is not the fastest way, and `_bytes_per_concept` where its own working memory for one
    concept and N documents is more than a table's column.

    Args:
        log_prior: log P(c), (K,); normalised here.
        vocab_size: V.
        doc_length: tokens of a sampled document.

    Raises:
        ConfigError: a prior without mass, no tokens, or documents without tokens.
    """

    def __init__(self, log_prior: Tensor, vocab_size: int, doc_length: int) -> None:
        require(log_prior.ndim == 1 and len(log_prior) > 0, "log_prior", tuple(log_prior.shape), "(K,)")
        mass = log_prior.double().logsumexp(dim=0)
        require(bool(mass.isfinite()), "log_prior", log_prior.tolist(), "finite mass")
        require(vocab_size >= 1, "vocab_size", vocab_size, "at least 1")
        require(doc_length >= 1, "doc_length", doc_length, "at least 1")
        self.log_prior_K = log_prior.double() - mass
        self.vocab_size, self.doc_length = vocab_size, doc_length

    @property
    def num_concepts(self) -> int:
        """K."""
        return len(self.log_prior_K)

    @abc.abstractmethod
    def _sample(self, c_N: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one document for each concept, int64 (N, doc_length)."""

    @abc.abstractmethod
    def _token_log_likelihood(self, d_NT: Tensor, concepts_C: Tensor) -> Tensor:
        """Return log P(d_t | d_<t, c), (N, T, C), 0 where d is padding."""

    def _log_likelihood(self, d_NT: Tensor, concepts_C: Tensor) -> Tensor:
        """Return log P(d | c), (N, C)."""
        return self._token_log_likelihood(d_NT, concepts_C).sum(dim=1)

    def _bytes_per_concept(self, d_NT: Tensor) -> int:
        """Return the bytes that `_log_likelihood` works in for one concept."""
        return 8 * d_NT.numel()

    def sample_concept(self, n: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
        """Draw c ~ P(c), int64 (n,)."""
        return torch.multinomial(self.log_prior_K.exp(), n, replacement=True, generator=generator)

    def sample(self, c: Int64[Tensor, " N"], generator: torch.Generator) -> Int64[Tensor, "N T"]:
        """Draw d ~ P(d | c) for each concept of `c` (N,), int64 (N, doc_length)."""
        return self._sample(c, generator)

    def log_prob_given(self, d: Int64[Tensor, "N T"], c: Int64[Tensor, " N"]) -> Float64[Tensor, " N"]:
        """Return log P(d | c) of each document under its own concept, (N,)."""
        check_documents(d, self.vocab_size)
        log_prob_N = torch.empty(len(d), dtype=torch.float64)
        for concept in c.unique():
            own = c == concept
            log_prob_N[own] = self._log_likelihood(d[own], concept[None])[:, 0]
        return log_prob_N

    def log_likelihood(self, d: Int64[Tensor, "N T"]) -> Float64[Tensor, "N K"]:
        """Return log P(d | c) for every concept, (N, K)."""
        check_documents(d, self.vocab_size)
        return torch.cat([self._log_likelihood(d, concepts) for concepts in self._chunks(d)], dim=1)

    def token_log_likelihood(self, d: Int64[Tensor, "N T"]) -> Float64[Tensor, "N T K"]:
        """Return log P(d_t | d_<t, c) for every position and concept, (N, T, K), 0 at padding."""
        check_documents(d, self.vocab_size)
        return torch.cat([self._token_log_likelihood(d, chunk) for chunk in self._chunks(d)], dim=2)

    def log_prob(self, d: Int64[Tensor, "N T"]) -> Float64[Tensor, " N"]:
        """Return log P(d) = log Σ_c P(d | c) P(c), (N,)."""
        return self._log_joint(d)

    def log_prob_pair(self, d2: Int64[Tensor, "N T2"], given: Int64[Tensor, "N T1"]) -> Float64[Tensor, " N"]:
        """Return log P(d2 | d1) = log Σ_c P(d2 | c) P(c | d1), (N,); `given` is d1, one a document.

        Raises:
            ConceptError: a d1 that no concept can produce.
        """
        return self._log_joint(given, d2) - self._log_evidence(given)

    def posterior(self, d: Int64[Tensor, "N T"]) -> Float64[Tensor, "N K"]:
        """Return log P(c | d), (N, K).

        Raises:
            ConceptError: a document that no concept can produce.
        """
        log_joint_NK = self.log_likelihood(d) + self.log_prior_K
        evidence_N = log_joint_NK.logsumexp(dim=1)
        _refuse_impossible(evidence_N)
        return log_joint_NK - evidence_N[:, None]

    def sample_posterior(
        self, d1: Int64[Tensor, "N T"], n: int, generator: torch.Generator
    ) -> Int64[Tensor, "N n"]:
        """Draw c ~ P(c | d1), int64 (N, n)."""
        return torch.multinomial(self.posterior(d1).exp(), n, replacement=True, generator=generator)

    def next_token_log_probs(
        self, prefix: Int64[Tensor, "N T2"], given: Int64[Tensor, "N T1"] | None = None
    ) -> Float64[Tensor, "N V"]:
        """Return log P(x | prefix), or log P(x | prefix, d1) where d1 is `given`, for every token, (N, V).

        Args:
            prefix: (N, T), padded behind each one's end; T may be 0.
            given: d1, one a prefix.

        Raises:
            ConceptError: a prefix, or a prefix and a d1, that no concept can produce.
        """
        longer_NVT = extensions(prefix, self.vocab_size)
        if given is None:
            return (
                self._log_joint(longer_NVT.flatten(0, 1)).unflatten(0, longer_NVT.shape[:2])
                - self._log_evidence(prefix)[:, None]
            )
        repeated = given.repeat_interleave(self.vocab_size, dim=0)
        log_joint_NV = self._log_joint(repeated, longer_NVT.flatten(0, 1)).unflatten(0, longer_NVT.shape[:2])
        return log_joint_NV - self._log_evidence(given, prefix)[:, None]

    def _log_joint(self, *documents: Tensor) -> Tensor:
        """Return log Σ_c P(c) Π_i P(documents[i] | c), (N,), a chunk of concepts at a time."""
        for d_NT in documents:
            check_documents(d_NT, self.vocab_size)
        total_N = torch.full((len(documents[0]),), -torch.inf, dtype=torch.float64)
        for concepts_C in self._chunks(*documents):
            log_joint_NC = sum(
                (self._log_likelihood(d_NT, concepts_C) for d_NT in documents), self.log_prior_K[concepts_C]
            )
            total_N = torch.logaddexp(total_N, log_joint_NC.logsumexp(dim=1))
        return total_N

    def _log_evidence(self, *documents: Tensor) -> Tensor:
        log_evidence_N = self._log_joint(*documents)
        _refuse_impossible(log_evidence_N)
        return log_evidence_N

    def _chunks(self, *documents: Tensor) -> Iterator[Tensor]:
        bytes_per_concept = max(self._bytes_per_concept(d_NT) for d_NT in documents)
        size = max(1, CHUNK_BYTES // max(1, bytes_per_concept))
        return iter(torch.arange(self.num_concepts).split(size))


def _refuse_impossible(log_evidence_N: Tensor) -> None:
    impossible = (log_evidence_N == -torch.inf).nonzero()
    if len(impossible):
        raise ConceptError(
            f"document {int(impossible[0])} has probability 0 under every concept: "
            "nothing is defined given it"
        )
