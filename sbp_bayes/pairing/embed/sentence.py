"""Any model of the sentence-transformers library (Reimers and Gurevych 2019)."""

from pathlib import Path
from typing import Any

import numpy as np

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import PairingError
from sbp_bayes.base.store import folder_fingerprint
from sbp_bayes.corpus import Corpus
from sbp_bayes.lm.config import FORWARD_FLOPS
from sbp_bayes.pairing.embed.batches import windows
from sbp_bayes.pairing.embed.embedder import embedder_fingerprint, layer_weights
from sbp_bayes.pairing.embed.pretrained import device, find_model, imported, loading

KIND = "sentence"


class SentenceEmbedder:
    """The library's own `encode`, normalised, float32 (N, D).

    Args:
        name: a local folder, or a name on the Hugging Face hub.
        max_tokens: read of a text, special tokens included; None: as the model has it.

    Raises:
        ConfigError: `max_tokens` is below 3 or above what the model reads.
        PairingError: there is no such model, its files are damaged, or sentence-transformers is missing.
    """

    fit_flops = 0.0

    def __init__(self, name: str, max_tokens: int | None = None) -> None:
        folder = find_model(KIND, name)
        self._content = folder_fingerprint(folder)
        self._model = _load(folder)
        longest = self._model.max_seq_length
        if max_tokens is not None:
            fits = 3 <= max_tokens <= (longest or max_tokens)
            require(fits, "max_tokens", max_tokens, f"3 to the model's {longest}")
            self._model.max_seq_length = max_tokens
        self.max_tokens = max_tokens or longest

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the model's files, the length it reads, and the kind of device."""
        return embedder_fingerprint(self, self._content, self.max_tokens, self._model.device.type)

    def embed(self, corpus: Corpus) -> np.ndarray:
        """Return unit rows, float32 (N, D)."""
        return self.embed_texts(list(corpus.texts))

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Return unit rows, float32 (N, D), of plain texts."""
        parts = [self._encode([texts[i] for i in window]) for window in windows(len(texts))]
        return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)

    def num_truncated(self, corpus: Corpus) -> int:
        """Return how many documents are longer than `max_tokens`, where the model has such a limit."""
        return sum(length > (self.max_tokens or length) for length in self._lengths(corpus))

    def flops(self, corpus: Corpus) -> float:
        """Return 2·N·T with N the parameters of the layers and T the tokens read."""
        num_tokens = sum(min(length, self.max_tokens or length) for length in self._lengths(corpus))
        return float(FORWARD_FLOPS * layer_weights(self._model) * num_tokens)

    def _encode(self, texts: list[str]) -> np.ndarray:
        vectors = self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)

    def _lengths(self, corpus: Corpus) -> list[int]:
        """Return the tokens of each document before truncation, special ones included."""
        tokenizer, texts = self._model.tokenizer, list(corpus.texts)
        if hasattr(tokenizer, "encode_batch"):  # of static embeddings
            return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]
        return [len(row) for row in tokenizer(texts, verbose=False)["input_ids"]] if texts else []


def _load(folder: Path) -> Any:
    library = imported("sentence_transformers", KIND)
    if not any((folder / name).exists() for name in ("modules.json", "config.json")):
        raise PairingError(f"{folder}: neither modules.json nor config.json, so it holds no model")
    with loading(folder):
        model = library.SentenceTransformer(str(folder), device=device(), local_files_only=True)
    if not (callable(model.tokenizer) or hasattr(model.tokenizer, "encode_batch")):
        raise PairingError(
            f"{folder}: its tokenizer, {type(model.tokenizer).__name__}, does not count tokens"
        )
    return model
