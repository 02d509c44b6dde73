"""Embeddings of documents as unit vectors: the protocol, and two embedders that need no outside model."""

import hashlib
from typing import Any, Protocol

import numpy as np
import torch

from sbp_bayes.base.config import fingerprint, require
from sbp_bayes.base.errors import PairingError
from sbp_bayes.base.records import EOS
from sbp_bayes.corpus import Corpus
from sbp_bayes.lm import Transformer

POSITIONS_TOGETHER = 2048


class Embedder(Protocol):
    """A map from documents to vectors whose inner products say how related two documents are."""

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name the map: equal ones give equal vectors."""
        ...

    def embed(self, corpus: Corpus) -> np.ndarray:
        """Return unit rows, float32 (N, D); a zero row for a document that it can say nothing of."""
        ...

    def flops(self, corpus: Corpus) -> float:
        """Return the floating-point operations that `embed(corpus)` takes, 2 a weight and token."""
        ...


class LsaEmbedder:
    """Latent semantic analysis: TF-IDF of words (1 + log counts), projected on its leading singular vectors.

    Deerwester et al. 1990. Fitted on the training documents alone, then applied to any. Words occur in two
    documents or more, and in at most half of them.

    Args:
        dimension: singular vectors kept; fewer where there are too few documents or words.
        seed: of the Lanczos iteration's first vector; the result depends on it in the last bits only.
    """

    def __init__(self, dimension: int = 256, seed: int = 0) -> None:
        require(dimension >= 1, "dimension", dimension, "at least 1")
        self.dimension = dimension
        self.seed = seed
        self._vectorizer: Any = None
        self._components_DW: np.ndarray | None = None
        self._fitted_on = ""

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the settings and the documents that it was fitted on."""
        return fingerprint("LsaEmbedder", self.dimension, self.seed, self._fitted_on)

    def fit(self, corpus: Corpus) -> "LsaEmbedder":
        """Learn words, weights and singular vectors from `corpus`, and return the embedder itself.

        Raises:
            PairingError: fewer than three documents, or fewer than three words that they share.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        self._vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, max_df=0.5, dtype=np.float32)
        try:
            weights_NW = self._vectorizer.fit_transform(corpus.texts)
        except ValueError as error:
            raise PairingError(f"LSA of {len(corpus)} documents: they share too few words") from error
        rank = min(self.dimension, min(weights_NW.shape) - 1)
        if rank < 2:
            raise PairingError(f"LSA of {len(corpus)} documents: they share too few words")
        # The products are small: a second BLAS thread waits longer than it works.
        with threadpool_limits(1):
            svd = TruncatedSVD(rank, algorithm="arpack", random_state=self.seed % (1 << 32)).fit(weights_NW)
        self._components_DW = svd.components_.astype(np.float32)
        self._fitted_on = corpus.fingerprint
        return self

    def embed(self, corpus: Corpus) -> np.ndarray:
        """Return unit rows, float32 (N, D); a zero row for a document without any known word.

        Raises:
            PairingError: the embedder isn't fitted.
        """
        if self._components_DW is None:
            raise PairingError("LsaEmbedder.embed before LsaEmbedder.fit: fit it on the training documents")
        weights_NW = self._vectorizer.transform(corpus.texts)
        return _normalised(weights_NW @ self._components_DW.T)

    def flops(self, corpus: Corpus) -> float:
        """Return 2 operations a dimension and token: an upper bound, as a repeated word costs nothing."""
        return 2.0 * self.dimension * corpus.num_tokens


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

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the weights and the documents that it was fitted on."""
        return fingerprint("SelfEmbedder", weights_fingerprint(self.model), self._fitted_on)

    def fit(self, corpus: Corpus) -> "SelfEmbedder":
        """Learn the mean over `corpus`, and return the embedder itself."""
        self._centre_D = self._mean_states(corpus).mean(axis=0)
        self._fitted_on = corpus.fingerprint
        return self

    def embed(self, corpus: Corpus) -> np.ndarray:
        """Return unit rows, float32 (N, width).

        Raises:
            PairingError: the embedder isn't fitted.
        """
        if self._centre_D is None:
            raise PairingError("SelfEmbedder.embed before SelfEmbedder.fit: fit it on the training documents")
        return _normalised(self._mean_states(corpus) - self._centre_D)

    def flops(self, corpus: Corpus) -> float:
        """Return 2·N·T: parameters that multiply times positions read."""
        positions = np.minimum(corpus.lengths + 1, self.model.config.context_length).sum()
        return self.model.config.flops_per_token / 3 * float(positions)

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


def batches_by_length(lengths: np.ndarray) -> list[np.ndarray]:
    """Return all row numbers in groups of like length, at most 2,048 padded positions (or one row) each.

    Args:
        lengths: positions of each row, int64 (N,).
    """
    order = np.argsort(-lengths, kind="stable")
    groups, start = [], 0
    while start < len(order):
        stop = start + max(1, POSITIONS_TOGETHER // int(lengths[order[start]]))
        groups.append(order[start:stop])
        start = stop
    return groups


def weights_fingerprint(model: torch.nn.Module) -> str:
    """Return 16 hexadecimal digits (SHA-256) of a model's parameters and their names."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _normalised(vectors_ND: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return (vectors_ND / np.where(norms > 0, norms, 1.0)).astype(np.float32)
