"""A model laid out for many passes without gradients: decoding, scoring, validation.

On a processor, oneDNN multiplies float32 by a matrix that it laid out beforehand at twice the speed of
PyTorch's own product, with equal bits for a row whatever the other rows are. Gains multiply the matrices
once, not every position.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sbp_bayes.base.operators import packed_product, packs_weights
from sbp_bayes.lm.layers import normalise
from sbp_bayes.lm.model import Block, Transformer


@torch.no_grad()
def freeze(model: Transformer) -> Transformer:
    """Return a model that computes what `model` does now, faster; later changes of weights don't reach it.

    It has no gradients and no weights to save. A model that isn't float32 on a processor is
    returned itself, and so is any where torch's operators for it are not usable.
    """
    weight = model.embedding.weight
    can_pack = weight.device.type == "cpu" and weight.dtype == torch.float32
    if isinstance(model, FrozenTransformer) or not (can_pack and packs_weights()):
        return model
    return FrozenTransformer(model)


class FrozenBlock(Block):
    """One layer, see `Block`."""

    def __init__(self, block: Block) -> None:
        nn.Module.__init__(self)
        self.config, self.attention_backend = block.config, block.attention_backend
        self.q_norm, self.k_norm = block.q_norm, block.k_norm
        self._qkv = packed_product(block.qkv * block.attention_norm)
        self._out = packed_product(block.attention_out)
        self._gate_up = packed_product(block.gate_up * block.feed_forward_norm)
        self._down = packed_product(block.down)

    def read(self, x_BTD: Tensor) -> Tensor:
        """Return queries, keys and values side by side."""
        return self._qkv(normalise(x_BTD, self.config.norm_eps))

    def write(self, mixed_BTF: Tensor) -> Tensor:
        """Return what attention adds to the residual stream."""
        return self._out(mixed_BTF)

    def feed_forward(self, x_BTD: Tensor) -> Tensor:
        """Return what the feed-forward network adds to it."""
        gate, up = self._gate_up(normalise(x_BTD, self.config.norm_eps)).chunk(2, dim=-1)
        return self._down(F.silu(gate).mul_(up))


class FrozenTransformer(Transformer):
    """See `freeze`."""

    def __init__(self, model: Transformer) -> None:
        nn.Module.__init__(self)
        self.config, self.attention_backend = model.config, model.attention_backend
        self.embedding, self.final_norm = model.embedding, model.final_norm
        self.register_buffer("rotary", model.get_buffer("rotary"), persistent=False)
        self.blocks = nn.ModuleList(FrozenBlock(block) for block in model.layers)
        self._head = packed_product(model.head_VD)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the output head's products."""
        return self._head(hidden)
