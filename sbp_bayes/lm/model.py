"""A decoder-only transformer: pre-RMSNorm, QK-norm, RoPE, grouped-query attention, SwiGLU, no biases.

The Llama 3 architecture with QK-norm that the paper trains (arXiv 2509.15248, section 4).

Shapes: B rows, T time, D width, H query heads, G key-value heads, E head width, F hidden width,
V vocabulary, N = B·T positions.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.records import IGNORE, Batch
from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.lm.attention import Backend, attention
from sbp_bayes.lm.config import LMConfig
from sbp_bayes.lm.layers import (
    linear,
    norm_and_rotate,
    norm_linear,
    rms_norm,
    rotary_frequencies,
    rotary_table,
    swiglu_linear,
)
from sbp_bayes.lm.loss import linear_cross_entropy, regularised_cross_entropy
from sbp_bayes.lm.masks import CausalMask


class Dropout:
    """Sets a share `rate` of what it is given to 0, by random numbers of its own."""

    def __init__(self, rate: float, seed: int, device: torch.device) -> None:
        self.rate = rate
        self.generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, x: Tensor) -> Tensor:
        """Return x, thinned and scaled."""
        kept = torch.empty_like(x).bernoulli_(1 - self.rate, generator=self.generator)
        return x * kept.div_(1 - self.rate)


class Block(nn.Module):
    """One layer: x + attention(norm(x)), then x + feed_forward(norm(x))."""

    noise: "Dropout | None" = None

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        width, head = config.width, config.head_width
        self.config = config
        self.matmul_dtype: torch.dtype | None = None
        self.attention_backend: Backend = "auto"
        self.attention_norm = nn.Parameter(torch.ones(width))
        self.qkv = nn.Parameter(torch.empty((config.num_heads + 2 * config.num_kv_heads) * head, width))
        self.q_norm = nn.Parameter(torch.ones(head))
        self.k_norm = nn.Parameter(torch.ones(head))
        self.attention_out = nn.Parameter(torch.empty(width, config.num_heads * head))
        self.feed_forward_norm = nn.Parameter(torch.ones(width))
        self.gate_up = nn.Parameter(torch.empty(2 * config.hidden_width, width))
        self.down = nn.Parameter(torch.empty(width, config.hidden_width))

    def forward(self, x_BTD: Tensor, turns: Tensor, mask: CausalMask) -> Tensor:
        """Return the residual stream after this layer."""
        q_BHTE, k_BGTE, v_BGTE = self.project(x_BTD, turns)
        mixed_BHTE = attention(q_BHTE, k_BGTE, v_BGTE, mask, self.attention_backend)
        return self.combine(x_BTD, mixed_BHTE.transpose(1, 2))

    def project(self, x_BTD: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, H, T, E), keys and values (B, G, T, E), queries and keys at their positions.

        Args:
            x_BTD: the residual stream.
            turns: `Transformer.turns` of the positions, (T, H + G, E/2) or (B, T, H + G, E/2).
        """
        heads, kv_heads, eps = self.config.num_heads, self.config.num_kv_heads, self.config.norm_eps
        qk, v = (
            self.read(x_BTD)
            .unflatten(-1, (-1, self.config.head_width))
            .split([heads + kv_heads, kv_heads], dim=2)
        )
        gain_JE = torch.cat((self.q_norm.expand(heads, -1), self.k_norm.expand(kv_heads, -1)))
        q, k = norm_and_rotate(qk, gain_JE, turns, eps).split([heads, kv_heads], dim=2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def combine(self, x_BTD: Tensor, mixed_BTHE: Tensor) -> Tensor:
        """Add the attention's output and the feed-forward network's to the residual stream."""
        x_BTD = x_BTD + self.thinned(self.write(mixed_BTHE.flatten(2)))
        return x_BTD + self.thinned(self.feed_forward(x_BTD))

    def thinned(self, added_BTD: Tensor) -> Tensor:
        """Apply dropout to what is added to the residual stream; in training alone."""
        return added_BTD if self.noise is None or not self.training else self.noise(added_BTD)

    def read(self, x_BTD: Tensor) -> Tensor:
        """Return queries, keys and values side by side, (B, T, (H + 2G)·E)."""
        return norm_linear(x_BTD, self.attention_norm, self.qkv, self.config.norm_eps, self.matmul_dtype)

    def write(self, mixed_BTF: Tensor) -> Tensor:
        """Return what attention adds to the residual stream, of all its heads' output side by side."""
        return linear(mixed_BTF, self.attention_out, self.matmul_dtype)

    def feed_forward(self, x_BTD: Tensor) -> Tensor:
        """Return what the feed-forward network adds to the residual stream."""
        eps, dtype = self.config.norm_eps, self.matmul_dtype
        return swiglu_linear(
            norm_linear(x_BTD, self.feed_forward_norm, self.gate_up, eps, dtype), self.down, dtype
        )


class Transformer(nn.Module):
    """log P(next token | earlier tokens of its segment), for every position.

    Args:
        config: the shape.
        seed: every parameter is drawn from (seed, its name); the global generator is not touched. None
            leaves the matrices undrawn, for weights that are loaded and for the meta device.
    """

    noise: "Dropout | None" = None

    def __init__(self, config: LMConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        self.matmul_dtype: torch.dtype | None = None
        self.attention_backend: Backend = "auto"
        table_VD = torch.empty(config.vocab_size, config.width)
        self.embedding = nn.Embedding.from_pretrained(table_VD, freeze=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.final_norm = nn.Parameter(torch.ones(config.width))
        if not config.tied_embeddings:
            self.output_head = nn.Parameter(torch.empty_like(table_VD))
        frequencies = rotary_frequencies(config.head_width, config.rope_theta, config.rope_scaling)
        table = rotary_table(config.context_length, frequencies)
        self.register_buffer("rotary", torch.view_as_real(table), persistent=False)
        if seed is not None:
            self._draw_parameters(seed)

    def set_matmul_dtype(self, dtype: torch.dtype | None) -> "Transformer":
        """Round products, their factors and attention to `dtype` while gradients are recorded; return self.

        None, as built, keeps the parameters' own type. Parameters, norms, the residual stream and the loss
        keep it in any case, and so does all that runs without gradients: validation, scoring, decoding.
        """
        self.matmul_dtype = dtype
        for block in self.layers:
            block.matmul_dtype = dtype
        return self

    def set_attention(self, backend: Backend) -> "Transformer":
        """Let `backend` compute attention everywhere, see `attention.Backend`; return self.

        Whether it can run depends on device and type of the tensors, and is known at the first call.
        """
        self.attention_backend = backend
        for block in self.layers:
            block.attention_backend = backend
        return self

    def set_dropout(self, rate: float, seed: int = 0) -> "Transformer":
        """Leave out a share `rate` of embeddings and of what layers add to the residual stream; return self.

        In training mode alone; what stays is scaled by 1 / (1 − rate) (Srivastava et al. 2014). The numbers
        are drawn from `seed` on, pass after pass; 0, as built, draws none.
        """
        self.noise = Dropout(rate, seed, self.embedding.weight.device) if rate else None
        for block in self.layers:
            block.noise = self.noise
        return self

    @property
    def layers(self) -> Sequence[Block]:
        """The blocks in order."""
        return cast("Sequence[Block]", self.blocks)

    @property
    def head_VD(self) -> Tensor:
        """The output head's matrix (V, D)."""
        return self.embedding.weight if self.config.tied_embeddings else self.output_head

    def forward(
        self, inputs_BT: Int64[Tensor, "B T"], segments_BT: Int64[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Return logits (B, T, V); see `hidden` for the arguments."""
        return self.logits(self.hidden(inputs_BT, segments_BT))

    def logits(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Return the logits of hidden states, (…, D) → (…, V)."""
        return hidden @ self.head_VD.T

    def hidden(
        self, inputs_BT: Int64[Tensor, "B T"], segments_BT: Int64[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """Return the hidden states after the final norm, (B, T, D).

        Args:
            inputs_BT: token ids.
            segments_BT: number of each position's document; None is one document a row.

        Raises:
            ConfigError: the rows are longer than the model's context, or have unknown tokens.
        """
        num_rows, num_positions = inputs_BT.shape
        if num_positions > self.config.context_length:
            raise ConfigError(
                f"rows of {num_positions} tokens exceed context_length = {self.config.context_length}"
            )
        turns_TJE = self.turns(torch.arange(num_positions, device=inputs_BT.device))
        mask = CausalMask(num_rows, num_positions, segments_BT, inputs_BT.device)
        try:
            x_BTD = self.embedding(inputs_BT)
        except IndexError:
            self.config.require_known(inputs_BT, "a row")
            raise
        if self.noise is not None and self.training:
            x_BTD = self.noise(x_BTD)
        for block in self.layers:
            x_BTD = block(x_BTD, turns_TJE, mask)
        return rms_norm(x_BTD, self.final_norm, self.config.norm_eps)

    def loss_sum(self, batch: Batch) -> tuple[Tensor, int]:
        """Return −Σ log P(target) in nats over the batch (a scalar) and the number of its targets."""
        hidden_ND = self.hidden(batch.inputs, batch.segments).flatten(0, 1)
        targets_N = batch.targets.flatten()
        loss = linear_cross_entropy(hidden_ND, self.head_VD, targets_N, self.matmul_dtype)
        return loss, int((targets_N != IGNORE).sum())

    def regularised_loss_sum(self, batch: Batch, z_loss: float) -> tuple[Tensor, Tensor]:
        """Return `loss_sum`'s nats + z_loss · Σ (log Z)², Z each target's normaliser, and those nats alone.

        For training: the second has no gradient.
        """
        hidden_ND = self.hidden(batch.inputs, batch.segments).flatten(0, 1)
        targets_N = batch.targets.flatten()
        return regularised_cross_entropy(hidden_ND, self.head_VD, targets_N, self.matmul_dtype, z_loss)

    def turns(self, positions: Tensor) -> Tensor:
        """Return the rotary turns of `positions` for all query and key heads, complex (…, H + G, E/2)."""
        heads = self.config.num_heads + self.config.num_kv_heads
        turns = torch.view_as_complex(self.get_buffer("rotary"))
        return turns[positions][..., None, :].repeat_interleave(heads, dim=-2)

    @torch.no_grad()
    def _draw_parameters(self, seed: int) -> None:
        """Matrices ~ N(0, 1/fan-in), those that write to the residual stream divided by √(2·layers);
        embedding and head ~ N(0, 1/width), so that first logits are of order 1."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                continue
            std = parameter.shape[1] ** -0.5
            if name.endswith(("attention_out", "down")):
                std /= math.sqrt(2 * self.config.num_layers)
            parameter.normal_(0.0, std, generator=torch_generator(seed, name))


def with_context_length(model: Transformer, context_length: int) -> Transformer:
    """Return a copy of `model` that reads rows of `context_length` tokens; the weights are equal."""
    longer = Transformer(dataclasses.replace(model.config, context_length=context_length), seed=None)
    longer.load_state_dict(model.state_dict())
    longer.to(model.embedding.weight.dtype).train(model.training)
    return longer.set_matmul_dtype(model.matmul_dtype).set_attention(model.attention_backend)
