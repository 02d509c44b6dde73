"""The forward algorithm for many hidden Markov models and documents at once, scaled, in float64.

Emit from the initial state (Rabiner 1989): s_1 ~ π, d_t ~ B[s_t], s_{t+1} ~ A[s_t]. Probabilities are
scaled, not logarithms: a path that falls 300 orders of magnitude behind the likeliest is lost.

Shapes: C models (1 where all share one), H hidden states, V vocabulary, N documents, T time.
"""

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.concept.documents import PAD, document_lengths

MOST_TOKENS_UNSCALED = 8
"""Tokens between two scalings: more save nothing that can be measured."""
SMALLEST_SCALE = 1e-280
"""A product of probabilities that leaves 10⁻²⁸ of itself above the smallest normal float64."""
BLOCK_BYTES = 2**20
"""Of the states that a pass works on at once, so that they stay in a core's cache."""


@dataclasses.dataclass(frozen=True, eq=False)
class HiddenMarkovModels(ArrayRecord):
    """Parameters of C models; a leading dimension of 1 is shared by all of them.

    Args:
        initial_CH: P(s_1).
        transition_CHH: P(s_{t+1} | s_t), rows sum to 1.
        emission_CVH: P(d_t | s_t), columns sum to 1.
    """

    initial_CH: Tensor
    transition_CHH: Tensor
    emission_CVH: Tensor

    def __len__(self) -> int:
        return max(len(self.initial_CH), len(self.transition_CHH), len(self.emission_CVH))

    def __getitem__(self, concepts_C: Tensor) -> "HiddenMarkovModels":
        """Return the models of `concepts_C`, what they share still shared."""
        return HiddenMarkovModels(
            *(
                table if len(table) == 1 else table[concepts_C]
                for table in (self.initial_CH, self.transition_CHH, self.emission_CVH)
            )
        )

    def tokens_unscaled(self) -> int:
        """Return how many tokens' probabilities multiply without underflow, at least 1."""
        smallest = [table[table > 0].min().log().item() for table in (self.transition_CHH, self.emission_CVH)]
        fall = -sum(smallest) or 1e-9
        room = -math.log(SMALLEST_SCALE) - math.log(self.transition_CHH.shape[1])
        return max(1, min(MOST_TOKENS_UNSCALED, int(room / fall)))


def forward(
    models: HiddenMarkovModels, d_NT: Tensor, every: int
) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
    """Run over documents sorted by length, longest first; scale after each `every` tokens and at each end.

    Yields:
        t, the documents that are scaled behind token t, the logarithm of P(tokens since the last scaling |
        those before), (C, documents), and P(s_t | d_≤t), (C, documents, H), valid until the next step.
    """
    active_T = (d_NT != PAD).sum(dim=0).tolist()
    transition_CHH = models.transition_CHH.expand(len(models), -1, -1)
    state_CNH = models.initial_CH.expand(len(models), -1)[:, None]
    for t, active in enumerate(active_T):
        if t:
            state_CNH = torch.bmm(state_CNH[:, :active], transition_CHH)
        state_CNH = state_CNH * models.emission_CVH[:, d_NT[:active, t]]
        ending = slice(active_T[t + 1] if t + 1 < len(active_T) else 0, active)
        scaled = slice(0, active) if (t + 1) % every == 0 else ending
        if scaled.start < active:
            mass_CN = state_CNH[:, scaled].sum(dim=2)
            state_CNH[:, scaled] /= mass_CN.where(mass_CN > 0, 1.0)[:, :, None]
            yield t, scaled, mass_CN.log(), state_CNH[:, scaled]


def log_evidence(models: HiddenMarkovModels, d_NT: Tensor) -> Tensor:
    """Return log P(d | model), (N, C)."""
    order_N, every = _longest_first(d_NT), models.tokens_unscaled()
    log_evidence_NC = torch.empty(len(d_NT), len(models), dtype=torch.float64)
    for chunk_C in _blocks(models, d_NT):
        total_CN = torch.zeros(len(chunk_C), len(d_NT), dtype=torch.float64)
        for _, scaled, log_mass_CN, _ in forward(models[chunk_C], d_NT[order_N], every):
            total_CN[:, scaled] += log_mass_CN
        log_evidence_NC[order_N[:, None], chunk_C] = total_CN.T
    return log_evidence_NC


def token_log_evidence(models: HiddenMarkovModels, d_NT: Tensor) -> Tensor:
    """Return log P(d_t | d_<t, model), (N, T, C), 0 at padding."""
    order_N = _longest_first(d_NT)
    log_mass_NTC = torch.zeros(*d_NT.shape, len(models), dtype=torch.float64)
    for chunk_C in _blocks(models, d_NT):
        for t, scaled, log_mass_CN, _ in forward(models[chunk_C], d_NT[order_N], every=1):
            log_mass_NTC[order_N[scaled, None], t, chunk_C] = log_mass_CN.T
    return log_mass_NTC


def beliefs(models: HiddenMarkovModels, d_NT: Tensor) -> Tensor:
    """Return P(s_t | d_≤t, model), (N, T, C, H), 0 at padding and behind a token of probability 0."""
    order_N, num_states = _longest_first(d_NT), models.transition_CHH.shape[1]
    belief_NTCH = torch.zeros(*d_NT.shape, len(models), num_states, dtype=torch.float64)
    for t, scaled, _, state_CNH in forward(models, d_NT[order_N], every=1):
        belief_NTCH[order_N[scaled], t] = state_CNH.transpose(0, 1)
    return belief_NTCH


def _longest_first(d_NT: Tensor) -> Tensor:
    return document_lengths(d_NT).argsort(descending=True, stable=True)


def _blocks(models: HiddenMarkovModels, d_NT: Tensor) -> Iterator[Tensor]:
    """Split the models such that their states for all documents are about `BLOCK_BYTES`."""
    size = max(1, BLOCK_BYTES // (8 * max(1, len(d_NT)) * models.transition_CHH.shape[1]))
    return iter(torch.arange(len(models)).split(size))
