"""What a concept model is: a latent concept c ~ P(c), and documents d ~ P(d | c) independent given it.

Everything is in nats. Documents are int64 token ids 0 … vocab_size − 1 without special tokens,
(batch, time), padded behind the end of a shorter one (`documents.PAD`), which then means its prefix.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64, Int64, Shaped
from torch import Tensor


class ConceptModel(Protocol):
    """P(c) and P(d | c): what every concept model can draw and score (arXiv 2509.15248, section 2).

    A concept is an int64 index where there are finitely many, and a point (…, dimensions) of a continuous
    space elsewhere; methods take and return batches of them along the first dimension.
    """

    vocab_size: int
    doc_length: int

    def sample_concept(self, n: int, generator: torch.Generator) -> Shaped[Tensor, " n *concept"]:
        """Draw n concepts c ~ P(c)."""
        ...

    def sample(self, c: Shaped[Tensor, " N *concept"], generator: torch.Generator) -> Int64[Tensor, "N T"]:
        """Draw one document d ~ P(d | c) for each concept, int64 (batch, doc_length)."""
        ...

    def log_prob_given(
        self, d: Int64[Tensor, "N T"], c: Shaped[Tensor, " N *concept"]
    ) -> Float64[Tensor, " N"]:
        """Return log P(d | c) of each document under its own concept, (batch,)."""
        ...


@runtime_checkable
class ExactModel(ConceptModel, Protocol):
    """A concept model whose integrals over concepts are known: Bayes' rule in closed form.

    `isinstance(model, ExactModel)` says whether a model is one.
    """

    def log_prob(self, d: Int64[Tensor, "N T"]) -> Float64[Tensor, " N"]:
        """Return log P(d) = log ∫ P(d | c) P(c) dc, (batch,)."""
        ...

    def log_prob_pair(self, d2: Int64[Tensor, "N T2"], given: Int64[Tensor, "N T1"]) -> Float64[Tensor, " N"]:
        """Return log P(d2 | d1) = log ∫ P(d2 | c) P(c | d1) dc, (batch,); `given` is d1."""
        ...

    def next_token_log_probs(
        self, prefix: Int64[Tensor, "N T2"], given: Int64[Tensor, "N T1"] | None = None
    ) -> Float64[Tensor, "N V"]:
        """Return log P(next token | prefix), or log P(next token | prefix, d1), (batch, vocab_size)."""
        ...

    def sample_posterior(
        self, d1: Int64[Tensor, "N T"], n: int, generator: torch.Generator
    ) -> Shaped[Tensor, "N n *concept"]:
        """Draw n concepts c ~ P(c | d1) for each document; (batch, n, …)."""
        ...
