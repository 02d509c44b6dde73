"""Hugging Face's format: transformers gives our logits, weights come back, and what does not fit is named."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hf_models import SMALL, random_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sbp_bayes.base.errors import CheckpointError, ConfigError, StoreError
from sbp_bayes.corpus import Tokenizer
from sbp_bayes.lm import (
    LMConfig,
    RopeScaling,
    Transformer,
    export_hf,
    load_hf,
    load_model,
    model_fingerprint,
    save_model,
)
from sbp_bayes.lm.layers import rotary_frequencies


def some_tokens(config: LMConfig = SMALL) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, config.vocab_size, (3, config.context_length), generator=generator)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    export_hf(random_model(), tmp_path / "exported")
    return tmp_path / "exported"


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_transformers_gives_the_same_logits(
    tmp_path: Path, transformers: ModuleType, tied: bool, num_kv_heads: int
) -> None:
    """Within 1e-5 of each position's logits. Entry by entry, float32 rounds those near 0 by more."""
    config = dataclasses.replace(SMALL, tied_embeddings=tied, num_kv_heads=num_kv_heads)
    model, inputs = random_model(config), some_tokens()
    export_hf(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    assert theirs.num_parameters() == config.num_parameters
    assert theirs.dtype == torch.float32
    expected, logits = theirs(inputs).logits, model(inputs)
    assert ((logits - expected).norm(dim=-1) < 1e-5 * expected.norm(dim=-1)).all()
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_scaled_positions_are_theirs(tmp_path: Path, transformers: ModuleType) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = RopeScaling(factor=4.0, low_freq_factor=1.5, high_freq_factor=5.0, original_context_length=40)
    config = dataclasses.replace(SMALL, rope_scaling=scaling)
    model, inputs = random_model(config), some_tokens()
    export_hf(model, tmp_path)
    assert load_hf(tmp_path).config == config
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    frequencies, factor = ROPE_INIT_FUNCTIONS["llama3"](theirs.config)
    ours = rotary_frequencies(config.head_width, config.rope_theta, scaling)
    torch.testing.assert_close(ours.float(), frequencies, rtol=1e-6, atol=0)
    assert factor == 1
    expected, logits = theirs(inputs).logits, model(inputs)
    assert ((logits - expected).norm(dim=-1) < 1e-5 * expected.norm(dim=-1)).all()
    assert (random_model()(inputs) - logits).norm() > 1e-2 * logits.norm()
    rewrite(tmp_path, lambda record: {k: v for k, v in record.items() if k != "rope_parameters"})
    assert load_hf(tmp_path).config == config  # as transformers 4 reads it


@torch.no_grad()
def test_the_network_is_theirs_but_for_rounding(
    exported: Path, transformers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, once what transformers computes in float32 there (norms, angles) is not."""
    from transformers.models.qwen3 import modeling_qwen3

    ours = load_hf(exported, dtype=torch.float64)
    turns = torch.view_as_complex(ours.get_buffer("rotary")).repeat(1, 2)[None]

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()

    monkeypatch.setattr(modeling_qwen3.Qwen3RMSNorm, "forward", norm)
    monkeypatch.setattr(
        modeling_qwen3.Qwen3RotaryEmbedding, "forward", lambda *_: (turns.real, turns.imag), raising=True
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float64)
    inputs = some_tokens()
    torch.testing.assert_close(ours(inputs), theirs(inputs).logits, rtol=1e-10, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_an_export_comes_back_to_the_bit(tmp_path: Path, tied: bool) -> None:
    model = random_model(dataclasses.replace(SMALL, tied_embeddings=tied))
    export_hf(model, tmp_path / "one")
    with safe_open(tmp_path / "one" / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}  # transformers before version 5 asks for it
    back = load_hf(tmp_path / "one")
    assert back.config == model.config
    assert not back.training
    assert torch.equal(back(some_tokens()), model(some_tokens()))
    export_hf(back, tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@torch.no_grad()
def test_an_export_is_read_like_a_checkpoint_of_ours(exported: Path, tmp_path: Path) -> None:
    save_model(random_model(), tmp_path / "ours")
    back = load_model(exported)
    assert torch.equal(back(some_tokens()), load_model(tmp_path / "ours")(some_tokens()))
    other = tmp_path / "other"
    export_hf(random_model(seed=2), other)
    assert (other / "config.json").read_bytes() == (exported / "config.json").read_bytes()
    export_hf(back, tmp_path / "again")
    assert model_fingerprint(exported) == model_fingerprint(tmp_path / "again") != model_fingerprint(other)


def test_shards_count_in_the_fingerprint(tmp_path: Path, transformers: ModuleType) -> None:
    model = qwen3(transformers)
    model.save_pretrained(tmp_path / "a", max_shard_size="10KB")
    with torch.no_grad():
        model.model.norm.weight += 1
    model.save_pretrained(tmp_path / "b", max_shard_size="10KB")
    assert len(list((tmp_path / "a").glob("model-*.safetensors"))) > 1
    assert model_fingerprint(tmp_path / "a") != model_fingerprint(tmp_path / "b")
    assert load_model(tmp_path / "b").final_norm[0] - load_model(tmp_path / "a").final_norm[0] == 1


@pytest.mark.parametrize("end", [151645, [151645, 151643]])
def test_a_foreign_end_of_text_is_no_checkpoint_of_ours(exported: Path, end: Any) -> None:
    rewrite(exported, lambda record: record | {"eos_token_id": end})
    load_hf(exported)
    with pytest.raises(
        CheckpointError, match=rf"config\.json: eos_token_id = {re.escape(repr(end))}: expected 0"
    ):
        load_model(exported)


def qwen3(transformers: ModuleType, **changes: Any) -> Any:
    """A Qwen3 model with random weights, as transformers builds it."""
    shape = {
        "vocab_size": 90,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 50,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)  # transformers has no other way
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**shape | changes)).eval()


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard", ["1GB", "10KB"])
def test_a_checkpoint_of_theirs_can_be_loaded(
    tmp_path: Path, transformers: ModuleType, tied: bool, shard: str
) -> None:
    theirs = qwen3(transformers, tie_word_embeddings=tied)
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "10KB")
    ours = load_hf(tmp_path)
    assert ours.config.tied_embeddings == tied
    assert ours.config.rope_theta == 1e6
    inputs = torch.arange(50)[None]
    expected, logits = theirs(inputs).logits, ours(inputs)
    assert ((logits - expected).norm(dim=-1) < 1e-5 * expected.norm(dim=-1)).all()


@torch.no_grad()
def test_half_the_bits_are_read_as_float32(tmp_path: Path, transformers: ModuleType) -> None:
    qwen3(transformers).to(torch.bfloat16).save_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ours, inputs = load_hf(tmp_path), torch.arange(50)[None]
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    expected = theirs(inputs).logits
    assert ((ours(inputs) - expected).norm(dim=-1) < 1e-5 * expected.norm(dim=-1)).all()
    double = load_hf(tmp_path, dtype=torch.float64)
    assert double(inputs).dtype == torch.float64
    with pytest.raises(ConfigError, match=r"dtype = torch\.bfloat16"):
        load_hf(tmp_path, dtype=torch.bfloat16)


def old_style(record: Mapping[str, Any]) -> dict[str, Any]:
    """config.json as transformers 4 wrote it, and as the released Qwen3 models have it."""
    kept = {
        key: value for key, value in record.items() if key not in ("rope_parameters", "layer_types", "dtype")
    }
    return kept | {
        "rope_scaling": None,
        "sliding_window": None,
        "max_window_layers": 2,
        "torch_dtype": "float32",
    }


@torch.no_grad()
def test_older_configurations_say_the_same(exported: Path, transformers: ModuleType) -> None:
    rewrite(exported, old_style)
    assert load_hf(exported).config == SMALL
    theirs = transformers.AutoModelForCausalLM.from_pretrained(exported)
    assert theirs.config.rope_parameters["rope_theta"] == SMALL.rope_theta


def rewrite(directory: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, r"architectures = \['LlamaForCausalLM'\]"),
        ({"architectures": None}, "architectures = None: expected"),
        ({"attention_bias": True}, "attention_bias = True is not supported"),
        ({"use_sliding_window": True}, "use_sliding_window = True is not supported"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types holds 'sliding_attention'"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantization_config = .* is not supported"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
            "rope_type = 'yarn' is not supported",
        ),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "rope_type = 'linear'"),
        ({"rope_parameters": None, "rope_theta": None}, "rope_theta is missing"),
        (
            {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}},
            "high_freq_factor is missing",
        ),
        (
            {"rope_parameters": None, "rope_scaling": {"type": "llama3", "factor": 8.0}},
            "low_freq_factor is missing",
        ),
        ({"hidden_size": 30}, r"has shape \(300, 32\), but the configuration asks for \(300, 30\)"),
        ({"hidden_size": "wide"}, "width = 'wide': expected int"),
        ({"num_key_value_heads": 3}, "num_kv_heads = 3 is out of range"),
        ({"num_hidden_layers": 3}, r"model\.layers\.2\.\S+ is missing \(11 of 36 tensors\)"),
        ({"num_hidden_layers": 1}, r"model\.layers\.1\.\S+ is not a tensor of this architecture"),
    ],
)
def test_another_architecture_or_option_is_named(
    exported: Path, changes: dict[str, Any], message: str
) -> None:
    rewrite(exported, lambda record: record | changes)
    with pytest.raises(CheckpointError, match=message):
        load_hf(exported)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"architectures": ["Qwen3ForCausalLM"]}'])
def test_a_damaged_configuration_is_named(exported: Path, text: str) -> None:
    (exported / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json: "):
        load_hf(exported)


def test_missing_and_unknown_tensors_are_named(exported: Path) -> None:
    path = exported / "model.safetensors"
    state = load_file(path)
    bias = "model.layers.0.self_attn.q_proj.bias"
    save_file(state | {bias: torch.zeros(64)}, path)
    with pytest.raises(CheckpointError, match=f"{bias} is not a tensor of this architecture"):
        load_hf(exported)
    for name in ("lm_head.weight", "model.layers.1.self_attn.k_norm.weight"):
        save_file({key: value for key, value in state.items() if key != name}, path)
        with pytest.raises(CheckpointError, match=rf"{name} is missing \(1 of 25 tensors\)"):
            load_hf(exported)
    save_file(state | {"model.norm.weight": torch.ones(32, dtype=torch.int8)}, path)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is torch\.int8, a quantised type"):
        load_hf(exported)


def test_a_tied_checkpoint_may_hold_the_head_as_well(tmp_path: Path) -> None:
    model = random_model(dataclasses.replace(SMALL, tied_embeddings=True))
    export_hf(model, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(
        state | {"lm_head.weight": state["model.embed_tokens.weight"].clone()}, tmp_path / "model.safetensors"
    )
    assert torch.equal(load_hf(tmp_path).head_VD, model.head_VD)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_and_damaged_files_are_named(exported: Path, name: str) -> None:
    content = (exported / name).read_bytes()
    (exported / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=name):
        load_hf(exported)
    (exported / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: no such file"):
        load_hf(exported)


def test_missing_shards_and_damaged_indices_are_named(tmp_path: Path, transformers: ModuleType) -> None:
    qwen3(transformers).save_pretrained(tmp_path, max_shard_size="10KB")
    shard = min(tmp_path.glob("model-*.safetensors"))
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"{shard.name}: no such file"):
        load_hf(tmp_path)
    for text in ("[", "{}", "[]", '{"weight_map": 3}'):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json"):
            load_hf(tmp_path)


def test_an_export_without_a_pad_token_is_still_read(exported: Path) -> None:
    weights = load_hf(exported).final_norm
    rewrite(exported, lambda record: {k: v for k, v in record.items() if k != "pad_token_id"})
    assert torch.equal(load_hf(exported).final_norm, weights)
    assert torch.equal(load_model(exported).final_norm, weights)


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    smaller = Transformer(dataclasses.replace(SMALL, vocab_size=tokenizer.vocab_size - 1))
    most = f"at most the model's {smaller.config.vocab_size}"
    with pytest.raises(ConfigError, match=rf"tokenizer\.vocab_size = {tokenizer.vocab_size} .* {most}"):
        export_hf(smaller, tmp_path / "new", tokenizer)
    assert not (tmp_path / "new").exists()


def test_an_earlier_export_is_replaced_whole_and_other_folders_stay(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    target = tmp_path / "exported"
    export_hf(random_model(), target, tokenizer)
    assert len(list(target.iterdir())) == 6
    other = random_model(seed=2)
    export_hf(other, target)
    names = ["README.md", "config.json", "model.safetensors"]
    assert sorted(path.name for path in target.iterdir()) == names
    assert torch.equal(load_hf(target).final_norm, other.final_norm)
    (target / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"it holds other files already, notes\.txt for one"):
        export_hf(other, target)
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


def test_an_export_that_fails_leaves_the_former_one(
    exported: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in exported.iterdir()}

    def full(self: Tokenizer, path: Path) -> None:
        path.write_text("hal")
        raise StoreError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(Tokenizer, "save", full)
    with pytest.raises(StoreError, match="No space left"):
        export_hf(random_model(seed=2), exported, tokenizer)
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before
    assert [path.name for path in exported.parent.iterdir()] == ["exported"]
