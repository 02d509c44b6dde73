"""World tokens and model tokens: a transformer's id of world token t is t + 2, behind EOS and SEP.

Shapes: N documents, T time.
"""

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from sbp_bayes.base.records import EOS, IGNORE
from sbp_bayes.concept.documents import PAD, document_lengths
from sbp_bayes.lm.loss import token_losses
from sbp_bayes.lm.score import TOKENS_PER_BATCH
from sbp_bayes.synthesizer.neural import NeuralSynthesizer
from sbp_bayes.synthesizer.posterior import TokenScores, world_documents
from sbp_bayes.synthesizer.prompt import prompt_tokens
from sbp_bayes.synthesizer.protocol import Documents

NUM_SPECIAL = 2
"""EOS and SEP come before the world's tokens."""


def model_tokens(documents: Documents) -> list[np.ndarray]:
    """Return documents of world tokens as the transformer's ids, int64, without padding."""
    return [d[d != PAD].numpy() + NUM_SPECIAL for d in world_documents(documents)]


def world_tokens(documents: Documents) -> list[Tensor]:
    """Return documents of the transformer's ids as world tokens, int64."""
    return [torch.as_tensor(np.asarray(d), dtype=torch.int64) - NUM_SPECIAL for d in documents]


class WorldTokens:
    """A neural synthesizer that reads, scores and writes world tokens, as exact synthesizers do.

    A world's documents have a fixed length and never end; a neural synthesizer writes an EOS. So that both
    speak of one event, `log_prob` here is of d2's tokens alone, log p_θ(d2 or a longer document that begins
    with it | d1), and the EOS stands apart in `token_log_prob(…).end`. Their sum is the neural
    synthesizer's own `log_prob`. Whatever mass it gives to SEP, or to an EOS too early, it loses.

    Args:
        synthesizer: speaks token ids t + 2.
    """

    def __init__(self, synthesizer: NeuralSynthesizer) -> None:
        self.synthesizer = synthesizer

    def log_prob(self, d2: Documents, given: Documents) -> Float64[Tensor, " N"]:
        """Return log p_θ(d2 | d1) of d2's tokens without an EOS, in nats, float64 (N,)."""
        return self.token_log_prob(d2, given).tokens.sum(dim=1)

    def token_log_prob(self, d2: Documents, given: Documents) -> TokenScores:
        """Return log p_θ(d2_t | d1, d2_<t) at every position, and log p_θ(EOS | d1, d2).

        Raises:
            ConfigError: a pair that the model's context does not hold.
        """
        d2_NT = world_documents(d2)
        lengths_N = document_lengths(d2_NT)
        scored_NT = torch.arange(d2_NT.shape[1] + 1) <= lengths_N[:, None]
        log_prob_NT = torch.zeros(scored_NT.shape, dtype=torch.float64)
        log_prob_NT[scored_NT] = self._log_probs(model_tokens(d2_NT), model_tokens(given))
        ends_NT = torch.arange(d2_NT.shape[1] + 1) == lengths_N[:, None]
        return TokenScores(log_prob_NT.masked_fill(ends_NT, 0.0)[:, :-1], log_prob_NT[ends_NT])

    def sample(self, d1: Documents, generator: torch.Generator) -> list[Tensor]:
        """Draw one d2 ~ p_θ for each d1; shorter than the world's where the model ended it early."""
        return world_tokens(self.synthesizer.sample(model_tokens(d1), generator))

    @torch.no_grad()
    def _log_probs(self, d2: list[np.ndarray], d1: list[np.ndarray]) -> Tensor:
        """Return log p_θ of every token of every d2 and its EOS, end to end, float64."""
        model, limit = self.synthesizer.model, self.synthesizer.max_document_tokens
        prompts = [prompt_tokens(document, limit) for document in d1]
        longest = max((len(p) + len(d) for p, d in zip(prompts, d2, strict=True)), default=1)
        size, log_probs = max(1, TOKENS_PER_BATCH // longest), [torch.zeros(0, dtype=torch.float64)]
        for start in range(0, len(d2), size):
            rows = list(zip(prompts[start : start + size], d2[start : start + size], strict=True))
            inputs = _stack([np.concatenate(row) for row in rows], EOS)
            targets = _stack(
                [np.concatenate([np.full(len(prompt) - 1, IGNORE), d, [EOS]]) for prompt, d in rows], IGNORE
            )
            kept = targets != IGNORE
            nats = token_losses(model.hidden(inputs)[kept], model.logits, targets[kept])
            log_probs.append(-nats.double())
        return torch.cat(log_probs)


def _stack(rows: list[np.ndarray], filler: int) -> Tensor:
    tensors = [torch.from_numpy(row) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=filler)
