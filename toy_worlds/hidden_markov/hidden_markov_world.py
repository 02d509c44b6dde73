"""Mixtures of hidden Markov models as worlds: all but where their parameters come from.

Shapes: N documents, T time, C concepts of one chunk, K all concepts, H hidden states, V vocabulary.
"""

import torch
from torch import Tensor

from sbp_bayes.concept.documents import check_documents
from sbp_bayes.concept.finite import FiniteConceptModel
from toy_worlds.hidden_markov.forward import HiddenMarkovModels, beliefs, log_evidence, token_log_evidence
from toy_worlds.world import Parameters


class HiddenMarkovWorld(Parameters, FiniteConceptModel):
    """P(d | c) = Σ_s π_c(s_1) Π_t B_c(d_t | s_t) Π_{t>1} A_c(s_t | s_{t−1}); P(c) = 1 / num_concepts.

    Args:
        models: one for each of K concepts.
        num_concepts: K.
        doc_length: tokens of a sampled document.
    """

    def __init__(self, models: HiddenMarkovModels, num_concepts: int, doc_length: int) -> None:
        super().__init__(torch.zeros(num_concepts), models.emission_CVH.shape[1], doc_length)
        self.models = models

    @property
    def num_states(self) -> int:
        """H, the number of hidden states."""
        return self.models.transition_CHH.shape[1]

    def belief_states(self, d: Tensor, concept: int | None = None) -> Tensor:
        """Return P(s_t | d_≤t, c), or without a concept P(s_t | d_≤t) = Σ_c P(s_t | d_≤t, c) P(c | d_≤t).

        Args:
            d: documents, (N, T).
            concept: c, or none for the Bayes mixture of all.

        Returns:
            (N, T, H), 0 at padding and behind a token of probability 0.
        """
        check_documents(d, self.vocab_size)
        if concept is not None:
            return beliefs(self.models[torch.tensor([concept])], d)[:, :, 0]
        log_weight_NTK = self.token_log_likelihood(d).cumsum(dim=1) + self.log_prior_K
        weight_NTK = (log_weight_NTK - log_weight_NTK.logsumexp(dim=2, keepdim=True)).exp().nan_to_num()
        mixture_NTH = torch.zeros(*d.shape, self.num_states, dtype=torch.float64)
        for c in range(self.num_concepts):
            mixture_NTH += weight_NTK[:, :, c : c + 1] * self.belief_states(d, c)
        return mixture_NTH

    def _log_likelihood(self, d_NT: Tensor, concepts_C: Tensor) -> Tensor:
        return log_evidence(self.models[concepts_C], d_NT).expand(-1, len(concepts_C))

    def _token_log_likelihood(self, d_NT: Tensor, concepts_C: Tensor) -> Tensor:
        return token_log_evidence(self.models[concepts_C], d_NT).expand(-1, -1, len(concepts_C))

    def _bytes_per_concept(self, d_NT: Tensor) -> int:
        return 8 * len(d_NT) * self.num_states

    def _sample(self, c_N: Tensor, generator: torch.Generator) -> Tensor:
        models, every_N = self.models[c_N], torch.arange(len(c_N))
        transition_NHH = models.transition_CHH.expand(len(c_N), -1, -1)
        emission_NVH = models.emission_CVH.expand(len(c_N), -1, -1)
        state_NH, tokens = models.initial_CH.expand(len(c_N), -1), []
        for _ in range(self.doc_length):
            s_N = torch.multinomial(state_NH, 1, generator=generator)[:, 0]
            tokens.append(torch.multinomial(emission_NVH[every_N, :, s_N], 1, generator=generator))
            state_NH = transition_NHH[every_N, s_N]
        return torch.cat(tokens, dim=1)
