"""log P(continuation | context) of many requests, where contexts that begin alike are read once.

Requests are sorted, so that rows which begin alike are neighbours. Neighbours become one tree of tokens, laid
out depth first in one row of a batch: what they share is there once, and `TreeMask` lets each position read
the way from the root to it. Where a group's trees do not fit one row, what all of them share (the shots of a
task, say) is read first, and its keys and values are cached for the rows that follow. Positions whose next
token is not asked for have no logits, and skip the last layer's feed-forward network.

Shapes: B rows, T time, P positions of a cached prefix, D width, G key-value heads, E head width,
V vocabulary, N scored positions, C of a chunk.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.records import EOS
from sbp_bayes.lm.attention import attention
from sbp_bayes.lm.frozen import freeze
from sbp_bayes.lm.layers import rms_norm
from sbp_bayes.lm.loss import CHUNK
from sbp_bayes.lm.masks import TreeMask
from sbp_bayes.lm.model import Transformer

TOKENS_PER_BATCH = 8192
TREE_TOKENS = 256
"""Positions of a tree that is worth more neighbours; beyond it their prefix is cached."""


class Answer(NamedTuple):
    """What a model says of one continuation.

    Attributes:
        log_prob_nats: log P(continuation | context).
        is_greedy: whether each of its tokens is the most probable one.
    """

    log_prob_nats: float
    is_greedy: bool


@torch.no_grad()
def score_continuations(
    model: Transformer,
    requests: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Iterator[list[tuple[int, Answer]]]:
    """Yield, batch by batch, (index of the request, its answer); the requests come in an order of our own.

    Args:
        model: gives log P(next token | earlier tokens).
        requests: token ids (context, continuation), int64; a context of one token at least, EOS for a
            document's beginning. What does not fit the model's context is cut from the left.
        tokens_per_batch: most positions of a batch, where one tree has no more.

    Raises:
        ConfigError: an empty context or continuation, a continuation longer than the model's context, or a
            token that the model does not know; the message has the request's index.
    """
    rows = [_row(model, index, *request) for index, request in enumerate(requests)]
    order = sorted(rows, key=lambda row: row.inputs.astype(">u4").tobytes())  # by token after token
    model = freeze(model)
    alone: list[_Tree] = []
    for group in _groups(order):
        tree = _tree(group, 0)
        if len(tree.tokens) <= max(TREE_TOKENS, len(group[0].inputs)):
            alone.append(tree)
            continue
        start = min(_shared(group[0], group[-1]), *(len(row.inputs) - len(row.targets) for row in group))
        cached = _read_prefix(model, group[0].inputs[:start])
        for batch in _batches(_split(group, start), tokens_per_batch):
            yield _score(model, batch, cached)
    nothing = _read_prefix(model, np.zeros(0, np.int64))
    for batch in _batches(alone, tokens_per_batch):
        yield _score(model, batch, nothing)


@dataclasses.dataclass(frozen=True, eq=False)
class _Row(ArrayRecord):
    """A request as the model reads it: inputs (T,) and the targets of the last of them."""

    index: int
    inputs: np.ndarray
    targets: np.ndarray


def _row(model: Transformer, index: int, context: np.ndarray, continuation: np.ndarray) -> _Row:
    limit, size = model.config.context_length, len(continuation)
    if len(context) == 0 or not 0 < size <= limit:
        raise ConfigError(
            f"request {index}: a context of {len(context)} and a continuation of {size} tokens: expected "
            f"one token at least of each, and a continuation within context_length = {limit}"
        )
    whole = np.concatenate((context, continuation)).astype(np.int64)[-(limit + 1) :]
    model.config.require_known(whole, f"request {index}")
    return _Row(index, whole[:-1], whole[-size:])


def _shared(first: _Row, second: _Row) -> int:
    """Return how many tokens two rows begin with alike."""
    length = min(len(first.inputs), len(second.inputs))
    differs = first.inputs[:length] != second.inputs[:length]
    return int(differs.argmax()) if differs.any() else length


def _groups(order: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Yield neighbours that share at least half of the later one."""
    group: list[_Row] = []
    for row in order:
        if group and 2 * _shared(group[-1], row) < len(row.inputs):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


@dataclasses.dataclass(frozen=True, eq=False)
class _Tree(ArrayRecord):
    """Rows that begin alike, as one tree in depth-first order.

    Attributes:
        tokens, depths, ends: of its positions, int64 (T,); see `TreeMask` for `ends`.
        rows: the rows, and `places` the positions whose next tokens are the targets of each.
    """

    tokens: np.ndarray
    depths: np.ndarray
    ends: np.ndarray
    rows: list[_Row]
    places: list[np.ndarray]


def _tree(rows: Sequence[_Row], start: int) -> _Tree:
    """Lay out sorted rows without their first `start` tokens, which are in the cache."""
    most = sum(len(row.inputs) - start for row in rows)
    tokens, depths, ends = (np.zeros(most, np.int64) for _ in range(3))
    places, path, size = [], np.zeros(0, np.int64), 0
    for earlier, row in zip([None, *rows], rows, strict=False):
        shared = _shared(earlier, row) - start if earlier is not None else 0
        added = slice(size, size + len(row.inputs) - start - shared)
        ends[path[shared:]] = size
        tokens[added] = row.inputs[start + shared :]
        depths[added] = np.arange(start + shared, len(row.inputs))
        path = np.concatenate((path[:shared], np.arange(added.start, added.stop)))
        size = added.stop
        places.append(path[len(path) - len(row.targets) :])
    ends[path] = size
    return _Tree(tokens[:size], depths[:size], ends[:size], list(rows), places)


def _split(group: Sequence[_Row], start: int) -> Iterator[_Tree]:
    """Yield trees of at most `TREE_TOKENS` positions, or of one row, after a prefix of `start` tokens."""
    rows: list[_Row] = []
    size = 0
    for row in group:
        added = len(row.inputs) - max(start, _shared(rows[-1], row) if rows else start)
        if rows and size + added > TREE_TOKENS:
            yield _tree(rows, start)
            rows, size, added = [], 0, len(row.inputs) - start
        rows.append(row)
        size += added
    yield _tree(rows, start)


def _batches(trees: Iterable[_Tree], tokens_per_batch: int) -> Iterator[list[_Tree]]:
    """Group trees of like size; the largest come first, so that memory runs out at once or never."""
    batch: list[_Tree] = []
    for tree in sorted(trees, key=lambda tree: -len(tree.tokens)):
        if batch and len(batch[0].tokens) * (len(batch) + 1) > tokens_per_batch:
            yield batch
            batch = []
        batch.append(tree)
    if batch:
        yield batch


class Cached(NamedTuple):
    """Keys and values of what was read, (B, G, P, E) for each layer; of a prefix, B = 1."""

    keys: list[Tensor]
    values: list[Tensor]


def _read_prefix(model: Transformer, tokens: np.ndarray) -> Cached:
    device = model.embedding.weight.device
    shape = (1, model.config.num_kv_heads, 0, model.config.head_width)
    empty = model.embedding.weight.new_zeros(shape)
    cached = Cached([empty] * model.config.num_layers, [empty] * model.config.num_layers)
    if len(tokens) == 0:
        return cached
    tokens_1P = torch.from_numpy(tokens)[None].to(device)
    mask = TreeMask(torch.full_like(tokens_1P, len(tokens)))
    read = Cached([], [])
    depths_1P = torch.arange(len(tokens), device=device)[None]
    read_trees(
        model, Layout(tokens_1P, depths_1P, mask, torch.zeros_like(tokens_1P, dtype=torch.bool)), cached, read
    )
    return read


def _score(model: Transformer, trees: Sequence[_Tree], cached: Cached) -> list[tuple[int, Answer]]:
    """Return the answers of one batch's rows."""
    shape = (len(trees), max(len(tree.tokens) for tree in trees))
    tokens, depths = np.full(shape, EOS), np.zeros(shape, np.int64)
    ends = np.broadcast_to(np.arange(1, shape[1] + 1), shape).copy()  # padding reads itself
    scored = np.zeros(shape, bool)
    for row, tree in enumerate(trees):
        here = row, slice(len(tree.tokens))
        tokens[here], depths[here], ends[here] = tree.tokens, tree.depths, tree.ends
        scored[row, np.concatenate(tree.places)] = True
    device = model.embedding.weight.device
    tokens_BT, depths_BT, ends_BT, scored_BT = (
        torch.from_numpy(array).to(device) for array in (tokens, depths, ends, scored)
    )
    mask = TreeMask(ends_BT, cached.keys[0].shape[2])
    hidden_ND = read_trees(model, Layout(tokens_BT, depths_BT, mask, scored_BT), cached)
    number = (scored.cumsum() - 1).reshape(shape)  # of each scored position among them
    rows = [
        (number[i, place], row)
        for i, tree in enumerate(trees)
        for place, row in zip(tree.places, tree.rows, strict=True)
    ]
    positions = np.concatenate([place for place, _ in rows])
    targets = np.concatenate([row.targets for _, row in rows])
    nats, is_best = _next_tokens(model, hidden_ND, positions, targets)
    bounds = itertools.pairwise([0, *np.cumsum([len(place) for place, _ in rows])])
    return [
        (row.index, Answer(float(nats[a:b].sum()), bool(is_best[a:b].all())))
        for (_, row), (a, b) in zip(rows, bounds, strict=True)
    ]


class Layout(NamedTuple):
    """A batch of trees.

    Attributes:
        tokens_BT, depths_BT: token ids, and their places in the documents.
        mask: what each position reads.
        scored_BT: whether the next token is asked for.
    """

    tokens_BT: Tensor
    depths_BT: Tensor
    mask: TreeMask
    scored_BT: Tensor


def read_trees(model: Transformer, layout: Layout, cached: Cached, read: Cached | None = None) -> Tensor:
    """Return the hidden states of the scored positions, in order, (N, D).

    Args:
        model: it reads them.
        layout: the batch.
        cached: keys and values of the prefix; not looked at where the mask has none.
        read: gets the keys and values of all positions, without the prefix's.
    """
    tokens_BT, depths_BT, mask, scored_BT = layout
    turns = model.turns(depths_BT)
    x_BTD = model.embedding(tokens_BT)
    for layer, block in enumerate(model.layers):
        q_BHTE, k_BGTE, v_BGTE = block.project(x_BTD, turns)
        if read is not None:
            read.keys.append(k_BGTE)
            read.values.append(v_BGTE)
        k_BGSE, v_BGSE = (
            torch.cat((before[layer].expand(len(own), -1, -1, -1), own), dim=2) if mask.num_cached else own
            for before, own in zip(cached, (k_BGTE, v_BGTE), strict=True)
        )
        mixed_BTHE = attention(q_BHTE, k_BGSE, v_BGSE, mask, model.attention_backend).transpose(1, 2)
        if block is model.layers[-1]:
            x_BTD, mixed_BTHE = x_BTD[scored_BT][None], mixed_BTHE[scored_BT][None]
        x_BTD = block.combine(x_BTD, mixed_BTHE)
    return rms_norm(x_BTD[0], model.final_norm, model.config.norm_eps)


def _next_tokens(
    model: Transformer, hidden_ND: Tensor, positions: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return log P(target) in nats, float64, and whether the target is the most probable token.

    One position may have several targets, as where answers differ in their last token alone.
    """
    nats, is_best = np.zeros(len(targets)), np.zeros(len(targets), bool)
    order = np.argsort(positions, kind="stable")
    for start in range(0, len(hidden_ND), CHUNK):
        logits_CV = model.logits(hidden_ND[start : start + CHUNK])
        first, last = np.searchsorted(positions[order], (start, start + len(logits_CV)))
        asked = order[first:last]
        at = torch.from_numpy(positions[asked] - start).to(logits_CV.device)
        wanted = torch.from_numpy(targets[asked]).to(logits_CV.device)
        log_probs = logits_CV[at, wanted].double() - logits_CV.logsumexp(dim=1).double()[at]
        nats[asked] = log_probs.cpu().numpy()
        is_best[asked] = (logits_CV.argmax(dim=1)[at] == wanted).cpu().numpy()
    return nats, is_best
