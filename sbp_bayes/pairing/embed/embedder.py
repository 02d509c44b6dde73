"""What every embedder is: a map from documents to unit vectors; and what several of them share."""

import hashlib
from typing import Any, Protocol

import numpy as np
import torch

from sbp_bayes.base.code import code_version
from sbp_bayes.base.config import fingerprint
from sbp_bayes.corpus import Corpus


class Embedder(Protocol):
    """A map from documents to vectors whose inner products say how related two documents are.

    Attributes:
        fit_flops: floating-point operations that fitting took; 0 for a model that comes fitted.
    """

    fit_flops: float

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

    def num_truncated(self, corpus: Corpus) -> int:
        """Return how many documents are longer than what is read of them."""
        ...


def embedder_fingerprint(embedder: Embedder, *parts: Any) -> str:
    """Return 16 hexadecimal digits of an embedder's class, the code that computes, and `parts`."""
    return fingerprint(type(embedder).__name__, code_version(type(embedder).__module__), *parts)


def content_fingerprint(corpus: Corpus) -> str:
    """Return 16 hexadecimal digits (SHA-256) of all that an embedder may read: the corpus and its texts."""
    digest = hashlib.sha256(corpus.fingerprint.encode())
    for text in corpus.texts:
        digest.update(len(text).to_bytes(8, "little") + text.encode())
    return digest.hexdigest()[:16]


def weights_fingerprint(model: torch.nn.Module) -> str:
    """Return 16 hexadecimal digits (SHA-256) of a model's parameters and their names."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def layer_weights(model: torch.nn.Module) -> int:
    """Return how many parameters multiply: all but those of the tables that tokens are looked up in."""
    tables = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    looked_up = {id(p) for table in tables for p in table.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in looked_up)


def unit_or_zero(vectors_ND: np.ndarray) -> np.ndarray:
    """Return the rows divided by their norms, float32 (N, D); a zero row stays."""
    norms = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return (vectors_ND / np.where(norms > 0, norms, 1.0)).astype(np.float32)
