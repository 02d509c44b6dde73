"""`sbp export-hf` writes what `load_hf` reads, with the tokenizer that lies beside the model."""

import torch

from sbp_bayes.base.store import read_json
from sbp_bayes.corpus import Tokenizer, train_tokenizer
from sbp_bayes.lm import PRESETS, Transformer, load_hf, save_model

MODEL = PRESETS["smoke"]


def test_a_model_is_exported_with_its_tokenizer(tmp_path, sbp):
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
