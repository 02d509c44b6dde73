"""Mean hidden states of our own language model."""

import numpy as np
import torch

from sbp_bayes.base.errors import PairingError
from sbp_bayes.base.records import EOS
from sbp_bayes.corpus import Corpus
from sbp_bayes.lm import Transformer
from sbp_bayes.lm.config import FORWARD_FLOPS
from sbp_bayes.pairing.embed.batches import batches_by_length
from sbp_bayes.pairing.embed.embedder import embedder_fingerprint, unit_or_zero, weights_fingerprint


class SelfEmbedder:
    """The mean final hidden state of our own language model, so that no outside model is needed.

    A mean hidden state lies close to the mean over all documents; that mean, fitted on the training
    documents, is taken away, or all similarities would be near 1.

    Args:
        model: reads each document's first `context_length` positions, EOS the first of them.
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self._centre_D: np.ndarray | None = None
        self._fitted_on = ""
        self.fit_flops = 0.0

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the weights and the documents that it was fitted on."""
        weights = weights_fingerprint(self.model)
        return embedder_fingerprint(self, weights, self._fitted_on)

    def fit(self, corpus: Corpus) -> "SelfEmbedder":
        """Learn the mean over `corpus`, and return the embedder itself."""
        self._centre_D = self._mean_states(corpus).mean(axis=0)
        self._fitted_on = corpus.fingerprint
        self.fit_flops = self.flops(corpus)
        return self

    def embed(self, corpus: Corpus) -> np.ndarray:
        """Return unit rows, float32 (N, width).

        Raises:
            PairingError: the embedder isn't fitted.
        """
        if self._centre_D is None:
            raise PairingError("SelfEmbedder.embed before SelfEmbedder.fit: fit it on the training documents")
        return unit_or_zero(self._mean_states(corpus) - self._centre_D)

    def flops(self, corpus: Corpus) -> float:
        """Return 2·N·T with N the parameters of the layers, without the output head, and T positions."""
        config = self.model.config
        positions = np.minimum(corpus.lengths + 1, config.context_length).sum()
        layers = config.forward_flops_per_token - FORWARD_FLOPS * config.vocab_size * config.width
        return layers * float(positions)

    def num_truncated(self, corpus: Corpus) -> int:
        """Return how many documents, with EOS before them, are longer than the model's context."""
        return int((corpus.lengths + 1 > self.model.config.context_length).sum())

    @torch.inference_mode()
    def _mean_states(self, corpus: Corpus) -> np.ndarray:
        lengths = np.minimum(corpus.lengths + 1, self.model.config.context_length)
        means_ND = np.zeros((len(corpus), self.model.config.width), np.float64)
        for rows in batches_by_length(lengths):
            inputs_BT = np.full((len(rows), lengths[rows].max()), EOS)
            for row, index in enumerate(rows):
                inputs_BT[row, 1 : lengths[index]] = corpus.document(index)[: lengths[index] - 1]
            # Attention is causal, so padding at the end changes nothing before it.
            states_BTD = self.model.hidden(torch.from_numpy(inputs_BT)).double().numpy()
            for row, index in enumerate(rows):
                means_ND[index] = states_BTD[row, : lengths[index]].mean(axis=0)
        return means_ND
