"""The shape of a transformer, and named presets of it."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import torch

FORWARD_FLOPS = 2
"""Floating-point operations per weight and token of a forward pass: a product and a sum."""

TRAINING_FLOPS = 3 * FORWARD_FLOPS
"""The same of a training step: the backward pass takes twice the forward pass."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3.1's stretching of rotary wavelengths, for a context longer than the one trained first.

    A wavelength that turns more than `high_freq_factor` times within `original_context_length` stays,
    one that turns less than `low_freq_factor` times is multiplied by `factor`, and frequencies in
    between are mixed in proportion (arXiv 2407.21783, section 3.4.2; defaults as published with it).

    Raises:
        ConfigError: a value out of its range; the message names the key.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 8192

    def __post_init__(self) -> None:
        require(self.factor >= 1, "factor", self.factor, "at least 1")
        require(self.low_freq_factor > 0, "low_freq_factor", self.low_freq_factor, "a positive number")
        above = self.high_freq_factor > self.low_freq_factor
        require(above, "high_freq_factor", self.high_freq_factor, f"above {self.low_freq_factor}")
        length = self.original_context_length
        require(length > 0, "original_context_length", length, "a positive number")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LMConfig:
    """The shape of a decoder-only transformer.

    Attributes:
        vocab_size: number of token ids, the two special tokens included.
        context_length: longest row of tokens the model reads.
        width: size of the residual stream.
        num_layers: number of blocks, each of attention and feed-forward.
        num_heads: query heads of a layer.
        num_kv_heads: key and value heads of a layer; divides `num_heads`.
        head_width: size of one head; even, since rotary positions turn pairs of coordinates.
        hidden_width: inner size of the feed-forward network.
        rope_theta: base of the rotary wavelengths.
        rope_scaling: how they are stretched; None leaves them.
        tied_embeddings: whether the output head is the embedding matrix.
        norm_eps: added to the mean square inside every RMS norm.

    Raises:
        ConfigError: a value out of its range; the message names the key.
    """

    vocab_size: int
    context_length: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    hidden_width: int
    rope_theta: float = 10_000.0
    tied_embeddings: bool = True
    norm_eps: float = 1e-6
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        require(self.vocab_size > 2, "vocab_size", self.vocab_size, "more than the 2 special tokens")
        for key in ("context_length", "width", "num_layers", "num_heads", "num_kv_heads", "hidden_width"):
            require(getattr(self, key) > 0, key, getattr(self, key), "a positive number")
        even = self.head_width > 0 and self.head_width % 2 == 0
        require(even, "head_width", self.head_width, "a positive even number")
        divides = self.num_heads % self.num_kv_heads == 0
        require(divides, "num_kv_heads", self.num_kv_heads, f"a divisor of num_heads = {self.num_heads}")
        require(self.rope_theta > 1, "rope_theta", self.rope_theta, "more than 1")
        require(self.norm_eps > 0, "norm_eps", self.norm_eps, "a positive number")

    @property
    def num_parameters(self) -> int:
        """Number of trained parameters, a tied embedding counted once."""
        heads = self.num_heads + self.num_kv_heads
        attention = 2 * self.width * heads * self.head_width + 2 * self.head_width
        feed_forward = 3 * self.width * self.hidden_width
        per_layer = attention + feed_forward + 2 * self.width
        matrices = 1 if self.tied_embeddings else 2
        return self.num_layers * per_layer + self.width + matrices * self.vocab_size * self.width

    @property
    def flops_per_token(self) -> int:
        """Floating-point operations of training on one token: 6·N, N as in `forward_flops_per_token`."""
        return TRAINING_FLOPS // FORWARD_FLOPS * self.forward_flops_per_token

    @property
    def forward_flops_per_token(self) -> int:
        """Floating-point operations of reading or writing one token without gradients: 2·N.

        N counts every parameter that multiplies activations, the output head included; the input
        embedding is a lookup and counts only where it is also the head. The attention's own
        products, which grow with context length, are left out.
        """
        lookup = 0 if self.tied_embeddings else self.vocab_size * self.width
        return FORWARD_FLOPS * (self.num_parameters - lookup)

    def require_known(self, tokens: "np.ndarray | torch.Tensor", what: str) -> None:
        """Raise a `ConfigError` that names `what` and its token, if there is one outside the vocabulary."""
        if len(tokens):
            for token in (int(tokens.min()), int(tokens.max())):
                if not 0 <= token < self.vocab_size:
                    raise ConfigError(f"{what} has token {token}, but vocab_size = {self.vocab_size}")


def _large(**shape: Any) -> LMConfig:
    """A shape for text at DCLM's scale: Llama 3's vocabulary, rotary base and grouping of heads."""
    return LMConfig(vocab_size=128_256, context_length=4096, num_kv_heads=8, rope_theta=500_000.0, **shape)


PRESETS: Mapping[str, LMConfig] = {
    "smoke": LMConfig(
        vocab_size=512,
        context_length=64,
        width=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_width=16,
        hidden_width=96,
    ),
    "demo": LMConfig(
        vocab_size=2048,
        context_length=256,
        width=64,
        num_layers=3,
        num_heads=2,
        num_kv_heads=1,
        head_width=32,
        hidden_width=192,
    ),
    "6m": LMConfig(
        vocab_size=4096,
        context_length=512,
        width=256,
        num_layers=6,
        num_heads=4,
        num_kv_heads=1,
        head_width=64,
        hidden_width=768,
    ),
    "toy": LMConfig(
        vocab_size=66,
        context_length=128,
        width=64,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_width=32,
        hidden_width=192,
    ),
    "300m": _large(width=1024, num_layers=16, num_heads=16, head_width=64, hidden_width=2432),
    "1b": _large(width=2048, num_layers=16, num_heads=16, head_width=128, hidden_width=5376),
    "3b": _large(width=3072, num_layers=26, num_heads=24, head_width=128, hidden_width=8192),
    "6b": _large(
        width=4096, num_layers=28, num_heads=32, head_width=128, hidden_width=11_008, tied_embeddings=False
    ),
}
"""Shapes by name; `vocab_size` is replaced by the tokenizer's where they differ."""
