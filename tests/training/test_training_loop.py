"""The loop: AdamW by a second road, validation, early stopping, and what goes wrong."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import (
    NUM_STEPS,
    TinyModel,
    TinySource,
    numpy_adamw,
    save_weights,
    tensors_of,
    train_tiny,
    validate,
)

from sbp_bayes.base.errors import ConfigError, TrainingError
from sbp_bayes.base.records import IGNORE, Batch, LossTotals
from sbp_bayes.training import OptimiserConfig, build_optimiser, learning_rate, validation_steps

CONFIG = OptimiserConfig(peak_lr=0.05, weight_decay=0.3, clip_norm=0.5)


def test_weights_equal_adamw_by_hand(tmp_path) -> None:
    """Gradients by autograd at the replayed weights; clipping, schedule, decay and AdamW in NumPy."""
    model, replay, source = TinyModel().double(), TinyModel().double(), TinySource(num_steps=6)
    train_tiny(tmp_path, model=model, source=source, optimiser=CONFIG, validate=None)
    start = {name: p.detach().numpy().copy() for name, p in replay.named_parameters()}
    gradients: dict[str, list[np.ndarray]] = {name: [] for name in start}
    for step in range(7):
        rates = [learning_rate(s, 6, CONFIG) for s in range(step)]
        for name, parameter in replay.named_parameters():
            decay = 0.3 if name == "hidden.weight" else 0.0
            parameter.data = torch.from_numpy(numpy_adamw(start[name], gradients[name], rates, decay, CONFIG))
        loss, count = replay.loss_sum(source.batch(step))
        replay.zero_grad()
        (loss / count).backward()
        norm = math.sqrt(sum(float((p.grad**2).sum()) for p in replay.parameters()))
        for name, parameter in replay.named_parameters():
            # torch's clip_grad_norm_ adds 1e-6 to the norm.
            gradients[name].append(parameter.grad.numpy() * min(1.0, 0.5 / (norm + 1e-6)))
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(
            parameter.detach(), replay.get_parameter(name).detach(), rtol=1e-9, atol=1e-12
        )


def test_records_of_steps_and_validations(tmp_path) -> None:
    result = train_tiny(tmp_path, num_validations=3)
    assert result.history == [
        json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    steps = [record for record in result.history if "learning_rate" in record]
    assert [record["step"] for record in steps] == list(range(1, NUM_STEPS + 1))
    assert [record["tokens"] for record in steps] == [32 * s for s in range(1, NUM_STEPS + 1)]
    assert [r["learning_rate"] for r in steps] == [
        learning_rate(s, NUM_STEPS, OptimiserConfig()) for s in range(NUM_STEPS)
    ]
    validations = [record for record in result.history if "validation_nats_per_token" in record]
    assert [record["step"] for record in validations] == [0, 8, 16, 24]
    best = min(validations, key=lambda record: record["validation_nats_per_token"])
    assert (result.best_step, result.best_nats_per_token) == (best["step"], best["validation_nats_per_token"])
    assert result.loss_nats_per_token == steps[-1]["loss_nats_per_token"]
    assert result.tokens == 32 * NUM_STEPS
    assert all(set(r) >= {"gradient_norm", "tokens_per_second", "loss_nats_per_token"} for r in steps)


def test_first_loss_is_the_mean_over_targets(tmp_path) -> None:
    result = train_tiny(tmp_path, validate=None)
    batch = TinySource().batch(0)
    logits = _log_probs(TinyModel(), batch.inputs)
    losses = [
        -logits[row, time, batch.targets[row, time]]
        for row in range(4)
        for time in range(8)
        if batch.targets[row, time] != IGNORE
    ]
    assert result.history[0]["loss_nats_per_token"] == pytest.approx(
        float(sum(losses) / len(losses)), rel=1e-6
    )


def _log_probs(model, inputs):
    with torch.no_grad():
        states = torch.tanh(model.hidden(model.norm(model.embedding(inputs))))
        return (states @ model.embedding.weight.T).log_softmax(-1)


def test_overfits_one_batch(tmp_path) -> None:
    source = TinySource(num_steps=200)
    source.batch, source.tokens_per_batch = lambda step: _bigram_batch(), 16
    result = train_tiny(tmp_path, source=source, optimiser=OptimiserConfig(peak_lr=0.05), validate=None)
    assert result.loss_nats_per_token < 0.05 * result.history[0]["loss_nats_per_token"]


def _bigram_batch() -> Batch:
    inputs = torch.arange(16).reshape(2, 8)
    return Batch(inputs, (inputs + 3) % 17, torch.zeros_like(inputs))


def _losses(values):
    values = iter(values)
    return lambda model: LossTotals(loss_nats=next(values), num_tokens=1)


def test_patience_stops_and_best_weights_are_kept(tmp_path) -> None:
    saved = {}

    def remember(model, directory):
        saved[directory.name] = model.hidden.weight.detach().clone()
        save_weights(model, directory)

    losses = [5.0, 4.0, 4.5, 3.0, 3.0, 3.5, 2.0, 1.0]
    result = train_tiny(
        tmp_path, validate=_losses(losses), num_validations=12, patience=2, save_weights=remember
    )
    assert (result.best_step, result.best_nats_per_token, result.num_steps) == (6, 3.0, 10)
    shorter = train_tiny(tmp_path / "to the best", source=_until(6), validate=None, save_weights=remember)
    assert shorter.num_steps == 6
    assert tensors_of(tmp_path / "last") != tensors_of(tmp_path / "best")


def _until(step):
    return TinySource(num_steps=step)


def test_no_steps_saves_the_start(tmp_path) -> None:
    for _ in range(2):
        result = train_tiny(tmp_path, source=TinySource(num_steps=0))
        assert (result.num_steps, result.tokens, result.best_step) == (0, 0, 0)
        assert [record["step"] for record in result.history] == [0]
        save_weights(TinyModel(), tmp_path / "start")
        assert (
            tensors_of(tmp_path / "last") == tensors_of(tmp_path / "best") == tensors_of(tmp_path / "start")
        )


def test_without_validation_there_is_no_best(tmp_path) -> None:
    for settings in ({"validate": None}, {"num_validations": 0}):
        directory = tmp_path / "-".join(settings)
        result = train_tiny(directory, **settings)
        assert result.best_step is None
        assert not (directory / "best").exists()
        assert (directory / "last").exists()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_checkpoint(tmp_path, bad) -> None:
    class Poisoned(TinyModel):
        calls = 0

        def loss_sum(self, batch):
            self.calls += 1
            loss, count = super().loss_sum(batch)
            return (loss * bad if self.calls == 8 else loss), count

    message = rf"^step 8, batch 7 \(tokens 224 to 255 of tiny\): the loss is {bad}; .* that of step 7$"
    with pytest.raises(TrainingError, match=message):
        train_tiny(tmp_path, model=Poisoned(), validate=None, checkpoint_seconds=0.0)
    assert (tmp_path / "checkpoints" / "step_000000007.sha256").exists()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 7
    whole = train_tiny(tmp_path / "whole", validate=None)
    train_tiny(tmp_path, validate=None)
    assert tensors_of(tmp_path / "last") == tensors_of(tmp_path / "whole" / "last")
    assert whole.num_steps == NUM_STEPS


def test_a_gradient_that_is_not_finite_is_not_applied(tmp_path) -> None:
    class Steep(TinyModel):
        def loss_sum(self, batch):
            loss, count = super().loss_sum(batch)
            return loss + torch.sqrt(self.hidden.bias * 0.0).sum(), count

    model = Steep()
    with pytest.raises(TrainingError, match=r"step 1, batch 0 .*: the gradient norm is nan"):
        train_tiny(tmp_path, model=model, validate=None)
    assert torch.equal(model.hidden.weight, TinyModel().hidden.weight)


def test_a_validation_loss_that_is_not_finite_is_said(tmp_path) -> None:
    with pytest.raises(TrainingError, match="step 0: the validation loss is nan"):
        train_tiny(tmp_path, validate=_losses([math.nan]))


def test_a_batch_without_targets_is_said(tmp_path) -> None:
    source = TinySource()
    inputs = torch.zeros((2, 3), dtype=torch.int64)
    source.batch = lambda step: Batch(inputs, torch.full_like(inputs, IGNORE), inputs)
    with pytest.raises(TrainingError, match=r"step 1, batch 0 .*: the batch has no target"):
        train_tiny(tmp_path, source=source)


def test_tick_follows_each_checkpoint(tmp_path) -> None:
    ticks = []
    train_tiny(tmp_path, checkpoint_seconds=0.0, tick=lambda: ticks.append(1))
    assert len(ticks) == NUM_STEPS


def test_the_global_generator_is_not_touched(tmp_path) -> None:
    model = TinyModel()
    state = torch.get_rng_state()
    train_tiny(tmp_path, model=model)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_validations", -1), ("patience", 0), ("kept_checkpoints", 0), ("checkpoint_seconds", -1.0)],
)
def test_bad_settings_are_named(tmp_path, key, value) -> None:
    with pytest.raises(ConfigError, match=f"{key} = {value} is out of range"):
        train_tiny(tmp_path, **{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peak_lr", 0.0),
        ("peak_lr", math.inf),
        ("eps", 0.0),
        ("clip_norm", -1.0),
        ("final_lr_ratio", 1.5),
        ("warmup_share", -0.1),
        ("beta1", 1.0),
        ("beta2", -0.1),
        ("weight_decay", -0.1),
        ("weight_decay", math.nan),
        ("decay_share", 1.1),
        ("z_loss", -1e-4),
    ],
)
def test_bad_optimiser_settings_are_named(key, value) -> None:
    with pytest.raises(ConfigError, match=f"{key} = {value!r} is out of range"):
        dataclasses.replace(OptimiserConfig(), **{key: value})


def test_an_unknown_schedule_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="schedule = 'linear': expected one of cosine, wsd"):
        OptimiserConfig(schedule="linear")


def test_decay_spares_vectors_and_embeddings() -> None:
    model = TinyModel()
    groups = build_optimiser(model, CONFIG).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {name: decays[id(p)] for name, p in model.named_parameters()} == {
        "embedding.weight": 0.0,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "hidden.weight": 0.3,
        "hidden.bias": 0.0,
    }


@given(
    num_steps=st.integers(1, 400),
    share=st.floats(0, 1),
    ratio=st.floats(0, 1),
    schedule=st.sampled_from(["cosine", "wsd"]),
)
def test_schedule_rises_to_its_peak_and_falls_to_its_end(num_steps, share, ratio, schedule) -> None:
    config = OptimiserConfig(peak_lr=0.5, warmup_share=share, final_lr_ratio=ratio, schedule=schedule)
    rates = [learning_rate(step, num_steps, config) for step in range(num_steps)]
    warmup = math.ceil(share * num_steps)
    assert all(0 <= rate <= 0.5 for rate in rates)
    assert rates[:warmup] == pytest.approx([0.5 * (i + 1) / warmup for i in range(warmup)])
    falling = rates[max(0, warmup - 1) :]
    assert all(a >= b for a, b in itertools.pairwise(falling))
    if warmup < num_steps:
        assert rates[-1] == pytest.approx(0.5 * ratio)


def test_schedule_is_half_way_down_in_the_middle_of_the_cosine() -> None:
    config = OptimiserConfig(peak_lr=1.0, warmup_share=0.2, final_lr_ratio=0.1)
    assert learning_rate(59, 100, config) == pytest.approx(0.55)


def test_wsd_is_stable_and_then_falls_linearly() -> None:
    config = OptimiserConfig(
        peak_lr=1.0, warmup_share=0.1, final_lr_ratio=0.2, schedule="wsd", decay_share=0.4
    )
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[4] == pytest.approx(0.5)
    assert rates[9:60] == [1.0] * 51
    assert rates[60:] == pytest.approx([1.0 - 0.8 * i / 40 for i in range(1, 41)])
    late = dataclasses.replace(config, warmup_share=0.7)
    assert learning_rate(69, 100, late) == 1.0
    assert learning_rate(84, 100, late) == pytest.approx(0.6)


@given(num_steps=st.integers(0, 500), num_validations=st.integers(1, 40))
def test_validation_steps_are_even_and_hold_both_ends(num_steps, num_validations) -> None:
    steps = sorted(validation_steps(num_steps, num_validations))
    assert {0, num_steps} <= set(steps)
    assert len(steps) == min(num_steps, num_validations) + 1
    gaps = [b - a for a, b in itertools.pairwise(steps)]
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert validation_steps(num_steps, 0) == frozenset()


def test_validate_sees_the_model_without_gradients(tmp_path) -> None:
    model = TinyModel()
    train_tiny(tmp_path, model=model, validate=validate)
    assert model.training
