"""Small concept models, a goodness of fit, and a model that hides everything but the protocol."""

import itertools

import scipy.stats
import torch
from torch import Tensor

from sbp_bayes.concept import PAD, DirichletCategorical, DirichletMarkov, ExactModel, FiniteConceptModel

FALSE_ALARM = 2e-5


class Unigrams(FiniteConceptModel):
    """Concept k draws each token from `probs_KV[k]`."""

    def __init__(self, probs_KV: Tensor, doc_length: int, prior_K: Tensor | None = None) -> None:
        prior_K = torch.ones(len(probs_KV), dtype=torch.float64) if prior_K is None else prior_K
        super().__init__(prior_K.log(), probs_KV.shape[1], doc_length)
        probs_KV = probs_KV.double()
        self.probs_KV = probs_KV / probs_KV.sum(dim=1, keepdim=True)

    def _sample(self, c_N: Tensor, generator: torch.Generator) -> Tensor:
        return torch.multinomial(self.probs_KV[c_N], self.doc_length, replacement=True, generator=generator)

    def _token_log_likelihood(self, d_NT: Tensor, concepts_C: Tensor) -> Tensor:
        log_probs_VC = self.probs_KV[concepts_C].log().T
        return torch.where((d_NT != PAD)[..., None], log_probs_VC[d_NT.clamp(min=0)], 0.0)


class Opaque:
    """An exact model's methods, and nothing that would give its kind away."""

    def __init__(self, model: ExactModel) -> None:
        self.vocab_size, self.doc_length = model.vocab_size, model.doc_length
        self.sample_concept, self.sample = model.sample_concept, model.sample
        self.log_prob_given, self.log_prob, self.log_prob_pair = (
            model.log_prob_given,
            model.log_prob,
            model.log_prob_pair,
        )
        self.next_token_log_probs, self.sample_posterior = model.next_token_log_probs, model.sample_posterior


def unigrams(doc_length: int = 3) -> Unigrams:
    """Three concepts over three tokens, one of them without the last token."""
    probs_KV = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.5, 0.0]], dtype=torch.float64)
    return Unigrams(probs_KV, doc_length, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))


def categorical(doc_length: int = 3) -> DirichletCategorical:
    """Three tokens of unequal concentrations."""
    return DirichletCategorical(torch.tensor([0.5, 2.0, 1.25], dtype=torch.float64), doc_length)


def markov(doc_length: int = 3) -> DirichletMarkov:
    """Three tokens, every row's concentrations its own."""
    alpha_VV = torch.tensor([[0.3, 1.0, 2.0], [0.7, 0.6, 0.5], [4.0, 0.2, 1.5]], dtype=torch.float64)
    return DirichletMarkov(torch.tensor([1.5, 0.5, 0.25], dtype=torch.float64), alpha_VV, doc_length)


MODELS = {"unigrams": unigrams, "categorical": categorical, "markov": markov}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def all_documents(vocab_size: int, doc_length: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(vocab_size), repeat=doc_length))).long()


def all_pairs(d: Tensor) -> tuple[Tensor, Tensor]:
    return d.repeat_interleave(len(d), dim=0), d.repeat(len(d), 1)


def goodness_of_fit(sampled_N: Tensor, probs_X: Tensor) -> float:
    """Return the p-value of Pearson's test that outcomes 0 … X − 1 have these probabilities.

    Outcomes expected fewer than 5 times are counted together; 0 if an impossible one was drawn.
    """
    counts_X = torch.bincount(sampled_N, minlength=len(probs_X)).double()
    expected_X = probs_X.double() * len(sampled_N)
    if counts_X[probs_X == 0].any():
        return 0.0
    rare = expected_X < 5
    counts = torch.cat([counts_X[~rare], counts_X[rare].sum()[None]])
    expected = torch.cat([expected_X[~rare], expected_X[rare].sum()[None]])
    kept = expected > 0
    return float(scipy.stats.chisquare(counts[kept], expected[kept], sum_check=False).pvalue)


def document_index(d: Tensor, vocab_size: int) -> Tensor:
    """Return each document's row in `all_documents`."""
    return (d * vocab_size ** torch.arange(d.shape[1] - 1, -1, -1)).sum(dim=1)
