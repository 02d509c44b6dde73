"""Concept models with a continuous concept and closed forms: rows of probabilities with Dirichlet priors.

A concept is a table of rows; the previous token chooses the row that the next token is drawn from. Given
documents, the posterior of a row is again Dirichlet, its concentration raised by what was counted in it.

Shapes: N documents, T time, R rows, V vocabulary.
"""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.distributions import Dirichlet, Distribution, Independent

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import ConceptError
from sbp_bayes.base.operators import standard_gamma
from sbp_bayes.concept.documents import PAD, check_documents, document_lengths

CHUNK_BYTES = 64 * 2**20
"""Of the tables of counts that are held at once, (documents, rows, vocabulary)."""


class _DirichletRows:
    """R rows of V probabilities, row r ~ Dirichlet(alpha_RV[r]); `_rows` says which row a token comes from.

    Args:
        alpha_RV: concentrations, positive and finite.
        concept_shape: the shape of one concept: (R, V), or (V,) of a single row.
        doc_length: tokens of a sampled document.
    """

    def __init__(self, alpha_RV: Tensor, concept_shape: tuple[int, ...], doc_length: int) -> None:
        require(doc_length >= 1, "doc_length", doc_length, "at least 1")
        self.alpha_RV = alpha_RV.double()
        self.concept_shape = concept_shape
        self.vocab_size, self.doc_length = alpha_RV.shape[1], doc_length

    def _rows(self, previous: Tensor | None, num_documents: int) -> Tensor:
        """Return the row of the token behind `previous` (N,), or of a document's first: int64 (N,)."""
        raise NotImplementedError

    @property
    def concept_prior(self) -> Distribution:
        """P(c) as a torch distribution: batch_shape (), event_shape `concept_shape`."""
        alpha = self.alpha_RV.reshape(self.concept_shape)
        return Independent(Dirichlet(alpha), alpha.ndim - 1)

    def sample_concept(self, n: int, generator: torch.Generator) -> Float64[Tensor, " n *concept"]:
        """Draw c ~ P(c), float64 (n, *concept_shape)."""
        rows = log_dirichlet(self.alpha_RV.expand(n, -1, -1), generator).exp()
        return rows.reshape(n, *self.concept_shape)

    def sample(self, c: Float[Tensor, " N *concept"], generator: torch.Generator) -> Int64[Tensor, "N T"]:
        """Draw one document d ~ P(d | c) for each concept, int64 (N, doc_length)."""
        rows_NRV = self._concept_rows(c)
        every, previous, tokens = torch.arange(len(c)), None, []
        for _ in range(self.doc_length):
            probs_NV = rows_NRV[every, self._rows(previous, len(c))]
            previous = torch.multinomial(probs_NV, 1, generator=generator)[:, 0]
            tokens.append(previous)
        return torch.stack(tokens, dim=1)

    def perturb_concept(
        self, c: Float64[Tensor, " N *concept"], keep: float, generator: torch.Generator
    ) -> Float64[Tensor, " N *concept"]:
        """Move each concept a little, reversibly with respect to P(c): c ~ P(c) stays so.

        Each row becomes gamma variables by a total of its own, of which a share Beta(keep α, (1 − keep) α)
        stays and to which Gamma((1 − keep) α) is added: X + Y becomes X + Z, independent gammas all.

        Args:
            c: concepts, (N, *concept_shape).
            keep: 0 (a new draw from the prior) up to 1 (no move), the latter excluded.
            generator: of the draws.

        Raises:
            ConfigError: `keep` out of its range.
        """
        require(0 <= keep < 1, "keep", keep, "from 0 to below 1")
        if keep == 0:
            return self.sample_concept(len(c), generator)
        alpha_NRV = self.alpha_RV.expand(len(c), -1, -1)
        log_total_NR1 = _log_gamma_draw(alpha_NRV.sum(dim=2, keepdim=True), generator)
        log_stays = _log_gamma_draw(keep * alpha_NRV, generator)
        log_goes = _log_gamma_draw((1 - keep) * alpha_NRV, generator)
        log_share = log_stays - torch.logaddexp(log_stays, log_goes)
        log_kept = self._concept_rows(c).log() + log_total_NR1 + log_share
        log_added = _log_gamma_draw((1 - keep) * alpha_NRV, generator)
        return torch.logaddexp(log_kept, log_added).softmax(dim=2).reshape(c.shape)

    def log_prob_given(
        self, d: Int64[Tensor, "N T"], c: Float[Tensor, " _ *concept"]
    ) -> Float64[Tensor, " N"]:
        """Return log P(d | c) = Σ_rv n_rv log c_rv of each document under its own concept, (N,).

        Differentiable in `c`.

        Raises:
            ConceptError: not one concept of `concept_shape` a document.
        """
        _same_number(d, c)
        return torch.xlogy(self._counts(d), self._concept_rows(c)).sum(dim=(1, 2))

    def log_prob(self, d: Int64[Tensor, "N T"]) -> Float64[Tensor, " N"]:
        """Return log P(d), (N,): the Pólya urn's, a product of Dirichlet–multinomials of ordered tokens."""
        return self.token_log_probs(d).sum(dim=1)

    def log_prob_pair(self, d2: Int64[Tensor, "N T2"], given: Int64[Tensor, "_ T1"]) -> Float64[Tensor, " N"]:
        """Return log P(d2 | d1), (N,): d2's probability in an urn that d1's counts were added to."""
        return self.token_log_probs(d2, given).sum(dim=1)

    def token_log_probs(
        self, d: Int64[Tensor, "N T2"], given: Int64[Tensor, "_ T1"] | None = None
    ) -> Float64[Tensor, "N T2"]:
        """Return log P(d_t | d_<t), or log P(d_t | d_<t, d1) where d1 is `given`, (N, T); 0 at padding.

        Each is a ratio of a concentration to its row's total, so no precision is lost to large ones.

        Raises:
            ConceptError: not one d1 a document.
        """
        check_documents(d, self.vocab_size)
        size = max(1, CHUNK_BYTES // (8 * self.alpha_RV.numel()))
        if given is not None:
            _same_number(d, given)
        first = range(0, max(1, len(d)), size)
        return torch.cat(
            [self._urn(d[i : i + size], None if given is None else given[i : i + size]) for i in first]
        )

    def next_token_log_probs(
        self, prefix: Int64[Tensor, "N T2"], given: Int64[Tensor, "_ T1"] | None = None
    ) -> Float64[Tensor, "N V"]:
        """Return log P(x | prefix), or log P(x | prefix, d1) where d1 is `given`, for every token, (N, V).

        Args:
            prefix: (N, T), padded behind each one's end; T may be 0.
            given: d1, one a prefix.
        """
        alpha_NRV = self.posterior_alpha(prefix, *(() if given is None else (given,)))
        lengths = document_lengths(prefix)
        first = self._rows(None, len(prefix))
        row_N = first
        if prefix.shape[1]:
            last = prefix[torch.arange(len(prefix)), (lengths - 1).clamp(min=0)]
            row_N = torch.where(lengths > 0, self._rows(last.clamp(min=0), len(prefix)), first)
        alpha_NV = alpha_NRV[torch.arange(len(prefix)), row_N]
        return alpha_NV.log() - alpha_NV.sum(dim=1, keepdim=True).log()

    def posterior_alpha(self, *documents: Tensor) -> Float64[Tensor, "N R V"]:
        """Return the concentrations of P(c | documents), (N, R, V); each argument has one document a row."""
        for other in documents[1:]:
            _same_number(documents[0], other)
        return sum((self._counts(d) for d in documents), self.alpha_RV)

    def posterior_mean_log_likelihood(self, d: Int64[Tensor, "N T"]) -> Float64[Tensor, " N"]:
        """Return E[log P(d | c) | d] = Σ_rv n_rv (ψ(α_rv + n_rv) − ψ(Σ_v α_rv + n_rv)), (N,)."""
        counts_NRV, alpha_NRV = self._counts(d), self.posterior_alpha(d)
        mean_log_NRV = alpha_NRV.digamma() - alpha_NRV.sum(dim=2, keepdim=True).digamma()
        return (counts_NRV * mean_log_NRV).sum(dim=(1, 2))

    def sample_posterior(
        self, d1: Int64[Tensor, "N T"], n: int, generator: torch.Generator
    ) -> Float64[Tensor, "N n *concept"]:
        """Draw c ~ P(c | d1), float64 (N, n, *concept_shape)."""
        alpha_NRV = self.posterior_alpha(d1)
        rows = log_dirichlet(alpha_NRV[:, None].expand(-1, n, -1, -1), generator).exp()
        return rows.reshape(len(d1), n, *self.concept_shape)

    def _concept_rows(self, c: Tensor) -> Tensor:
        if tuple(c.shape[1:]) != self.concept_shape:
            raise ConceptError(f"concepts of shape {tuple(c.shape)}: expected (batch, *{self.concept_shape})")
        return c.reshape(len(c), *self.alpha_RV.shape)

    def _counts(self, d: Tensor) -> Tensor:
        """Return how often each token was drawn from each row, float64 (N, R, V)."""
        check_documents(d, self.vocab_size)
        counts_NX = torch.zeros(len(d), self.alpha_RV.numel(), dtype=torch.float64)
        counts_NX.scatter_add_(1, self._cells(d), (d != PAD).double())
        return counts_NX.unflatten(1, self.alpha_RV.shape)

    def _cells(self, d: Tensor) -> Tensor:
        """Return row · V + token at every position, int64 (N, T); any valid cell at padding."""
        tokens = d.clamp(min=0)
        rows = [self._rows(tokens[:, t - 1] if t else None, len(d)) for t in range(d.shape[1])]
        return torch.stack(rows, dim=1) * self.vocab_size + tokens if rows else tokens

    def _urn(self, d: Tensor, given: Tensor | None) -> Tensor:
        alpha_NRV = self.alpha_RV.expand(len(d), -1, -1) if given is None else self.posterior_alpha(given)
        drawn_NX, total_NR = alpha_NRV.flatten(1).clone(), alpha_NRV.sum(dim=2)
        cells_NT, real_NT = self._cells(d), (d != PAD).double()
        log_prob_NT = torch.zeros(d.shape, dtype=torch.float64)
        for t in range(d.shape[1]):
            cell, real = cells_NT[:, t : t + 1], real_NT[:, t : t + 1]
            row = cell // self.vocab_size
            ratio = drawn_NX.gather(1, cell).log() - total_NR.gather(1, row).log()
            log_prob_NT[:, t : t + 1] = ratio * real
            drawn_NX.scatter_add_(1, cell, real)
            total_NR.scatter_add_(1, row, real)
        return log_prob_NT


class DirichletCategorical(_DirichletRows):
    """A concept is a distribution over tokens, c ~ Dirichlet(alpha); tokens are independent given it.

    P(d) = B(alpha + n) / B(alpha), where n counts d's tokens and B is the multivariate beta function: the
    Dirichlet–multinomial of an ordered sequence (no multinomial coefficient). A concept is (V,).

    Example: V = 2, alpha = (1, 1): P(0) = 1/2, P(0, 0) = 1/3, P(d2 = 0 | d1 = 0) = 2/3.

    Args:
        alpha_V: concentrations, (V,).
        doc_length: tokens of a sampled document.

    Raises:
        ConfigError: concentrations that are not positive and finite, or documents without tokens.
    """

    def __init__(self, alpha_V: Tensor, doc_length: int) -> None:
        _check_alpha("alpha_V", alpha_V, "(V,)", alpha_V.shape[:1])
        super().__init__(alpha_V[None], tuple(alpha_V.shape), doc_length)

    def _rows(self, previous: Tensor | None, num_documents: int) -> Tensor:
        return torch.zeros(num_documents, dtype=torch.int64)


class DirichletMarkov(_DirichletRows):
    """A concept is a first-order Markov chain, its initial distribution and each row Dirichlet a priori.

    The in-context Markov chains of arXiv 2402.11004, section 2, with a prior for the first token of its
    own. A concept is (V + 1, V): row 0 is the first token's distribution, row v + 1 that of the token
    behind v.

    Example: V = 2, all concentrations 1: P(0) = 1/2, P(0, 0) = 1/4, P(0, 0, 0) = 1/2 · 1/2 · 2/3.

    Args:
        initial_alpha_V: concentrations of the first token, (V,).
        alpha_VV: concentrations of the token behind each token, (previous, next).
        doc_length: tokens of a sampled document.

    Raises:
        ConfigError: concentrations that are not positive and finite, or documents without tokens.
    """

    def __init__(self, initial_alpha_V: Tensor, alpha_VV: Tensor, doc_length: int) -> None:
        _check_alpha("initial_alpha_V", initial_alpha_V, "(V,)", initial_alpha_V.shape[:1])
        vocab_size = len(initial_alpha_V)
        _check_alpha("alpha_VV", alpha_VV, f"({vocab_size}, {vocab_size})", (vocab_size, vocab_size))
        alpha_RV = torch.cat([initial_alpha_V[None].double(), alpha_VV.double()])
        super().__init__(alpha_RV, (vocab_size + 1, vocab_size), doc_length)

    def _rows(self, previous: Tensor | None, num_documents: int) -> Tensor:
        return torch.zeros(num_documents, dtype=torch.int64) if previous is None else previous + 1


def log_dirichlet(alpha: Float[Tensor, "*shape"], generator: torch.Generator) -> Float64[Tensor, "*shape"]:
    """Draw log p for p ~ Dirichlet(alpha) along the last dimension, float64, of the shape of `alpha`.

    Log space keeps small concentrations from underflowing.

    Args:
        alpha: concentration of each component, above 0; 0 counts as the smallest positive number.
        generator: source of randomness.
    """
    return _log_gamma_draw(alpha, generator).log_softmax(dim=-1)


def _log_gamma_draw(alpha: Tensor, generator: torch.Generator) -> Tensor:
    """Draw log G(α) = log G(α + 1) + log(U) / α (Marsaglia and Tsang 2000, section 6)."""
    alpha = alpha.double().clamp(min=torch.finfo(torch.float64).tiny)
    log_uniform = torch.rand(alpha.shape, dtype=torch.float64, generator=generator).neg().log1p()
    return standard_gamma(alpha + 1, generator).log() + log_uniform / alpha


def _check_alpha(key: str, alpha: Tensor, expected: str, shape: tuple[int, ...]) -> None:
    right = tuple(alpha.shape) == tuple(shape) and alpha.ndim > 0 and alpha.numel() > 0
    require(right, f"{key}.shape", tuple(alpha.shape), expected)
    positive = bool((alpha > 0).all() & alpha.double().isfinite().all())
    require(positive, key, alpha.tolist(), "positive and finite concentrations")


def _same_number(documents: Tensor, others: Tensor) -> None:
    if len(documents) != len(others):
        raise ConceptError(
            f"{len(documents)} documents and {len(others)} of what each is given: expected one each"
        )
