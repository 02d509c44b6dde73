"""Latent semantic analysis: words alone, no outside model."""

import re
from typing import Any, Self

import numpy as np

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import PairingError
from sbp_bayes.corpus import Corpus
from sbp_bayes.corpus.scripts import UNSPACED, unspaced_share
from sbp_bayes.pairing.embed.batches import windows
from sbp_bayes.pairing.embed.embedder import content_fingerprint, embedder_fingerprint, unit_or_zero

FITTED_DOCUMENTS = 50_000
"""Most documents that are fitted on: memory and time grow with them."""
FEWEST_DOCUMENTS, LARGEST_SHARE = 2, 0.5
"""Documents that a word must occur in, and the share of all that it may occur in at most."""

UNSPACED_SHARE = 0.1
"""Of a document's characters: where more are of scripts without spaces, each of these is a word."""

_WORD = re.compile(r"\w\w+")
_WORD_OR_CHARACTER = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]{{2,}}")


class LsaEmbedder:
    """Latent semantic analysis: TF-IDF of words (1 + log counts), projected on its leading singular vectors.

    Deerwester et al. 1990. Fitted on the training documents alone, on 50,000 evenly spaced ones of more, then
    applied to any. A word has two characters or more, or is one character of a document in a script without
    spaces (`corpus.scripts`); words occur in two documents or more, and in at most half of them.

    Args:
        dimension: singular vectors kept; fewer where there are too few documents or words.
        seed: of the Lanczos iteration's first vector; the result depends on it in the last bits only.

    Attributes:
        exponent: power of its singular value by which a direction is stretched.
    """

    exponent = 0.0

    def __init__(self, dimension: int = 256, seed: int = 0) -> None:
        require(dimension >= 1, "dimension", dimension, "at least 1")
        self.dimension = dimension
        self.seed = seed
        self._vectorizer: Any = None
        self._components_DW: np.ndarray | None = None
        self._fitted_on = ""
        self.fit_flops = 0.0

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the settings and the documents that it was fitted on."""
        return embedder_fingerprint(self, self.dimension, self.seed, self._fitted_on)

    def fit(self, corpus: Corpus) -> Self:
        """Learn words, weights and singular vectors from `corpus`, and return the embedder itself.

        Raises:
            PairingError: fewer than three documents, or fewer than three words that they share.
        """
        from sklearn.decomposition import TruncatedSVD
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        self._vectorizer = self._new_vectorizer()
        number = min(len(corpus), FITTED_DOCUMENTS)
        fitted_on = (corpus.texts[i * len(corpus) // number] for i in range(number))
        try:
            weights_NW = self._vectorizer.fit_transform(fitted_on)
        except ValueError as error:
            raise PairingError(f"LSA of {len(corpus)} documents: they share too few words") from error
        rank = min(self.dimension, min(weights_NW.shape) - 1)
        if rank < 2:
            raise PairingError(f"LSA of {len(corpus)} documents: they share too few words")
        # The products are small: a second BLAS thread waits longer than it works.
        with threadpool_limits(1):
            svd = TruncatedSVD(rank, algorithm="arpack", random_state=self.seed % (1 << 32)).fit(weights_NW)
        stretch_D1 = svd.singular_values_[:, None] ** self.exponent
        self._components_DW = (stretch_D1 * svd.components_).astype(np.float32)
        self._fitted_on = content_fingerprint(corpus)
        self.fit_flops = _lanczos_flops(weights_NW.nnz, min(weights_NW.shape), rank)
        return self

    def _new_vectorizer(self) -> Any:
        """Return what turns texts into weights of words, to be fitted."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(
            analyzer=words_of,
            sublinear_tf=True,
            min_df=FEWEST_DOCUMENTS,
            max_df=LARGEST_SHARE,
            dtype=np.float32,
        )

    def embed(self, corpus: Corpus) -> np.ndarray:
        """Return unit rows, float32 (N, D); a zero row for a document without any known word.

        Raises:
            PairingError: the embedder isn't fitted.
        """
        if self._components_DW is None:
            name = type(self).__name__
            raise PairingError(f"{name}.embed before {name}.fit: fit it on the training documents")
        vectors_ND = np.empty((len(corpus), len(self._components_DW)), np.float32)
        for rows in windows(len(corpus)):
            weights_NW = self._vectorizer.transform(corpus.texts[i] for i in rows)
            vectors_ND[rows.start : rows.stop] = unit_or_zero(weights_NW @ self._components_DW.T)
        return vectors_ND

    def flops(self, corpus: Corpus) -> float:
        """Return 2 operations a dimension and token: an upper bound, as a repeated word costs nothing."""
        return 2.0 * self.dimension * corpus.num_tokens

    def num_truncated(self, corpus: Corpus) -> int:
        """Return 0: all words of a document count."""
        return 0


def _lanczos_flops(num_weights: int, num_rows: int, rank: int) -> float:
    """Return the operations of one sweep of ARPACK: further ones, which restarts take, are not counted.

    For each of 2·rank + 1 vectors: a product with the matrix and one with its transpose, and twice the
    projection on the vectors before it.
    """
    vectors = min(num_rows, max(2 * rank + 1, 20))
    return 4.0 * num_weights * vectors + 4.0 * num_rows * vectors**2


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, as `LsaEmbedder` says what a word is."""
    words = _WORD_OR_CHARACTER if unspaced_share(text) > UNSPACED_SHARE else _WORD
    return words.findall(text.lower())
