"""Hugging Face's format, and how it is read: this architecture is Qwen3's, Llama with QK-norm.

Two things differ on disk. Here q, k and v, and gate and up, are one matrix each; there they are apart.
Here coordinates 2i and 2i + 1 of a head turn together (the paper's RoPE); there i and i + E/2 do, so
the rows that make queries and keys, and the gains of their norms, change places within each head.
Scores are sums over coordinates, so both orders give the same logits.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sbp_bayes.base.config import decode, require
from sbp_bayes.base.errors import CheckpointError, ConfigError, StoreError
from sbp_bayes.base.store import read_json
from sbp_bayes.lm.config import LMConfig
from sbp_bayes.lm.model import Transformer

ARCHITECTURE = "Qwen3ForCausalLM"
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
KEYS = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "width": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_width": "head_dim",
    "hidden_width": "intermediate_size",
    "norm_eps": "rms_norm_eps",
    "tied_embeddings": "tie_word_embeddings",
}
"""Our settings and Qwen3's names of them."""

SCALING = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_context_length": "original_max_position_embeddings",
}
"""The same of `RopeScaling`, there called rope_type "llama3"."""

FIXED = {
    "hidden_act": "silu",
    "attention_bias": False,
    "use_sliding_window": False,
    "quantization_config": None,
    "partial_rotary_factor": None,
}
"""Options of the format that this architecture has at one value alone, which is also their default."""

LAYER = {
    "attention_norm": ("input_layernorm",),
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "q_norm": ("self_attn.q_norm",),
    "k_norm": ("self_attn.k_norm",),
    "attention_out": ("self_attn.o_proj",),
    "feed_forward_norm": ("post_attention_layernorm",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""Our parameters of a layer and the tensors that each holds, one below the other."""

ROTATED = ("q_proj", "k_proj", "q_norm", "k_norm")
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@torch.no_grad()
def load_hf(directory: Path, *, dtype: torch.dtype = torch.float32) -> Transformer:
    """Read a Qwen3ForCausalLM checkpoint, in one file or in shards, in evaluation mode.

    Token ids stay the checkpoint's own: a released model's end of text is not our `EOS`, so to sample
    or tune with it, its vocabulary must first be brought into this library's order.

    Args:
        directory: holds config.json and model.safetensors (or its shards and their index).
        dtype: of the parameters, float32 or float64, whatever the file has.

    Raises:
        CheckpointError: another architecture, an option that this one lacks, a file or tensor that is
            missing, damaged, unknown or of another shape; the message names it.
        ConfigError: another `dtype`.
    """
    require(dtype in (torch.float32, torch.float64), "dtype", dtype, "torch.float32 or torch.float64")
    directory = Path(directory)
    config = _read_config(directory / CONFIG)
    model = Transformer(config, seed=None).to(dtype)
    parameters = dict(model.named_parameters())
    tensors_of = dict(layout(config))
    with _open_tensors(directory) as tensors:
        _refuse_other_names(config, tensors.keys(), directory)
        for name, parts in tensors_of.items():
            for target, part in zip(split(parameters[name], parts, config), parts, strict=True):
                value = _read_tensor(tensors[part], part, directory)
                if value.shape != target.shape:
                    raise CheckpointError(
                        f"{directory}: {part} has shape {tuple(value.shape)}, "
                        f"but the configuration asks for {tuple(target.shape)}"
                    )
                target.copy_(_pairs_from_halves(value, config.head_width) if is_rotated(part) else value)
    return model.eval()


def is_hf(directory: Path) -> bool:
    """Whether `directory` holds a configuration in Hugging Face's format."""
    with contextlib.suppress(StoreError, NotADirectoryError):
        record = read_json(Path(directory) / CONFIG)
        return isinstance(record, dict) and not {"architectures", "model_type"}.isdisjoint(record)
    return False


def weight_files(directory: Path) -> list[Path]:
    """Return the files that hold the tensors of a checkpoint in Hugging Face's format: one, or its shards.

    Raises:
        CheckpointError: a damaged index of shards.
    """
    if (directory / WEIGHTS).exists() or not (directory / INDEX).exists():
        return [directory / WEIGHTS]
    try:
        names = set(read_json(directory / INDEX)["weight_map"].values())
    except (StoreError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{directory / INDEX}: not an index of shards ({error})") from error
    return [directory / name for name in sorted(names)]


def layout(config: LMConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each of our parameters and the tensors that it holds, one below the other."""
    yield "embedding.weight", ("model.embed_tokens.weight",)
    yield "final_norm", ("model.norm.weight",)
    if not config.tied_embeddings:
        yield "output_head", ("lm_head.weight",)
    for layer in range(config.num_layers):
        for name, parts in LAYER.items():
            yield f"blocks.{layer}.{name}", tuple(f"model.layers.{layer}.{part}.weight" for part in parts)


def split(parameter: Tensor, parts: tuple[str, ...], config: LMConfig) -> tuple[Tensor, ...]:
    """Return the views of `parameter` that `parts` name."""
    rows = {
        "q_proj": config.num_heads * config.head_width,
        "k_proj": config.num_kv_heads * config.head_width,
        "v_proj": config.num_kv_heads * config.head_width,
        "gate_proj": config.hidden_width,
        "up_proj": config.hidden_width,
    }
    return parameter.split([rows.get(part.split(".")[-2], len(parameter)) for part in parts])


def is_rotated(part: str) -> bool:
    """Whether the coordinates of a tensor change places within each head."""
    return part.split(".")[-2] in ROTATED


def _pairs_from_halves(value: Tensor, head_width: int) -> Tensor:
    """Undo `hf_export._halves_from_pairs`."""
    return value.unflatten(0, (-1, 2, head_width // 2)).transpose(1, 2).flatten(0, 2)


def _read_config(path: Path) -> LMConfig:
    try:
        record = read_json(path)
    except StoreError as error:
        raise CheckpointError(str(error)) from error
    found = record.get("architectures") if isinstance(record, dict) else None
    if found != [ARCHITECTURE]:
        raise CheckpointError(f"{path}: architectures = {found!r}: expected [{ARCHITECTURE!r}]")
    _refuse_options(record, path)
    missing = [key for key in KEYS.values() if key not in record and key != "tie_word_embeddings"]
    if missing:
        raise CheckpointError(f"{path}: {missing[0]} is missing")
    record = {"tie_word_embeddings": False, **record}
    values = {ours: record[theirs] for ours, theirs in KEYS.items()}
    try:
        return decode(LMConfig, values | _positions(record, path))
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _refuse_options(record: Mapping[str, Any], path: Path) -> None:
    for key, only in FIXED.items():
        if record.get(key, only) != only:
            raise CheckpointError(f"{path}: {key} = {record[key]!r} is not supported: expected {only!r}")
    other = set(record.get("layer_types") or ()) - {"full_attention"}
    if other:
        raise CheckpointError(f"{path}: layer_types holds {min(other)!r}: only 'full_attention' is supported")


def _positions(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings of rotary positions, from the keys of transformers before or after version 5."""
    rope = record.get("rope_parameters") or record.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise CheckpointError(
            f"{path}: rope_type = {kind!r} is not supported: expected 'default' or 'llama3'"
        )
    values = {"rope_theta": record.get("rope_theta"), **rope}
    missing = [key for key in ("rope_theta", *SCALING.values()) if values.get(key) is None]
    if "rope_theta" in missing or (kind == "llama3" and missing):
        raise CheckpointError(f"{path}: {missing[0]} is missing")
    scaling = {ours: values[theirs] for ours, theirs in SCALING.items()} if kind == "llama3" else None
    return {"rope_theta": values["rope_theta"], "rope_scaling": scaling}


@contextlib.contextmanager
def _open_tensors(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield the open file of each tensor, by the tensor's name."""
    with contextlib.ExitStack() as stack:
        tensors: dict[str, Any] = {}
        for file in weight_files(directory):
            try:
                opened = stack.enter_context(safe_open(file, framework="pt"))
            except FileNotFoundError as error:
                raise CheckpointError(f"{file}: no such file") from error
            except SafetensorError as error:
                raise CheckpointError(f"{file}: not a safetensors file ({error})") from error
            tensors |= dict.fromkeys(opened.keys(), opened)
        yield tensors


def _refuse_other_names(config: LMConfig, found: Collection[str], directory: Path) -> None:
    wanted = {part for _, parts in layout(config) for part in parts}
    missing, unknown = sorted(wanted - set(found)), sorted(set(found) - wanted - {"lm_head.weight"})
    if missing:
        raise CheckpointError(
            f"{directory}: {missing[0]} is missing ({len(missing)} of {len(wanted)} tensors)"
        )
    if unknown:
        raise CheckpointError(f"{directory}: {unknown[0]} is not a tensor of this architecture")


def _read_tensor(opened: Any, name: str, directory: Path) -> Tensor:
    value = opened.get_tensor(name)
    if value.dtype not in FLOATS:
        raise CheckpointError(f"{directory}: {name} is {value.dtype}, a quantised type: not supported")
    return value
