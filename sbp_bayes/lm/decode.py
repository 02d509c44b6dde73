"""Sampling with a key-value cache and continuous batching; a sample depends on its own seed alone.

Samples of one prompt share the work on it: it is read once and its keys and values are copied.

How company is kept out of a sample's bytes: arithmetic runs in tiles of one fixed shape. A decoding
tile always holds `TILE_ROWS` rows and a prefill always `PREFILL_ROWS` prompts padded to a multiple of
`PROMPT_STEP`, so a row meets the same kernels whoever its neighbours are and however many tiles there
are; free rows compute on leftovers that nobody reads. A frozen model's products give a row the same bits
in a tile of any height: there a prefill holds as many prompts as there are, the last samples close ranks,
and the tile is cut behind them to a multiple of `CACHE_ROWS`. Keys beyond a row's own length weigh exactly 0.
That those kernels give a row the same bits at every place of a tile, and the same for every padding, is
a measured property of float32 products at PyTorch's "highest" precision (not of "medium"); tests hold
it. Random numbers are drawn per sample, from its own stream.

Shapes: R rows of a tile, P prompts of a prefill, T prompt time, L cached positions, D width, G
key-value heads, H query heads, E head width, V vocabulary.
"""

import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import require
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.workers import thread_pool
from sbp_bayes.lm.attention import attention
from sbp_bayes.lm.frozen import FrozenTransformer, freeze
from sbp_bayes.lm.layers import rms_norm
from sbp_bayes.lm.masks import CachedMask, CausalMask
from sbp_bayes.lm.model import Transformer

TILE_ROWS = 128
PREFILL_ROWS = 8
PROMPT_STEP = 32
CACHE_ROWS, CACHE_STEP = 16, 64
"""Rows of a tile that read equally many cached positions, and of what these are a multiple."""

READ_AHEAD = 4
"""Groups of prompts that are read before they are needed."""


@dataclasses.dataclass(frozen=True, eq=False)
class Generated(ArrayRecord):
    """One sampled document.

    Attributes:
        tokens: its token ids, int64, without EOS.
        finished: whether the model ended it with EOS before the limit.
    """

    tokens: np.ndarray
    finished: bool


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is drawn: P(token)^(1/temperature), cut to the nucleus of mass `top_p`."""

    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        require(self.temperature > 0, "temperature", self.temperature, "a positive number")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "a share in (0, 1]")


def generate(
    model: Transformer,
    prompts: Sequence[np.ndarray],
    *,
    max_new_tokens: int | Sequence[int],
    stream_seeds: Sequence[int],
    temperature: float = 1.0,
    top_p: float = 1.0,
    slots: int | None = None,
) -> list[Generated]:
    """Sample one continuation of each prompt; see `generate_iter`, whose results these are, in order."""
    samples = generate_iter(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        stream_seeds=stream_seeds,
        temperature=temperature,
        top_p=top_p,
        slots=slots,
    )
    by_index = dict(samples)
    return [by_index[index] for index in range(len(prompts))]


@torch.no_grad()
def generate_iter(
    model: Transformer,
    prompts: Sequence[np.ndarray],
    *,
    max_new_tokens: int | Sequence[int],
    stream_seeds: Sequence[int],
    temperature: float = 1.0,
    top_p: float = 1.0,
    slots: int | None = None,
) -> Iterator[tuple[int, Generated]]:
    """Sample one continuation of each prompt and yield (index of the prompt, sample) as they finish.

    SEP is never drawn: its mass goes to the other tokens in proportion. EOS ends a sample.

    Args:
        model: gives log P(next token | prompt and tokens drawn so far).
        prompts: token ids, each with all that precedes the document (EOS … SEP for a synthesizer).
        max_new_tokens: most draws, EOS included, for all prompts or for each.
        stream_seeds: sample i's t-th uniform is the t-th of Philox seeded by `stream_seeds[i]`.
        temperature: 1 samples the model itself.
        top_p: 1 keeps the whole vocabulary.
        slots: samples in flight, rounded up to whole tiles of `TILE_ROWS`, which torch's threads share; by
            default a tile for each thread.

    Raises:
        ConfigError: a prompt that is empty, has a token that the model does not know, or leaves no room
            for its new tokens in the context.
    """
    precision = torch.get_float32_matmul_precision()
    require(precision == "highest", "float32_matmul_precision", precision, "highest")
    limits = _limits(model, prompts, max_new_tokens)
    require(len(stream_seeds) == len(prompts), "stream_seeds", len(stream_seeds), f"{len(prompts)} seeds")
    sampling = Sampling(temperature, top_p)
    frozen = freeze(model)
    most = TILE_ROWS * torch.get_num_threads() if slots is None else slots
    with thread_pool() as pool:
        waiting = _prefilled(frozen, prompts, pool)
        streams = (
            (index, start, numpy_generator(stream_seeds[index]).random(limits[index]))
            for index, start in waiting
        )
        tiles = [_Tile(frozen, sampling) for _ in range(math.ceil(min(most, len(prompts)) / TILE_ROWS))]
        while tiles := [tile for tile in tiles if tile.fill(streams)]:
            for ended in pool.map(_Tile.step, tiles):
                yield from ended


def _limits(model: Transformer, prompts: Sequence[np.ndarray], limit: int | Sequence[int]) -> list[int]:
    limits = [limit] * len(prompts) if isinstance(limit, int) else list(limit)
    require(len(limits) == len(prompts), "max_new_tokens", len(limits), f"{len(prompts)} limits")
    config = model.config
    for index, (prompt, most) in enumerate(zip(prompts, limits, strict=True)):
        require(most > 0, f"max_new_tokens[{index}]", most, "a positive number")
        if len(prompt) == 0:
            raise ConfigError(
                f"prompt {index} is empty: a sample starts from one token at least, such as EOS"
            )
        if len(prompt) > config.context_length - most + 1:
            raise ConfigError(
                f"prompt {index} of {len(prompt)} tokens with {most} new ones does not fit "
                f"context_length = {config.context_length}"
            )
        config.require_known(np.asarray(prompt), f"prompt {index}")
    return limits


@dataclasses.dataclass(frozen=True, eq=False)
class _Start(ArrayRecord):
    """A prompt that was read: its keys and values (layers, G, T, E) and the next token's logits (V,)."""

    keys: Tensor
    values: Tensor
    logits_V: Tensor


def _prefilled(
    model: Transformer, prompts: Sequence[np.ndarray], pool: Executor
) -> Iterator[tuple[int, _Start]]:
    """Yield the start of every sample as it is needed; samples of one prompt share it, and it is read once.

    Prompts are read `PREFILL_ROWS` of one padded length at a time, the longest first.
    """
    samples: dict[bytes, list[int]] = {}
    for index, prompt in enumerate(prompts):
        samples.setdefault(np.asarray(prompt, dtype=np.int64).tobytes(), []).append(index)

    def padded_length(indices: list[int]) -> int:
        return _round_up(len(prompts[indices[0]]), PROMPT_STEP)

    groups = sorted(samples.values(), key=lambda indices: (-padded_length(indices), indices[0]))
    reading: deque[tuple[list[list[int]], Future[list[_Start]]]] = deque()
    while groups or reading:
        while groups and len(reading) < READ_AHEAD:
            padded = padded_length(groups[0])
            same = [group for group in groups[:PREFILL_ROWS] if padded_length(group) == padded]
            groups = groups[len(same) :]
            firsts = [prompts[indices[0]] for indices in same]
            reading.append((same, pool.submit(_prefill, model, firsts, padded)))
        same, starts = reading.popleft()
        for indices, start in zip(same, starts.result(), strict=True):
            yield from ((index, start) for index in indices)


def _round_up(length: int, step: int) -> int:
    return -(-length // step) * step


@torch.no_grad()  # which holds in one thread alone
def _prefill(model: Transformer, prompts: Sequence[np.ndarray], padded: int) -> list[_Start]:
    num_rows = len(prompts) if isinstance(model, FrozenTransformer) else PREFILL_ROWS
    tokens_PT = torch.zeros(num_rows, padded, dtype=torch.int64)
    last_P = torch.zeros(num_rows, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        tokens_PT[row, : len(prompt)] = torch.from_numpy(np.asarray(prompt, dtype=np.int64))
        last_P[row] = len(prompt) - 1
    turns = model.turns(torch.arange(padded).clamp(max=model.config.context_length - 1))
    mask: CausalMask | CachedMask = CausalMask(num_rows, padded)
    everyone = torch.arange(num_rows)
    x_PTD = model.embedding(tokens_PT)
    keys, values = [], []
    for block in model.layers:
        q_PHTE, k_PGTE, v_PGTE = block.project(x_PTD, turns)
        keys.append(k_PGTE)
        values.append(v_PGTE)
        if block is model.layers[-1]:  # of which the last position alone is read
            q_PHTE, x_PTD = q_PHTE[everyone, :, last_P][:, :, None], x_PTD[everyone, last_P][:, None]
            mask = CachedMask(last_P, padded)
        mixed = attention(q_PHTE, k_PGTE, v_PGTE, mask, model.attention_backend)
        x_PTD = block.combine(x_PTD, mixed.transpose(1, 2))
    logits_PV = _logits(model, x_PTD[:, 0])
    return [
        _Start(
            torch.stack([k[row, :, : len(prompt)] for k in keys]),
            torch.stack([v[row, :, : len(prompt)] for v in values]),
            logits_PV[row].clone(),
        )
        for row, prompt in enumerate(prompts)
    ]


def _logits(model: Transformer, x_RD: Tensor) -> Tensor:
    return model.logits(rms_norm(x_RD, model.final_norm, model.config.norm_eps))


@dataclasses.dataclass(eq=False)
class _Row(ArrayRecord):
    """A sample in flight: which prompt it continues, its uniforms and the tokens drawn."""

    index: int
    uniforms: np.ndarray
    tokens: list[int]


class _Tile:
    """`TILE_ROWS` samples in flight and their cache (layers, R, G, context, E)."""

    def __init__(self, model: Transformer, sampling: Sampling) -> None:
        config, weight = model.config, model.embedding.weight
        self.model, self.sampling = model, sampling
        capacity = _round_up(config.context_length, CACHE_STEP)
        shape = (config.num_layers, TILE_ROWS, config.num_kv_heads, capacity, config.head_width)
        self.keys, self.values = weight.new_zeros(shape), weight.new_zeros(shape)
        self.lengths_R = torch.zeros(TILE_ROWS, dtype=torch.int64)
        self.logits_RV = weight.new_zeros(TILE_ROWS, config.vocab_size)
        self.rows: list[_Row | None] = [None] * TILE_ROWS
        self.can_be_cut = isinstance(model, FrozenTransformer)

    @property
    def is_busy(self) -> bool:
        """Whether any row holds a sample."""
        return any(row is not None for row in self.rows)

    @torch.no_grad()
    def step(self) -> list[tuple[int, Generated]]:
        """Draw one token for every row, and return those that ended."""
        ended, height = [], self._height()
        uniforms_R = torch.tensor(
            [row.uniforms[len(row.tokens)] if row else 0.0 for row in self.rows[:height]], dtype=torch.float64
        )
        drawn_R = draw(self.logits_RV[:height], uniforms_R, self.sampling)
        for slot, token in enumerate(drawn_R.tolist()):
            row = self.rows[slot]
            if row is None:
                continue
            if token != EOS:
                row.tokens.append(token)
            if token == EOS or len(row.tokens) == len(row.uniforms):
                ended.append((row.index, Generated(np.array(row.tokens, dtype=np.int64), token == EOS)))
                self.rows[slot] = None
                self.lengths_R[slot] = 0
        if self.is_busy:
            self._advance(drawn_R)
        return ended

    def fill(self, waiting: Iterator[tuple[int, _Start, np.ndarray]]) -> bool:
        """Give free rows to `waiting` samples; return whether any row holds a sample."""
        for slot in range(TILE_ROWS):
            if self.rows[slot] is None:
                arrived = next(waiting, None)
                if arrived is None:
                    break
                index, start, uniforms = arrived
                length = start.keys.shape[2]
                self.keys[:, slot, :, :length] = start.keys
                self.values[:, slot, :, :length] = start.values
                self.lengths_R[slot] = length
                self.logits_RV[slot] = start.logits_V
                self.rows[slot] = _Row(index, uniforms, [])
        if self.can_be_cut:
            self._close_ranks()
        return self.is_busy

    def _close_ranks(self) -> None:
        """Move the last samples into free rows before them."""
        free = [slot for slot, row in enumerate(self.rows) if row is None]
        busy = [slot for slot, row in enumerate(self.rows) if row is not None]
        for to, origin in zip(free, reversed(busy), strict=False):
            if to > origin:
                break
            length = int(self.lengths_R[origin])
            for cache in (self.keys, self.values):
                cache[:, to, :, :length] = cache[:, origin, :, :length]
            for state in (self.logits_RV, self.lengths_R):
                state[to] = state[origin]
            self.lengths_R[origin] = 0
            self.rows[to], self.rows[origin] = self.rows[origin], None

    def _height(self) -> int:
        """Return the rows that are computed."""
        if not self.can_be_cut:
            return TILE_ROWS
        return _round_up(sum(row is not None for row in self.rows), CACHE_ROWS)

    def _advance(self, tokens_R: Tensor) -> None:
        """Append `tokens_R` to the rows and compute the logits of what follows them."""
        height = len(tokens_R)
        all_rows, at_R = torch.arange(height), self.lengths_R[:height]
        parts = [(rows, CachedMask(at_R[rows], num_keys)) for rows, num_keys in _reading(at_R)]
        turns = self.model.turns(at_R[:, None])
        x_R1D = self.model.embedding(tokens_R)[:, None]
        for layer, block in enumerate(self.model.layers):
            q_RH1E, k_RG1E, v_RG1E = block.project(x_R1D, turns)
            self.keys[layer, all_rows, :, at_R] = k_RG1E[:, :, 0]
            self.values[layer, all_rows, :, at_R] = v_RG1E[:, :, 0]
            mixed = [
                attention(
                    q_RH1E[rows],
                    self.keys[layer, rows, :, : mask.num_keys],
                    self.values[layer, rows, :, : mask.num_keys],
                    mask,
                    self.model.attention_backend,
                )
                for rows, mask in parts
            ]
            x_R1D = block.combine(x_R1D, torch.cat(mixed).transpose(1, 2))
        self.logits_RV[:height] = _logits(self.model, x_R1D[:, 0])
        self.lengths_R = self.lengths_R + torch.tensor([row is not None for row in self.rows])


def _reading(at_R: Tensor) -> Iterator[tuple[slice, int]]:
    """Yield rows that follow each other and the cached positions read for them, which are equally many.

    `CACHE_ROWS` rows read as many as the longest of them has, in steps of `CACHE_STEP`.
    """
    longest = [int(lengths.max()) + 1 for lengths in at_R.split(CACHE_ROWS)]
    end = 0
    for num_keys, groups in itertools.groupby(_round_up(length, CACHE_STEP) for length in longest):
        start, end = end, min(end + CACHE_ROWS * len(list(groups)), len(at_R))
        yield slice(start, end), num_keys


def draw(
    logits_RV: Float[Tensor, "R V"], uniforms_R: Float[Tensor, " R"], sampling: Sampling
) -> Int64[Tensor, " R"]:
    """Return one token id per row by inverse CDF: the first whose cumulated mass exceeds uniform · total.

    Masses are summed in float64 in order of token id; SEP and tokens outside the nucleus have none.
    """
    logits_RV = logits_RV / sampling.temperature
    logits_RV[:, SEP] = -math.inf
    mass_RV = logits_RV.softmax(dim=1)
    if sampling.top_p < 1:
        mass_RV = _nucleus(mass_RV, sampling.top_p)
    cumulated_RV = mass_RV.cumsum(dim=1, dtype=torch.float64)
    total_R = cumulated_RV[:, -1]
    below_total_R = torch.nextafter(total_R, torch.zeros_like(total_R))
    target_R = torch.minimum(uniforms_R * total_R, below_total_R)
    return torch.searchsorted(cumulated_RV, target_R[:, None], right=True)[:, 0]


def _nucleus(mass_RV: Tensor, top_p: float) -> Tensor:
    """Keep the fewest most probable tokens whose mass reaches `top_p`; ties go to the smaller id."""
    sorted_RV, order_RV = mass_RV.sort(dim=1, descending=True, stable=True)
    before_RV = sorted_RV.cumsum(dim=1, dtype=torch.float64) - sorted_RV
    return torch.zeros_like(mass_RV).scatter(1, order_RV, sorted_RV.where(before_RV < top_p, 0.0))
