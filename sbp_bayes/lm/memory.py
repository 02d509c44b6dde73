"""What a training step needs of memory, computed before it is tried.

Shapes: B rows, T time, N = B·T positions, D width, H query heads, G key-value heads, E head width,
F hidden width, V vocabulary.
"""

import dataclasses

import torch

from sbp_bayes.base.config import require
from sbp_bayes.lm.blocked import KEPT_LENGTH, QUERIES
from sbp_bayes.lm.config import LMConfig
from sbp_bayes.lm.loss import CHUNK

FLOAT = torch.float32.itemsize
TOKEN = torch.int64.itemsize
COMPLEX = torch.complex64.itemsize


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes of a training step, by part.

    Attributes:
        parameters: the weights, float32.
        gradients: one a parameter.
        optimiser: AdamW's two means a parameter.
        activations: what the forward pass keeps for the backward pass.
        workspace: the most that is there for a moment besides: logits of the loss, or gradients of
            activations in a feed-forward network.
    """

    parameters: int
    gradients: int
    optimiser: int
    activations: int
    workspace: int

    @property
    def total(self) -> int:
        """Sum of the parts. Gradients grow while activations go, so a step's peak is somewhat below it.

        The process holds more than its tensors, by what holes in its heap remain (`lm.buffers`).
        """
        return sum(dataclasses.astuple(self))

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {_readable(size)}" for name, size in dataclasses.asdict(self).items())
        return f"{_readable(self.total)} ({parts})"


def training_memory(
    config: LMConfig, rows: int, *, matmul_dtype: torch.dtype | None = None, length: int | None = None
) -> TrainingMemory:
    """Return what a step of `Transformer.loss_sum`, its gradients and AdamW needs, in eager mode on a CPU.

    Rows of one document each; shorter documents keep fewer attention weights.

    Args:
        config: the model.
        rows: B, rows of a step.
        matmul_dtype: as in `Transformer.set_matmul_dtype`; the copies that it rounds to are kept.
        length: T, tokens of a row; by default the model's context.

    Raises:
        ConfigError: no rows, or rows that are empty or longer than the context.
    """
    positions = config.context_length if length is None else length
    require(rows > 0, "rows", rows, "a positive number")
    require(0 < positions <= config.context_length, "length", positions, f"1 to {config.context_length}")
    weights = config.num_parameters * FLOAT
    return TrainingMemory(
        parameters=weights,
        gradients=weights,
        optimiser=2 * weights,
        activations=_activations(config, rows, positions, matmul_dtype),
        workspace=_workspace(config, rows * positions, matmul_dtype),
    )


def _activations(config: LMConfig, rows: int, length: int, matmul_dtype: torch.dtype | None) -> int:
    """Bytes saved by the forward pass: tokens and turns, the layers, the final norm and the loss."""
    num_positions = rows * length
    heads = config.num_heads + config.num_kv_heads
    tokens = 3 * num_positions * TOKEN
    turns = length * heads * config.head_width // 2 * COMPLEX
    layer = _layer(config, num_positions, matmul_dtype)
    if length <= KEPT_LENGTH:
        layer += rows * config.num_heads * _weights(length) * (matmul_dtype or torch.float32).itemsize
    layers = config.num_layers * layer
    final_norm = num_positions * (config.width + 1) * FLOAT
    loss = (num_positions + config.vocab_size) * config.width * FLOAT
    return tokens + turns + layers + final_norm + loss


def _weights(length: int) -> int:
    """Attention weights of a head and row: a block's queries with the keys up to its end."""
    whole, rest = divmod(length, QUERIES)
    return QUERIES**2 * whole * (whole + 1) // 2 + rest * length


def _layer(config: LMConfig, num_positions: int, matmul_dtype: torch.dtype | None) -> int:
    """Bytes that one block saves for its backward pass."""
    width, hidden = config.width, config.hidden_width
    heads, kv_heads = config.num_heads, config.num_kv_heads
    item = (matmul_dtype or torch.float32).itemsize
    units = 2 * width  # x / rms(x), before attention and feed-forward
    projected = (heads + 2 * kv_heads) * config.head_width  # of which queries and keys are normalised
    attended = (2 * heads + 2 * kv_heads) * config.head_width  # queries, keys, values, and what they give
    feed_forward = 3 * hidden  # gate, up and silu(gate) · up
    kept = num_positions * (units + projected + attended + feed_forward) * item
    inverse_rms = num_positions * (2 + heads + kv_heads) * FLOAT
    scaled = width * (projected + 2 * hidden)  # the two matrices that gains multiply
    rounded = 0 if matmul_dtype is None else width * (heads * config.head_width + hidden)
    return kept + inverse_rms + (scaled + rounded) * item


def _workspace(config: LMConfig, num_positions: int, matmul_dtype: torch.dtype | None) -> int:
    """Bytes of the larger of two moments: a chunk of the loss, and ∂/∂(gate, up) of the last layer."""
    rounded = 0 if matmul_dtype is None else matmul_dtype.itemsize
    chunk = min(CHUNK, num_positions)
    logits = 2 * chunk * config.vocab_size * (FLOAT + rounded)  # of two chunks, one of them going
    hidden = num_positions * config.width * FLOAT
    copies = (num_positions + config.vocab_size) * config.width * rounded
    # ∂/∂(silu(gate) · up), and ∂/∂(gate, up)
    feed_forward = 3 * num_positions * config.hidden_width * (matmul_dtype or torch.float32).itemsize
    return hidden + max(logits + copies, feed_forward)


def _readable(size: int) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 2**10:.1f} KiB"
