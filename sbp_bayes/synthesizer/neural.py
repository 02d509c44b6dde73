"""The neural synthesizer: a transformer tuned on pairs."""

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.lm import Transformer, generate, score_rows
from sbp_bayes.synthesizer.prompt import prompt_tokens
from sbp_bayes.synthesizer.protocol import Documents
from sbp_bayes.synthesizer.rows import pair_positions, row_length_of

LARGEST_SEED = (1 << 63) - 1


class NeuralSynthesizer:
    """p_θ(d2 | d1) by a transformer that reads EOS d1 SEP and writes d2 EOS.

    Args:
        model: tuned by `tune`; its context holds two documents.
        max_document_tokens: as in tuning; by default the most that the model's context holds. A longer d1
            is cut to it.

    Raises:
        ConfigError: the model's context is too short for two documents of that length.
    """

    def __init__(self, model: Transformer, max_document_tokens: int | None = None) -> None:
        most = (model.config.context_length - row_length_of(0)) // 2
        self.model = model
        self.max_document_tokens = most if max_document_tokens is None else max_document_tokens
        fits = 1 <= self.max_document_tokens <= most
        require(fits, "max_document_tokens", self.max_document_tokens, f"1 to {most}")

    def log_prob(self, d2: Documents, given: Documents) -> Float64[Tensor, " N"]:
        """Return log p_θ(d2 | d1) in nats, d2's EOS included, float64 (batch,); `given` is d1.

        Raises:
            CorpusError: a d2 longer than `max_document_tokens`, which p_θ gives no probability.
        """
        assert len(d2) == len(given)
        rows = []
        for index, (first, second) in enumerate(zip(given, d2, strict=True)):
            if len(second) > self.max_document_tokens:
                raise CorpusError(
                    f"d2 {index} has {len(second)} tokens: expected at most {self.max_document_tokens}"
                )
            inputs, targets = pair_positions(self._cut(first), np.asarray(second), ends=True)
            rows.append((inputs, targets, np.zeros(len(inputs), np.int64)))
        return -torch.from_numpy(score_rows(self.model, rows)[0])

    def sample(self, d1: Documents, generator: torch.Generator) -> list[Tensor]:
        """Draw one d2 ~ p_θ(· | d1) for each d1, int64 token ids of at most `max_document_tokens`.

        Each draw has a random stream of its own, seeded by `generator`. A document that doesn't end
        within the limit is cut there.
        """
        seeds = torch.randint(LARGEST_SEED, (len(d1),), generator=generator).tolist()
        prompts = [prompt_tokens(np.asarray(document), self.max_document_tokens) for document in d1]
        drawn = generate(self.model, prompts, max_new_tokens=self.max_document_tokens, stream_seeds=seeds)
        return [torch.from_numpy(sample.tokens) for sample in drawn]

    def _cut(self, document: np.ndarray | Tensor) -> np.ndarray:
        return np.asarray(document)[: self.max_document_tokens]
