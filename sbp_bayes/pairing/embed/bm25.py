"""Latent semantic analysis of BM25 weights."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from sbp_bayes.pairing.embed.lsa import FEWEST_DOCUMENTS, LARGEST_SHARE, LsaEmbedder, words_of

K1, B = 1.2, 0.75
"""Saturation of a word's count, and how much a document's length discounts it: Robertson and Zaragoza's."""


class Bm25Embedder(LsaEmbedder):
    """As `LsaEmbedder`, with the weights of BM25 in place of TF-IDF's (Robertson and Zaragoza 2009).

    A word of count c in a document of L words weighs

        log(1 + (N − n + 1/2) / (n + 1/2)) · c · (k₁ + 1) / (c + k₁ · (1 − b + b · L / mean L)),

    where n of the N documents that are fitted on have the word; a document's weights are then scaled to unit
    length. A count saturates sooner than in 1 + log c, the sooner the shorter the document. Each direction is
    stretched by the square root of its singular value (Caron 2001): the leading ones, which many documents
    share, count for more, so that too large a dimension costs less.
    """

    exponent = 0.5

    def _new_vectorizer(self) -> Any:
        return _Bm25Vectorizer()


class _Bm25Vectorizer:
    """Texts to unit rows of weights, with the methods of scikit-learn's vectorizers."""

    def fit_transform(self, texts: Iterable[str]) -> Any:
        """Learn words, their rarity and the mean length; return the texts' weights, sparse float32 (N, W)."""
        from sklearn.feature_extraction.text import CountVectorizer

        self._counter = CountVectorizer(analyzer=words_of, min_df=FEWEST_DOCUMENTS, max_df=LARGEST_SHARE)
        counts_NW = self._counter.fit_transform(texts)
        num_documents, documents_with_W = counts_NW.shape[0], counts_NW.getnnz(axis=0)
        self._rarity_W = np.log1p((num_documents - documents_with_W + 0.5) / (documents_with_W + 0.5))
        self._mean_length = counts_NW.sum() / num_documents
        return self._weights(counts_NW)

    def transform(self, texts: Iterable[str]) -> Any:
        """Return the texts' weights, sparse float32 (N, W)."""
        return self._weights(self._counter.transform(texts))

    def _weights(self, counts_NW: Any) -> Any:
        from sklearn.preprocessing import normalize

        lengths_N = np.asarray(counts_NW.sum(axis=1)).ravel()
        discount_N = K1 * (1 - B + B * lengths_N / self._mean_length)
        weights_NW = counts_NW.astype(np.float64)
        discount = np.repeat(discount_N, np.diff(weights_NW.indptr))
        weights_NW.data *= (K1 + 1) / (weights_NW.data + discount) * self._rarity_W[weights_NW.indices]
        return normalize(weights_NW, copy=False).astype(np.float32)
