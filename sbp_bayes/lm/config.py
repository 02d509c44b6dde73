"""The shape of a transformer, and named presets of it."""

import dataclasses
from collections.abc import Mapping

from sbp_bayes.base.config import require


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
        """Floating-point operations of training on one token, by the 6N convention.

        N counts every parameter that multiplies activations, the output head included; the input
        embedding is a lookup and counts only where it is also the head. The attention's own
        products, which grow with context length, are left out.
        """
        lookup = 0 if self.tied_embeddings else self.vocab_size * self.width
        return 6 * (self.num_parameters - lookup)


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
    "laptop": LMConfig(
        vocab_size=4096,
        context_length=512,
        width=128,
        num_layers=4,
        num_heads=4,
        num_kv_heads=1,
        head_width=32,
        hidden_width=384,
    ),
}
"""Shapes by name; `vocab_size` is replaced by the tokenizer's where they differ."""
