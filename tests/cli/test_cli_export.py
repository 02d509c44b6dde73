"""`sbp export-hf` writes what `load_hf` and `--model` read, with the tokenizer that lies beside the model."""

import os
import stat

import pytest
import torch

from sbp_bayes.base.store import read_json
from sbp_bayes.corpus import Corpus, Tokenizer, train_tokenizer
from sbp_bayes.lm import PRESETS, Transformer, load_hf, load_model, save_model
from sbp_bayes.pairing import PairSet

MODEL = PRESETS["smoke"]


def modes(folder):
    """The permissions of all files below a folder."""
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def umask():
    """A way to set the umask, which the test's end undoes."""
    former = os.umask(0o022)
    yield os.umask
    os.umask(former)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_a_model_is_exported_with_its_tokenizer(tmp_path, sbp, umask, mask, mode):
    umask(mask)
    model, tokenizer = Transformer(MODEL, seed=3), train_tokenizer(["to be or not to be"], 260)
    save_model(model, tmp_path / "training" / "best")
    out = tmp_path / "new" / "exported"
    alone = sbp("export-hf", tmp_path / "training" / "best", "--out", out)
    assert alone == f"export-hf: 41,184 parameters, no tokenizer beside the model, in {out}\n"
    tokenizer.save(tmp_path / "training" / "tokenizer.json")
    for _ in range(2):  # an export can be repeated
        beside = sbp("export-hf", tmp_path / "training" / "best", "--out", out)
        assert f"tokenizer {tmp_path / 'training' / 'tokenizer.json'}, in {out}" in beside
    back, inputs = load_hf(out), torch.arange(40)[None]
    with torch.no_grad():
        assert torch.equal(back(inputs), model(inputs))
    assert Tokenizer.load(out / "tokenizer.json").vocab_size == tokenizer.vocab_size
    assert read_json(out / "generation_config.json")["eos_token_id"] == 0
    assert modes(tmp_path) == {mode}


def test_an_export_serves_wherever_a_model_does(tmp_path, texts, sbp, mistake, umask):
    w = tmp_path
    umask(0o027)
    sbp("corpus", texts, "--vocab-size", 400, "--out", w / "corpus", "--set", "validation_share=0.1")
    sbp("pair", w / "corpus", "--alpha", 0.1, "-k", 4, "--set", "embedder.dimension=8", "--out", w / "pairs")
    validations = ("--set", "num_validations=1")
    train = ("--preset", "smoke", "--rows-per-batch", 8, *validations)
    sbp("pretrain", w / "corpus", *train, "--budget-tokens", 2048, "--out", w / "ours")
    sbp("export-hf", w / "ours", "--out", w / "theirs")
    for model in ("ours", "theirs"):
        sbp("evaluate", w / "corpus", "--model", w / model, "--out", w / f"scores_{model}")
        tune = ("--pairs", w / "pairs", "--epochs", 0.02, "--max-document-tokens", 31, *validations)
        sbp("tune", w / "corpus", *tune, "--model", w / model, "--out", w / f"tuned_{model}")
        sample = ("--tokens", 300, "--workers", 1, "--set", "shard_size=16")
        sbp("synthesize", texts, "--model", w / model, *sample, "--out", w / f"synthetic_{model}")
        own = ("--embedder", "self", "--model", w / model, "--set", "rules.alpha=0.0", "-k", 4)
        sbp("pair", w / "corpus", *own, "--out", w / f"pairs_{model}")
    pairs = [PairSet.load(w / f"pairs_{model}" / "train") for model in ("ours", "theirs")]
    assert len(pairs[0].first) > 0
    for name in ("first", "second", "similarity"):
        assert (getattr(pairs[0], name) == getattr(pairs[1], name)).all()
    scores = [read_json(w / f"scores_{model}" / "manifest.json")["counts"] for model in ("ours", "theirs")]
    assert scores[0] == scores[1]
    tuned = [load_model(w / f"tuned_{model}" / "best") for model in ("ours", "theirs")]
    torch.testing.assert_close(tuned[0].state_dict(), tuned[1].state_dict(), rtol=1e-4, atol=1e-5)
    synthetic = [Corpus.load(w / f"synthetic_{model}" / "corpus") for model in ("ours", "theirs")]
    assert synthetic[0].fingerprint == synthetic[1].fingerprint
    assert modes(w) == {0o640}  # of every stage
    sbp("corpus", texts, "--vocab-size", 300, "--out", w / "other")
    line = mistake("evaluate", w / "other", "--model", w / "theirs", "--out", w / "no")
    assert line.startswith("the corpus was made with another tokenizer than the model's")


def test_mistakes_are_named_and_leave_nothing(tmp_path, mistake):
    save_model(Transformer(MODEL), tmp_path / "model")
    assert (
        mistake("export-hf", tmp_path / "gone", "--out", tmp_path / "out")
        == f"{tmp_path}/gone: no such model"
    )
    line = mistake("export-hf", tmp_path / "model", "--out", tmp_path)
    assert line == f"cannot write {tmp_path}: it holds other files already, model for one"
    line = mistake("export-hf", tmp_path / "model", "--out", tmp_path / "model" / "config.json")
    assert line == f"cannot write {tmp_path}/model/config.json: Not a directory"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
