"""Pairs in rows: every pair once, loss on d2 alone, company without effect, batches pure."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.base.records import EOS, IGNORE, SEP
from sbp_bayes.corpus import Corpus, Document
from sbp_bayes.lm import LMConfig, Transformer
from sbp_bayes.synthesizer import PackedPairs, PairRows, pair_loss
from sbp_bayes.synthesizer.rows import best_fit_decreasing

VOCAB_SIZE = 32


def random_corpus(num_documents, seed=0, shortest=0, longest=12):
    generator = np.random.default_rng(seed)
    tokens = [
        generator.integers(2, VOCAB_SIZE, generator.integers(shortest, longest + 1))
        for _ in range(num_documents)
    ]
    documents = [Document(id=f"d{i}", text=f"text {i}", source="test") for i in range(num_documents)]
    complete = generator.random(num_documents) < 0.7
    return Corpus.from_tokens(documents, tokens, vocab_size=VOCAB_SIZE, complete=complete)


def random_pairs(num_documents, num_pairs, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(num_documents, size=(2, num_pairs))


def tiny_model(context_length=64):
    shape = {"width": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_width": 8}
    config = LMConfig(vocab_size=VOCAB_SIZE, context_length=context_length, hidden_width=32, **shape)
    return Transformer(config, seed=1)


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), max_size=60), spare=st.integers(0, 20))
def test_packing_places_each_item_once_within_capacity(lengths, spare):
    capacity = max(lengths, default=1) + spare
    bins = best_fit_decreasing(np.array(lengths, np.int64), capacity)
    assert sorted(item for members in bins for item in members) == list(range(len(lengths)))
    rooms = [capacity - sum(lengths[item] for item in members) for members in bins]
    assert min(rooms, default=0) >= 0
    # Two bins of which the second would have fitted into the first are never left.
    assert sum(2 * room >= capacity for room in rooms) <= 1


def test_an_item_goes_where_least_room_is_left():
    assert best_fit_decreasing(np.array([5, 7, 3]), 10) == [[1, 2], [0]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), limit=st.integers(1, 14))
def test_rows_hold_every_pair_as_its_own_segment(seed, limit):
    corpus = random_corpus(10, seed)
    first, second = random_pairs(10, 25, seed)
    packed = PackedPairs(corpus, first, second, limit)
    batch = packed.batch(np.arange(len(packed)))
    assert batch.inputs.shape == batch.targets.shape == batch.segments.shape == (len(packed), 2 * limit + 2)
    assert batch.inputs.dtype == batch.targets.dtype == batch.segments.dtype == torch.int64
    found = []
    for inputs, targets, segments in zip(
        *(part.numpy() for part in (batch.inputs, batch.targets, batch.segments)), strict=True
    ):
        assert (np.diff(segments[segments >= 0]) >= 0).all()
        assert (targets[segments < 0] == IGNORE).all()
        for segment in range(segments.max() + 1):
            found.append((tuple(inputs[segments == segment]), tuple(targets[segments == segment])))
    wanted = []
    for i, j in zip(first, second, strict=True):
        d1, d2 = corpus.document(i)[:limit].tolist(), corpus.document(j)[:limit].tolist()
        ends = corpus.complete[j] and len(corpus.document(j)) <= limit
        wanted.append(((EOS, *d1, SEP, *d2), (*[IGNORE] * (len(d1) + 1), *d2, EOS if ends else IGNORE)))
    assert sorted(found) == sorted(wanted)
    assert packed.num_positions == sum(len(inputs) for inputs, _ in wanted)
    assert packed.padding_share == pytest.approx(float((batch.segments < 0).double().mean()))


def test_loss_of_packed_rows_is_that_of_each_pair_alone():
    corpus, (first, second) = random_corpus(10, shortest=1), random_pairs(10, 25)
    model = tiny_model()
    packed = PackedPairs(corpus, first, second, 8)
    assert len(packed) < 25
    nats, targets = 0.0, 0
    for i, j in zip(first, second, strict=True):
        d1, d2 = corpus.document(i)[:8], corpus.document(j)[:8]
        log_probs = model(torch.tensor([[EOS, *d1, SEP, *d2]]))[0].detach().double().log_softmax(1)
        following = [*d2, EOS] if corpus.complete[j] and len(corpus.document(j)) <= 8 else [*d2]
        nats -= sum(float(log_probs[len(d1) + 1 + t, token]) for t, token in enumerate(following))
        targets += len(following)
    for rows_per_batch in (1, 4, 100):
        loss = pair_loss(model, packed, rows_per_batch)
        assert loss.loss_nats == pytest.approx(nats, rel=1e-5)
        assert loss.num_tokens == targets


def test_epochs_show_every_row_once_in_a_new_order():
    packed = PackedPairs(random_corpus(20), *random_pairs(20, 120), 6)
    rows = PairRows(packed, num_epochs=3, rows_per_batch=1, seed=0, pairs_fingerprint="p")
    assert rows.num_steps == 3 * len(packed)
    epochs = [
        [rows.batch(step).inputs.numpy().tobytes() for step in range(e * len(packed), (e + 1) * len(packed))]
        for e in range(3)
    ]
    assert epochs[0] != epochs[1] != epochs[2]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])


def test_a_batch_is_a_function_of_its_step():
    packed = PackedPairs(random_corpus(20), *random_pairs(20, 120), 6)
    settings = {"num_epochs": 2.5, "rows_per_batch": 7, "pairs_fingerprint": "p"}
    rows = PairRows(packed, seed=0, **settings)
    assert 7 * (rows.num_steps - 1) < 2.5 * len(packed) <= 7 * rows.num_steps
    forward = [rows.batch(step).inputs for step in range(rows.num_steps)]
    fresh = PairRows(packed, seed=0, **settings)
    backward = [fresh.batch(step).inputs for step in reversed(range(rows.num_steps))]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    assert rows.fingerprint == fresh.fingerprint
    other = PairRows(packed, seed=1, **settings)
    assert other.fingerprint != rows.fingerprint
    assert not torch.equal(other.batch(0).inputs, forward[0])
    whole = torch.cat(forward)[: len(packed)]
    every = packed.batch(np.arange(len(packed))).inputs
    assert sorted(whole.tolist()) == sorted(every.tolist())


def test_word_dropout_hides_what_is_read_and_nothing_that_is_predicted():
    packed = PackedPairs(random_corpus(200, longest=30), *random_pairs(200, 2000), 30)
    settings = {"num_epochs": 1, "rows_per_batch": len(packed), "pairs_fingerprint": "p", "seed": 3}
    whole = PairRows(packed, **settings).batch(0)
    rows = PairRows(packed, word_dropout=0.3, **settings)
    thinned = rows.batch(0)
    assert torch.equal(thinned.targets, whole.targets)
    assert torch.equal(thinned.segments, whole.segments)
    is_token = whole.inputs > SEP
    assert torch.equal(thinned.inputs[~is_token], whole.inputs[~is_token])
    hidden = thinned.inputs[is_token] != whole.inputs[is_token]
    assert (thinned.inputs[is_token][hidden] == EOS).all()
    error = (0.3 * 0.7 / len(hidden)) ** 0.5
    assert abs(float(hidden.double().mean()) - 0.3) < 4 * error
    assert torch.equal(rows.batch(0).inputs, thinned.inputs)
    assert rows.fingerprint != PairRows(packed, **settings).fingerprint
    pieces = PairRows(packed, word_dropout=0.3, **settings | {"rows_per_batch": 1})
    assert not torch.equal(pieces.batch(0).inputs == EOS, pieces.batch(1).inputs == EOS)


def test_packing_leaves_little_padding():
    packed = PackedPairs(random_corpus(200, longest=60), *random_pairs(200, 2000), 100)
    assert packed.padding_share < 0.02


def test_bad_pairs():
    corpus = random_corpus(4)
    nothing = np.zeros(0, np.int64)
    with pytest.raises(CorpusError, match="no pairs"):
        PackedPairs(corpus, nothing, nothing, 8)
    with pytest.raises(ConfigError, match="max_document_tokens = 0"):
        PackedPairs(corpus, *random_pairs(4, 3), 0)
