"""The most probable continuation, token after token, of many prompts.

Shapes: B rows, T time, S cached positions, D width, G key-value heads, E head width, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.lm.attention import attention
from sbp_bayes.lm.continuations import TOKENS_PER_BATCH, Cached, Layout, read_trees
from sbp_bayes.lm.frozen import freeze
from sbp_bayes.lm.layers import rms_norm
from sbp_bayes.lm.masks import CachedMask, TreeMask
from sbp_bayes.lm.model import Transformer


@torch.no_grad()
def generate_greedy(
    model: Transformer,
    prompts: Sequence[np.ndarray],
    *,
    max_new_tokens: int,
    is_finished: Callable[[Sequence[int]], bool],
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Iterator[list[tuple[int, list[int]]]]:
    """Yield, batch by batch, (index of the prompt, the tokens that follow it); in an order of our own.

    SEP never follows. EOS ends a continuation and is no part of it.

    Args:
        model: gives log P(next token | earlier tokens).
        prompts: token ids, one token at least.
        max_new_tokens: most tokens that follow, EOS included.
        is_finished: whether the tokens that followed so far need no more.
        tokens_per_batch: most positions of a batch, new ones included, where one prompt has no more.

    Raises:
        ConfigError: a prompt that is empty or leaves no room in the model's context, or has a token that the
            model does not know; the message has its index.
    """
    for index, prompt in enumerate(prompts):
        if not 0 < len(prompt) <= model.config.context_length - max_new_tokens:
            raise ConfigError(
                f"prompt {index} of {len(prompt)} tokens with {max_new_tokens} new ones: expected one token "
                f"at least, and no more than context_length = {model.config.context_length} together"
            )
        model.config.require_known(prompt, f"prompt {index}")
    model = freeze(model)
    waiting = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    while waiting:
        longest = len(prompts[waiting[0]]) + max_new_tokens
        size = max(1, tokens_per_batch // longest)
        batch, waiting = waiting[:size], waiting[size:]
        rows = _Rows(model, [prompts[index] for index in batch], max_new_tokens)
        yield list(zip(batch, rows.continue_until(is_finished), strict=True))


class _Rows:
    """Prompts of one batch, their cache (B, G, S, E) of each layer, and the tokens that followed so far."""

    def __init__(self, model: Transformer, prompts: Sequence[np.ndarray], max_new_tokens: int) -> None:
        self.model, self.max_new_tokens = model, max_new_tokens
        device = model.embedding.weight.device
        shape = (len(prompts), max(map(len, prompts)))
        tokens, last = np.full(shape, EOS), np.zeros(shape, bool)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)], last[row, len(prompt) - 1] = prompt, True
        tokens_BT = torch.from_numpy(tokens).to(device)
        depths_BT = torch.arange(shape[1], device=device).expand(shape)
        mask = TreeMask(torch.full_like(tokens_BT, shape[1]))
        read = Cached([], [])
        layout = Layout(tokens_BT, depths_BT, mask, torch.from_numpy(last).to(device))
        hidden_BD = read_trees(model, layout, read, read)
        self.logits_BV = model.logits(hidden_BD)
        self.lengths_B = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self.keys, self.values = ([self._with_room(x) for x in cache] for cache in read)
        self.tokens: list[list[int]] = [[] for _ in prompts]

    def continue_until(self, is_finished: Callable[[Sequence[int]], bool]) -> list[list[int]]:
        """Return the tokens that follow each prompt."""
        alive = list(range(len(self.tokens)))
        while alive:
            self.logits_BV[:, SEP] = -math.inf
            next_B = self.logits_BV.argmax(dim=1)
            kept = [
                place
                for place, token in enumerate(next_B.tolist())
                if self._append(alive[place], token, is_finished)
            ]
            alive = [alive[place] for place in kept]
            if alive:
                self._advance(next_B[kept], kept)
        return self.tokens

    def _append(self, row: int, token: int, is_finished: Callable[[Sequence[int]], bool]) -> bool:
        """Append a token to a row; return whether more are to follow."""
        if token == EOS:
            return False
        self.tokens[row].append(token)
        return len(self.tokens[row]) < self.max_new_tokens and not is_finished(self.tokens[row])

    def _with_room(self, cache_BGTE: Tensor) -> Tensor:
        return torch.nn.functional.pad(cache_BGTE, (0, 0, 0, self.max_new_tokens))

    def _advance(self, tokens_B: Tensor, kept: list[int]) -> None:
        """Read one more token of the rows at the places `kept`, and forget the others."""
        if len(kept) < len(self.lengths_B):
            self.keys = [keys[kept] for keys in self.keys]
            self.values = [values[kept] for values in self.values]
            self.lengths_B = self.lengths_B[kept]
        rows, at_B = torch.arange(len(kept)), self.lengths_B
        mask = CachedMask(at_B, int(at_B.max()) + 1)
        turns = self.model.turns(at_B[:, None])
        x_B1D = self.model.embedding(tokens_B)[:, None]
        for block, keys, values in zip(self.model.layers, self.keys, self.values, strict=True):
            q_BH1E, k_BG1E, v_BG1E = block.project(x_B1D, turns)
            keys[rows, :, at_B], values[rows, :, at_B] = k_BG1E[:, :, 0], v_BG1E[:, :, 0]
            read = (cache[:, :, : mask.num_keys] for cache in (keys, values))
            mixed_BH1E = attention(q_BH1E, *read, mask, self.model.attention_backend)
            x_B1D = block.combine(x_B1D, mixed_BH1E.transpose(1, 2))
        hidden_BD = rms_norm(x_B1D[:, 0], self.model.final_norm, self.model.config.norm_eps)
        self.logits_BV = self.model.logits(hidden_BD)
        self.lengths_B = at_B + 1
