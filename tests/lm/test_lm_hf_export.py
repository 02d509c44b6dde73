"""An export passes transformers' own checks: shards, generation, tokenizer and card."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from hf_models import SMALL, TEXTS, random_model

from sbp_bayes.base.errors import ConfigError, StoreError
from sbp_bayes.corpus import Tokenizer
from sbp_bayes.lm import export_hf, load_hf, load_model, model_fingerprint

SHARD = 20_000
TOKENS = torch.arange(60)[None]


def test_large_weights_are_written_in_shards(tmp_path: Path, transformers: ModuleType) -> None:
    """Read by transformers and by us to the bit; no shard is larger than asked, but for one large tensor."""
    model = random_model()
    export_hf(model, tmp_path, file_bytes=SHARD)
    files = sorted(tmp_path.glob("model-*.safetensors"))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(files) > 3
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    assert not (tmp_path / "model.safetensors").exists()
    assert index["metadata"]["total_size"] == sum(p.nbytes for p in model.parameters())
    assert set(index["weight_map"].values()) == {file.name for file in files}
    header = 4096
    largest = max(p.nbytes for p in model.parameters())
    assert all(file.stat().st_size <= max(SHARD, largest) + header for file in files)
    assert torch.equal(load_hf(tmp_path)(TOKENS), model(TOKENS))
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    torch.testing.assert_close(theirs(TOKENS).logits, model(TOKENS), rtol=1e-5, atol=1e-5)
    export_hf(model, tmp_path)  # one file again: no shard and no index is left
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert torch.equal(load_model(tmp_path)(TOKENS), model(TOKENS))
    with pytest.raises(ConfigError, match="file_bytes = 0"):
        export_hf(model, tmp_path, file_bytes=0)


def test_shards_of_an_earlier_export_are_replaced(tmp_path: Path) -> None:
    export_hf(random_model(), tmp_path / "a", file_bytes=SHARD)
    before = model_fingerprint(tmp_path / "a")
    export_hf(random_model(seed=2), tmp_path / "a", file_bytes=3 * SHARD)
    assert model_fingerprint(tmp_path / "a") != before
    assert torch.equal(load_hf(tmp_path / "a").final_norm, random_model(seed=2).final_norm)


@pytest.mark.parametrize("name", ["README.md", "tokenizer.json", "model-00001-of-00002.safetensors"])
def test_a_folder_that_is_no_export_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(StoreError, match="it holds other files already"):
        export_hf(random_model(), tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_theirs_written_again_is_ours_again(
    tmp_path: Path, transformers: ModuleType, tokenizer: Tokenizer
) -> None:
    export_hf(random_model(), tmp_path / "a", tokenizer, file_bytes=SHARD)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    theirs.generation_config.validate(strict=True)
    theirs.save_pretrained(tmp_path / "b", max_shard_size="30KB")
    assert torch.equal(load_hf(tmp_path / "b")(TOKENS), random_model()(TOKENS))


def test_the_tokenizer_survives_a_round_trip(
    tmp_path: Path, transformers: ModuleType, tokenizer: Tokenizer
) -> None:
    export_hf(random_model(), tmp_path / "a", tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "a")
    theirs.save_pretrained(tmp_path / "b")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "b")
    texts = [*TEXTS, "", "<|endoftext|> in a text", "Ünïcödé 語"]
    for text, tokens in zip(texts, tokenizer.encode(texts), strict=True):
        assert again(text).input_ids == theirs(text).input_ids == [0, *tokens]
        assert again.decode(tokens) == text
    assert again(texts, padding=True).input_ids == theirs(texts, padding=True).input_ids
    for name in ("bos_token_id", "eos_token_id", "sep_token_id", "pad_token_id", "padding_side"):
        assert getattr(again, name) == getattr(theirs, name)
    assert again.model_max_length == SMALL.context_length
    assert Tokenizer.load(tmp_path / "b" / "tokenizer.json").encode(TEXTS)[0].tolist() == (
        tokenizer.encode(TEXTS)[0].tolist()
    )


@torch.no_grad()
def test_generation_by_their_settings_stays_within_ours(
    tmp_path: Path, transformers: ModuleType, tokenizer: Tokenizer
) -> None:
    """Sampled as the export says: never SEP, nothing after EOS but padding; greedy is our argmax."""
    model = random_model()
    export_hf(model, tmp_path, tokenizer)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    prompt = torch.tensor([[0, 5, 9, 1]])
    with torch.random.fork_rng():
        torch.manual_seed(0)  # transformers has no other way
        drawn = theirs.generate(prompt, max_new_tokens=40, num_return_sequences=32)[:, 4:]
    assert len({tuple(row.tolist()) for row in drawn}) > 16
    assert not (drawn == 1).any()
    for row in drawn:
        ends = (row == 0).nonzero()
        assert not len(ends) or (row[ends[0] :] == 0).all()
    greedy = theirs.generate(prompt, max_new_tokens=5, do_sample=False)[0]
    for length in range(4, len(greedy)):
        logits = model(greedy[None, :length])[0, -1]
        logits[1] = -torch.inf
        assert int(logits.argmax()) == int(greedy[length])


def test_the_card_says_what_the_model_is(tmp_path: Path, tokenizer: Tokenizer) -> None:
    export_hf(
        random_model(), tmp_path, tokenizer, origin={"stage": "tune", "validation_nats_per_token": 3.25}
    )
    _, front, text = (tmp_path / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "transformers"
    assert f"| parameters | {SMALL.num_parameters:,} |" in text
    assert "| context | 80 tokens |" in text
    assert "| validation_nats_per_token | 3.25 |" in text
