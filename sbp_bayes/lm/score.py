"""log P of rows and documents under a model, without gradients.

Shapes: B rows, T time, N positions with a target.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.records import EOS, IGNORE, Batch
from sbp_bayes.lm.frozen import freeze
from sbp_bayes.lm.loss import token_losses
from sbp_bayes.lm.model import Transformer

TOKENS_PER_BATCH = 8192
SORTED_TOGETHER = 4096
"""Rows that are held, and sorted by length, at once."""


@torch.no_grad()
def score_batch(
    models: Sequence[Transformer], batch: Batch
) -> tuple[Float64[Tensor, " B"], Int64[Tensor, " B"]]:
    """Return, per row, −Σ log P(target) in nats (B,) float64 and its number of targets (B,).

    P is the mean of the models' probabilities.
    """
    batch = batch.to(models[0].embedding.weight.device)
    kept_BT = batch.targets != IGNORE
    nats_N, *others = (
        token_losses(
            model.hidden(batch.inputs, batch.segments)[kept_BT], model.logits, batch.targets[kept_BT]
        ).double()
        for model in models
    )
    if others:
        nats_N = math.log(len(models)) - torch.stack([-nats_N, *(-other for other in others)]).logsumexp(0)
    row_N = kept_BT.nonzero()[:, 0]
    nats_B = torch.zeros(len(batch.inputs), dtype=torch.float64, device=nats_N.device)
    nats_B.index_add_(0, row_N, nats_N)
    return nats_B, kept_BT.sum(dim=1)


def score_rows(
    model: Transformer | Sequence[Transformer], rows: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> tuple[Float64[np.ndarray, " B"], Int64[np.ndarray, " B"]]:
    """Score rows of (inputs, targets, segments), each an int64 array (T,); lengths may differ.

    Rows of like length share a batch, so that little of it is padding. Several models are an ensemble: the
    mean of their probabilities for each token.

    Returns:
        per row, −Σ log P(target) in nats (float64) and the number of targets (int64).
    """
    models = [freeze(one) for one in ([model] if isinstance(model, Transformer) else model)]
    nats, counts, rows = [np.zeros(0)], [np.zeros(0, dtype=np.int64)], iter(rows)
    while window := list(itertools.islice(rows, SORTED_TOGETHER)):
        by_length = np.argsort([len(row[0]) for row in window], kind="stable")
        scores = [score_batch(models, batch) for batch in _batches(window[i] for i in by_length)]
        place = np.argsort(by_length)
        nats.append(torch.cat([nats_B for nats_B, _ in scores]).cpu().numpy()[place])
        counts.append(torch.cat([count_B for _, count_B in scores]).cpu().numpy()[place])
    return np.concatenate(nats), np.concatenate(counts)


def log_prob_documents(model: Transformer, documents: Sequence[np.ndarray]) -> Float64[np.ndarray, " B"]:
    """Return log P(document), EOS included, in nats for each document of token ids (without EOS).

    Raises:
        ConfigError: a document does not fit the model's context.
    """
    context = model.config.context_length
    for index, tokens in enumerate(documents):
        if len(tokens) + 1 > context:
            raise ConfigError(
                f"document {index} of {len(tokens)} tokens and EOS exceeds context_length = {context}"
            )
    nats, _ = score_rows(model, (_row(tokens) for tokens in documents))
    return -nats


def _row(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    inputs, targets = np.append(EOS, tokens), np.append(tokens, EOS)
    return inputs, targets, np.zeros(len(inputs), dtype=np.int64)


def _batches(rows: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Iterator[Batch]:
    """Group rows, in order, into padded batches of at most `TOKENS_PER_BATCH` positions (or one row)."""
    group: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    longest = 0
    for row in rows:
        longest = max(longest, len(row[0]))
        if group and longest * (len(group) + 1) > TOKENS_PER_BATCH:
            yield _pad(group)
            group, longest = [], len(row[0])
        group.append(row)
    if group:
        yield _pad(group)


def _pad(rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Batch:
    longest = max(len(row[0]) for row in rows)
    columns = []
    for column, filler in enumerate((EOS, IGNORE, -1)):
        padded = np.full((len(rows), longest), filler, dtype=np.int64)
        for values, row in zip(padded, rows, strict=True):
            values[: len(row[column])] = row[column]
        columns.append(torch.from_numpy(padded))
    return Batch(*columns)
