"""Qwen3-Embedding (Zhang et al. 2025, arXiv 2506.05176) through transformers.

A causal language model reads the text and one token more, which ends it; that token's last state, made a
unit vector, is the embedding. Documents are embedded without an instruction, as the model's card has it.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import PairingError
from sbp_bayes.base.store import folder_fingerprint, read_json
from sbp_bayes.corpus import Corpus
from sbp_bayes.lm.config import FORWARD_FLOPS
from sbp_bayes.pairing.embed.batches import embed_in_batches
from sbp_bayes.pairing.embed.embedder import embedder_fingerprint, layer_weights
from sbp_bayes.pairing.embed.pretrained import device, find_model, imported, loading

KIND = "qwen3"
DEFAULT_MODEL = "Qwen/Qwen3-Embedding-0.6B"
END = 151643
"""Token appended to each text: <|endoftext|> of Qwen's tokenizer."""

MAX_TOKENS = 8192
"""Tokens read of a text by default, the appended one included."""


class Qwen3Embedder:
    """The last token's final hidden state of a Qwen3 model, float32 (N, its width).

    Args:
        name: a local folder, or a name on the Hugging Face hub.
        max_tokens: read of a text, the appended one included; a longer text is cut before it.

    Raises:
        ConfigError: `max_tokens` is below 2 or above what the model reads.
        PairingError: there is no such model, it is not a Qwen3, its vocabulary lacks the appended token, its
            files are damaged, or transformers is missing.
    """

    fit_flops = 0.0

    def __init__(self, name: str = DEFAULT_MODEL, max_tokens: int | None = None) -> None:
        folder = find_model(KIND, name)
        longest = _check(folder)
        self.max_tokens = min(MAX_TOKENS, longest) if max_tokens is None else max_tokens
        require(2 <= self.max_tokens <= longest, "max_tokens", max_tokens, f"2 to the model's {longest}")
        self._content = folder_fingerprint(folder)
        transformers = imported("transformers", KIND)
        with loading(folder):
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model, report = transformers.AutoModel.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
        if report["missing_keys"]:
            raise PairingError(f"{folder}: the weights lack {sorted(report['missing_keys'])[0]}")
        self._model = self._model.eval().to(device())

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the model's files, the length it reads, and the kind of device."""
        return embedder_fingerprint(self, self._content, self.max_tokens, END, self._model.device.type)

    def embed(self, corpus: Corpus) -> np.ndarray:
        """Return unit rows, float32 (N, width)."""
        return self.embed_texts(list(corpus.texts))

    @torch.inference_mode()
    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Return unit rows, float32 (N, width), of plain texts."""
        return embed_in_batches(self.token_ids(texts), self._model.config.hidden_size, self._forward)

    def num_truncated(self, corpus: Corpus) -> int:
        """Return how many documents are longer than `max_tokens` with the appended token."""
        return sum(len(row) >= self.max_tokens for row in self._encoded(list(corpus.texts)))

    def flops(self, corpus: Corpus) -> float:
        """Return 2·N·T with N the parameters of the layers and T the tokens read."""
        num_tokens = sum(len(row) for row in self.token_ids(list(corpus.texts)))
        return float(FORWARD_FLOPS * layer_weights(self._model) * num_tokens)

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """Return what is read of each text: its first tokens, and 151643."""
        return [[*row[: self.max_tokens - 1], END] for row in self._encoded(texts)]

    def _encoded(self, texts: list[str]) -> list[list[int]]:
        # Without the tokenizer's own template, which appends the token too, and also where it cuts.
        return self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []

    def _forward(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Return the unit last states, (B, D). Attention is causal: padding changes nothing before it."""
        ids_BT = ids_BT.to(self._model.device)
        states_BTD = self._model(input_ids=ids_BT, use_cache=False).last_hidden_state
        return functional.normalize(states_BTD[torch.arange(len(ids_BT)), lengths_B - 1], dim=1)


def _check(folder: Path) -> int:
    """Return how many positions the model in `folder` has."""
    if not (folder / "config.json").exists():
        raise PairingError(f"{folder}: no config.json, so it holds no model of transformers")
    config = read_json(folder / "config.json")
    found = config.get("model_type") if isinstance(config, dict) else None
    if found != "qwen3":
        raise PairingError(f"{folder}: the model's type is {found!r}, and the qwen3 embedder needs 'qwen3'")
    vocab_size = config.get("vocab_size", 0)
    if vocab_size <= END:
        raise PairingError(f"{folder}: its {vocab_size} token ids lack {END}, which ends each text")
    return int(config.get("max_position_embeddings", MAX_TOKENS))
