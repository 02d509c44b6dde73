"""Scores equal the model's log-probabilities and do not depend on how rows are grouped."""

import numpy as np
import pytest
import torch

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.records import EOS, IGNORE, Batch
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.lm import PRESETS, Transformer, log_prob_documents, score_rows
from sbp_bayes.lm import score as score_module


@pytest.fixture(scope="module")
def model() -> Transformer:
    return Transformer(PRESETS["smoke"], seed=3)


def ragged_rows(num_rows: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rng = numpy_generator(4)
    rows = []
    for _ in range(num_rows):
        length = int(rng.integers(1, 65))
        targets = np.where(rng.random(length) < 0.3, IGNORE, rng.integers(2, 512, size=length))
        rows.append((rng.integers(2, 512, size=length), targets, (rng.random(length) < 0.1).cumsum()))
    return rows


@pytest.mark.parametrize("together", [7, 4096])
def test_rows_score_as_they_do_alone(
    model: Transformer, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    rows = ragged_rows(30)
    monkeypatch.setattr(score_module, "TOKENS_PER_BATCH", 200)
    monkeypatch.setattr(score_module, "SORTED_TOGETHER", together)
    nats, counts = score_rows(model, iter(rows))
    for (inputs, targets, segments), row_nats, count in zip(rows, nats, counts, strict=True):
        logits = model(torch.tensor(inputs)[None], torch.tensor(segments)[None])[0].detach()
        expected = torch.nn.functional.cross_entropy(
            logits, torch.tensor(targets), reduction="sum", ignore_index=IGNORE
        )
        assert row_nats == pytest.approx(float(expected), rel=1e-5, abs=1e-6)
        assert count == (targets != IGNORE).sum()


def test_rows_of_like_length_share_a_batch(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, positions = ragged_rows(300), []
    monkeypatch.setattr(score_module, "TOKENS_PER_BATCH", 1000)
    score_batch = score_module.score_batch

    def counted(model: Transformer, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        positions.append(batch.inputs.numel())
        return score_batch(model, batch)

    monkeypatch.setattr(score_module, "score_batch", counted)
    score_rows(model, rows)
    assert sum(positions) < 1.2 * sum(len(row[0]) for row in rows)


def test_a_document_is_scored_with_its_end(model: Transformer) -> None:
    document = np.array([5, 6, 7])
    log_probs = model(torch.tensor([[EOS, 5, 6, 7]]))[0].detach().log_softmax(dim=-1)
    expected = float(log_probs[range(4), [5, 6, 7, EOS]].sum())
    assert log_prob_documents(model, [document]) == pytest.approx([expected], rel=1e-5)


def test_nothing_scores_nothing_and_too_long_is_refused(model: Transformer) -> None:
    nats, counts = score_rows(model, [])
    assert len(nats) == len(counts) == 0
    with pytest.raises(ConfigError, match="document 1 of 64 tokens and EOS exceeds context_length = 64"):
        log_prob_documents(model, [np.array([3]), np.full(64, 3)])
