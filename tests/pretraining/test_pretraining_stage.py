"""The stage: what it leaves, that its arms differ in the share alone, and that it resumes to the bit."""

import dataclasses
import multiprocessing
import signal

import numpy as np
import pytest
import torch
from tiny_pretraining import corpus_of, killed_pretraining, pretrain_tiny, tiny_config, tiny_tokenizer

from sbp_bayes.base.errors import ConfigError, CorpusError, StoreError
from sbp_bayes.base.records import IGNORE
from sbp_bayes.base.stage import Workspace, read_manifest
from sbp_bayes.base.store import read_json_lines
from sbp_bayes.corpus import Tokenizer, rows_of, train_tokenizer
from sbp_bayes.lm import load_model
from sbp_bayes.pretraining import synthetic_tokens_needed
from sbp_bayes.pretraining.pretrain import build_mixture

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["sbp_bayes.pretraining", "torch._dynamo"])  # which AdamW imports


def losses(directory):
    names = ("loss_nats_per_token", "validation_nats_per_token", "gradient_norm")
    return [[record.get(name) for name in names] for record in read_json_lines(directory / "metrics.jsonl")]


def weights(directory):
    return [(directory / name / "model.safetensors").read_bytes() for name in ("best", "last")]


def test_manifest_counts_and_files(tmp_path) -> None:
    manifest = pretrain_tiny(tmp_path, synthetic_share=0.25)
    config, real, synthetic = tiny_config(), corpus_of("real", 20), corpus_of("synthetic", 40)
    counts = manifest.counts
    assert counts["num_steps"] == 12
    assert counts["num_tokens"] == 12 * 4 * 32
    assert counts["tokens_by_source"] == {"real": 36 * 32, "synthetic": 12 * 32}
    assert counts["epochs_by_source"] == {
        "real": 36 * 32 / real.num_tokens,
        "synthetic": 12 * 32 / synthetic.num_tokens,
    }
    steps = [record for record in read_json_lines(tmp_path / "metrics.jsonl") if "mfu" in record]
    assert steps[-1].keys() == {
        "step", "tokens", "tokens_by_source", "epochs_by_source", "loss_nats_per_token", "learning_rate",
        "gradient_norm", "tokens_per_second", "mfu",
    }  # fmt: skip
    assert len(steps) == 12
    for name in ("tokens_by_source", "epochs_by_source"):
        assert steps[-1][name] == counts[name]
    num_parameters = sum(p.numel() for p in load_model(tmp_path / "best").parameters())
    assert counts["num_parameters"] == num_parameters
    validations = sum("validation_nats_per_token" in r for r in read_json_lines(tmp_path / "metrics.jsonl"))
    assert counts["validated_tokens"] == validations * corpus_of("validation", 9).num_tokens > 0
    assert manifest.flops == num_parameters * (6 * 12 * 4 * 32 + 2 * counts["validated_tokens"])
    assert Tokenizer.load(tmp_path / "tokenizer.json").fingerprint == tiny_tokenizer().fingerprint
    assert load_model(tmp_path / "last").config == config.model
    assert read_manifest(tmp_path) == manifest


def test_validation_loss_is_that_of_the_best_weights(tmp_path) -> None:
    """The second road: softmax over whole logits, one window at a time."""
    manifest = pretrain_tiny(tmp_path)
    model, nats, count = load_model(tmp_path / "best"), 0.0, 0
    for window in rows_of(corpus_of("validation", 9), 32):
        with torch.no_grad():
            log_probs = model(torch.from_numpy(window.inputs)[None])[0].double().log_softmax(-1)
        for position, target in enumerate(window.targets):
            if target != IGNORE:
                nats, count = nats - log_probs[position, target].item(), count + 1
    assert count == corpus_of("validation", 9).num_tokens
    assert manifest.counts["best_validation_nats_per_token"] == pytest.approx(nats / count, rel=1e-5)


def test_a_share_of_zero_is_the_baseline(tmp_path) -> None:
    plans = [
        pretrain_tiny(tmp_path / "none", synthetic=None).fingerprint,
        pretrain_tiny(tmp_path / "ignored", synthetic_share=0.0).fingerprint,
    ]
    assert plans[0] == plans[1]
    assert losses(tmp_path / "none") == losses(tmp_path / "ignored")
    assert weights(tmp_path / "none") == weights(tmp_path / "ignored")


def test_arms_read_the_real_text_in_one_order() -> None:
    real, synthetic = corpus_of("real", 20), corpus_of("synthetic", 40)
    baseline = build_mixture(tiny_config(), real, None)
    mixed = build_mixture(tiny_config(synthetic_share=0.5), real, synthetic)
    rows = torch.cat([mixed.batch(step).inputs[:2] for step in range(12)])
    assert torch.equal(rows, torch.cat([baseline.batch(step).inputs for step in range(6)]))
    other = build_mixture(tiny_config(seed=1), real, None)
    assert not torch.equal(other.batch(0).inputs, baseline.batch(0).inputs)


@pytest.mark.parametrize("step", [1, 7])
def test_sigkill_and_resume_equal_the_uninterrupted_run(tmp_path, step) -> None:
    process = FORK.Process(target=killed_pretraining, args=(tmp_path / "killed", step))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()
    resumed = pretrain_tiny(tmp_path / "killed", synthetic_share=0.5)
    whole = pretrain_tiny(tmp_path / "whole", synthetic_share=0.5)
    for key in ("fingerprint", "inputs", "config", "counts", "flops"):
        assert getattr(resumed, key) == getattr(whole, key)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_dropout_resumes_to_the_bit(tmp_path) -> None:
    """Each step draws its own numbers, so that a kill changes none; validation draws none."""
    process = FORK.Process(target=killed_pretraining, args=(tmp_path / "killed", 7), kwargs={"dropout": 0.3})
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    for name in ("killed", "whole"):
        pretrain_tiny(tmp_path / name, synthetic_share=0.5, dropout=0.3)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    pretrain_tiny(tmp_path / "without", synthetic_share=0.5)
    assert losses(tmp_path / "without")[0] == losses(tmp_path / "whole")[0]  # the validation before any step
    assert losses(tmp_path / "without")[1] != losses(tmp_path / "whole")[1]


def test_a_finished_folder_is_returned_and_another_plan_refused(tmp_path) -> None:
    manifest = pretrain_tiny(tmp_path)
    assert pretrain_tiny(tmp_path) == manifest
    with pytest.raises(StoreError, match=r"another plan \(differs in config\.seed = 1 here, 0 in the plan\)"):
        pretrain_tiny(tmp_path, seed=1)
    with pytest.raises(
        StoreError,
        match=r"config\.synthetic_share = 0\.5 here, 0\.0 in the plan; inputs\.synthetic = \w+ here, none in",
    ):
        pretrain_tiny(tmp_path, synthetic_share=0.5)


def test_too_little_synthetic_text_is_said(tmp_path) -> None:
    with pytest.raises(CorpusError, match="the mixture needs 1,536 and repeats none"):
        pretrain_tiny(tmp_path, synthetic=corpus_of("synthetic", 5), synthetic_share=1.0)


def test_too_little_synthetic_text_is_repeated_if_that_is_set(tmp_path) -> None:
    synthetic = corpus_of("synthetic", 5)
    settings = {"synthetic": synthetic, "synthetic_share": 1.0, "repeat_synthetic": True}
    counts = pretrain_tiny(tmp_path, **settings).counts
    assert counts["tokens_by_source"] == {"real": 0, "synthetic": 1536}
    assert counts["epochs_by_source"] == {"real": 0.0, "synthetic": 1536 / synthetic.num_tokens}
    steps = [r for r in read_json_lines(tmp_path / "metrics.jsonl") if "epochs_by_source" in r]
    assert [record["epochs_by_source"]["synthetic"] for record in steps] == [
        128 * step / synthetic.num_tokens for step in range(1, 13)
    ]
    assert steps[-1]["epochs_by_source"]["synthetic"] > 3


@pytest.mark.parametrize("share", [0.0, 0.2, 0.375, 1.0])
def test_the_tokens_needed_are_just_enough(share) -> None:
    config, real, synthetic = (
        tiny_config(synthetic_share=share),
        corpus_of("real", 20),
        corpus_of("synthetic", 90),
    )
    needed = synthetic_tokens_needed(config)
    assert needed == round(share * 48) * 32
    enough = np.searchsorted(np.cumsum(synthetic.lengths + 1), needed) + 1
    build_mixture(config, real, synthetic.select(np.arange(enough)))
    if share > 0:
        with pytest.raises(CorpusError, match=f"needs {needed:,}"):
            build_mixture(config, real, synthetic.select(np.arange(enough - 1)))


def test_a_workspace_shares_the_baseline_and_parts_the_arms(tmp_path) -> None:
    place = Workspace(tmp_path)
    baseline = pretrain_tiny(place, synthetic=None)
    assert pretrain_tiny(place) == baseline
    oracle = pretrain_tiny(place, real=corpus_of("more", 30), label="oracle")
    assert {path.name for path in tmp_path.iterdir()} == {baseline.directory.name, oracle.directory.name}


def test_an_empty_validation_corpus_is_said(tmp_path) -> None:
    with pytest.raises(CorpusError, match="the validation corpus holds no documents"):
        pretrain_tiny(tmp_path, validation=corpus_of("validation", 0))


def test_another_vocabulary_is_said(tmp_path) -> None:
    other = train_tokenizer(["some other text"], 259)
    with pytest.raises(ConfigError, match=r"model\.vocab_size = \d+ is not the tokenizer's 259"):
        pretrain_tiny(tmp_path, tokenizer=other)


@pytest.mark.parametrize(
    ("key", "value"),
    [("budget_tokens", 0), ("rows_per_batch", 0), ("synthetic_share", 1.01), ("num_validations", 0)],
)
def test_values_out_of_range_are_named(key, value) -> None:
    with pytest.raises(ConfigError, match=f"^{key} = {value} is out of range"):
        tiny_config(**{key: value})


def test_tokens_outside_the_vocabulary_are_named(tmp_path) -> None:
    real = corpus_of("real", 20)
    foreign = dataclasses.replace(real, tokens=real.tokens + 280)
    for name in ("real", "synthetic", "validation"):
        with pytest.raises(ConfigError, match=rf"the {name} corpus has token \d+, but vocab_size"):
            pretrain_tiny(tmp_path, **{name: foreign})
