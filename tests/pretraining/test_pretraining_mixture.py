"""The mixture: exact shares in every prefix, no synthetic row twice unasked, a share of 0 is the baseline."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.base.records import EOS
from sbp_bayes.corpus import Corpus, Document, EpochStream
from sbp_bayes.pretraining import Mixture, steps_of_budget

SYNTHETIC = 1_000_000


@dataclasses.dataclass(frozen=True)
class CountingStream:
    """A stream whose row r is the number r (plus `first`) throughout."""

    num_tokens: int = 1000
    context_length: int = 4
    first: int = 0

    @property
    def fingerprint(self) -> str:
        return repr(self)

    @property
    def rows_per_epoch(self) -> int:
        return self.num_tokens // self.context_length

    def epoch_of(self, row: int) -> float:
        return row * self.context_length / self.num_tokens

    def row(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inputs = np.full(self.context_length, self.first + row)
        return inputs, inputs + 1, np.zeros_like(inputs)


def mixture_of(share: float, num_steps: int, rows: int, repeats: bool = False, **synthetic: int) -> Mixture:
    stream = CountingStream(**({"num_tokens": 4 * num_steps * rows + 4, "first": SYNTHETIC} | synthetic))
    sizes = {"synthetic_share": share, "num_steps": num_steps, "rows_per_batch": rows}
    return Mixture(CountingStream(), stream, **sizes, repeat_synthetic=repeats)


@given(share=st.floats(0, 1), num_steps=st.integers(1, 60), rows=st.integers(1, 12))
def test_every_prefix_has_the_share_and_no_row_is_skipped_or_repeated(share, num_steps, rows) -> None:
    mixture = mixture_of(share, num_steps, rows)
    seen: dict[bool, list[int]] = {False: [], True: []}
    for step in range(num_steps):
        batch = mixture.batch(step)
        assert batch.inputs.shape == batch.targets.shape == batch.segments.shape == (rows, 4)
        assert torch.equal(batch.targets, batch.inputs + 1)
        for number in batch.inputs[:, 0].tolist():
            seen[number >= SYNTHETIC].append(number)
        assert abs(len(seen[True]) - share * (step + 1) * rows) <= 1
        tokens = {"real": 4 * len(seen[False]), "synthetic": 4 * len(seen[True])}
        assert mixture.tokens_by_source(step + 1) == tokens
        epochs = {
            "real": tokens["real"] / 1000,
            "synthetic": tokens["synthetic"] / (4 * num_steps * rows + 4),
        }
        assert mixture.epochs_by_source(step + 1) == epochs
    assert seen[False] == list(range(len(seen[False])))
    assert seen[True] == list(range(SYNTHETIC, SYNTHETIC + len(seen[True])))
    assert len(seen[True]) == round(share * num_steps * rows)


def test_a_share_of_zero_is_the_baseline() -> None:
    baseline = Mixture(CountingStream(), synthetic_share=0.0, num_steps=7, rows_per_batch=3)
    mixture = mixture_of(0.0, 7, 3)
    assert mixture.fingerprint == baseline.fingerprint
    for step in range(7):
        expected = torch.arange(3 * step, 3 * step + 3)[:, None].expand(3, 4)
        assert torch.equal(mixture.batch(step).inputs, expected)
        assert torch.equal(baseline.batch(step).inputs, expected)


def test_fingerprint_follows_all_that_changes_the_batches() -> None:
    first = mixture_of(0.5, 8, 4)
    mixtures = [
        first,
        mixture_of(0.25, 8, 4),
        mixture_of(0.5, 4, 8),
        mixture_of(0.5, 8, 4, num_tokens=800),
        Mixture(CountingStream(first=7), first.synthetic, synthetic_share=0.5, num_steps=8, rows_per_batch=4),
    ]
    assert len({mixture.fingerprint for mixture in mixtures}) == len(mixtures)
    assert mixture_of(0.5, 8, 4).fingerprint == first.fingerprint


def test_synthetic_text_is_not_repeated_unasked() -> None:
    assert mixture_of(0.5, 10, 4, num_tokens=80).num_synthetic_rows == 20
    message = (
        "holds 79 tokens, but the mixture needs 80 and repeats none: "
        "generate more, lower synthetic_share, or set repeat_synthetic$"
    )
    with pytest.raises(CorpusError, match=message):
        mixture_of(0.5, 10, 4, num_tokens=79)


def test_permission_to_repeat_changes_nothing_where_there_is_enough() -> None:
    allowed, refused = (mixture_of(0.5, 10, 4, repeats, num_tokens=80) for repeats in (True, False))
    assert allowed.fingerprint == refused.fingerprint
    for step in range(10):
        assert torch.equal(allowed.batch(step).inputs, refused.batch(step).inputs)
    assert allowed.epochs_by_source(10)["synthetic"] == 1.0


@given(num_documents=st.integers(1, 7), share=st.floats(0.1, 1), seed=st.integers(0, 3))
def test_repeated_synthetic_text_is_counted_to_the_token(num_documents, share, seed) -> None:
    """Every epoch has each document once, and epochs are positions over tokens."""
    documents = [Document(id=str(i), text="text", source="test") for i in range(num_documents)]
    tokens = [np.full(1 + i % 3, SYNTHETIC + i) for i in range(num_documents)]
    corpus = Corpus.from_tokens(documents, tokens, vocab_size=2 * SYNTHETIC)
    synthetic = EpochStream(corpus, seed, 4)
    sizes = {"synthetic_share": share, "num_steps": 25, "rows_per_batch": 6}
    mixture = Mixture(CountingStream(), synthetic, **sizes, repeat_synthetic=True)
    read: list[int] = []
    for step in range(25):
        inputs = mixture.batch(step).inputs
        read += inputs[(inputs >= SYNTHETIC).any(dim=1)].flatten().tolist()
        assert mixture.tokens_by_source(step + 1) == {
            "real": 24 * (step + 1) - len(read),
            "synthetic": len(read),
        }
        assert mixture.epochs_by_source(step + 1)["synthetic"] == len(read) / corpus.num_tokens
    assert len(read) == 4 * round(share * 150) >= 2 * corpus.num_tokens
    for start in range(0, len(read) - corpus.num_tokens + 1, corpus.num_tokens):
        epoch = read[start : start + corpus.num_tokens]
        assert sorted(token for token in epoch if token != EOS) == sorted(np.concatenate(tokens))


@given(share=st.floats(0, 1), num_steps=st.integers(1, 30), rows=st.integers(1, 8))
def test_synthetic_rows_may_come_first(share, num_steps, rows) -> None:
    """As many of them as mixed, all before the first real row; both streams from their beginning."""
    sizes = {"synthetic_share": share, "num_steps": num_steps, "rows_per_batch": rows}
    synthetic = CountingStream(num_tokens=4 * num_steps * rows + 4, first=SYNTHETIC)
    first = Mixture(CountingStream(), synthetic, **sizes, order="synthetic_first")
    mixed = Mixture(CountingStream(), synthetic, **sizes)
    assert first.tokens_by_source(num_steps) == mixed.tokens_by_source(num_steps)
    assert first.fingerprint != mixed.fingerprint
    read = [sorted(first.batch(step).inputs[:, 0].tolist(), reverse=True) for step in range(num_steps)]
    order = [number >= SYNTHETIC for batch in read for number in batch]
    assert order == sorted(order, reverse=True)
    for real in (False, True):
        numbers = sorted(n % SYNTHETIC for batch in read for n in batch if (n < SYNTHETIC) == real)
        assert numbers == list(range(len(numbers)))


def test_no_steps_have_no_rows() -> None:
    mixture = mixture_of(0.5, 0, 4)
    assert mixture.tokens_by_source(0) == {"real": 0, "synthetic": 0}


def test_a_share_needs_a_synthetic_corpus() -> None:
    with pytest.raises(ConfigError, match=r"synthetic_share = 0\.1 needs a synthetic corpus"):
        Mixture(CountingStream(), None, synthetic_share=0.1, num_steps=1, rows_per_batch=1)


def test_streams_of_two_context_lengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="context_length = 5 of the synthetic stream differs"):
        mixture_of(0.5, 2, 2, context_length=5)


@pytest.mark.parametrize(
    ("share", "steps", "rows", "key"),
    [(-0.1, 1, 1, "synthetic_share"), (1.1, 1, 1, "synthetic_share"), (0.0, -1, 1, "num_steps"),
     (0.0, 1, 0, "rows_per_batch")],
)  # fmt: skip
def test_values_out_of_range_are_named(share, steps, rows, key) -> None:
    with pytest.raises(ConfigError, match=f"^{key} = "):
        Mixture(
            CountingStream(), CountingStream(), synthetic_share=share, num_steps=steps, rows_per_batch=rows
        )


@given(budget=st.integers(1, 10**12), rows=st.integers(1, 100), length=st.integers(1, 1000))
def test_steps_are_the_most_that_fit_the_budget(budget, rows, length) -> None:
    if budget < rows * length:
        with pytest.raises(ConfigError, match="is less than one step"):
            steps_of_budget(budget, rows, length)
    else:
        steps = steps_of_budget(budget, rows, length)
        assert steps * rows * length <= budget < (steps + 1) * rows * length
