"""A model written in Hugging Face's format, for transformers and vLLM; see `hf` for the format."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

import sbp_bayes
from sbp_bayes.base.config import require
from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.base.store import atomic_directory, read_json, write_json, write_text
from sbp_bayes.lm.config import LMConfig
from sbp_bayes.lm.hf import (
    ARCHITECTURE,
    CONFIG,
    FIXED,
    INDEX,
    KEYS,
    SCALING,
    WEIGHTS,
    is_hf,
    is_rotated,
    layout,
    split,
)
from sbp_bayes.lm.model import Transformer

TOKENIZER, TOKENIZER_CONFIG, GENERATION = "tokenizer.json", "tokenizer_config.json", "generation_config.json"
CARD = "README.md"
PROMPTS = "alone.npz"
FILES = (CONFIG, WEIGHTS, INDEX, CARD, PROMPTS, TOKENIZER, TOKENIZER_CONFIG, GENERATION)
"""What an export may hold besides the shards of large weights; the last three come with a tokenizer."""

FILE_BYTES = 5 << 30
"""Most bytes of weights in a file, but for one tensor that is larger."""

IDS = {"bos_token_id": EOS, "eos_token_id": EOS, "pad_token_id": EOS}
"""Special tokens by their names there."""


class Tokenizer(Protocol):
    """What an export asks of a tokenizer, such as `corpus.Tokenizer`."""

    @property
    def vocab_size(self) -> int:
        """Number of its ids."""
        ...

    def save(self, path: Path) -> None:
        """Write it as a file of the tokenizers library."""
        ...


def export_hf(
    model: Transformer,
    directory: Path,
    tokenizer: Tokenizer | None = None,
    *,
    file_bytes: int = FILE_BYTES,
    origin: Mapping[str, Any] | None = None,
    beside: Sequence[Path] = (),
) -> None:
    """Write `model` as a Qwen3ForCausalLM that transformers and vLLM read, the whole folder atomically.

    Args:
        model: its weights are written in their own type.
        directory: a folder that is new, empty, or an earlier export, which is replaced.
        tokenizer: written beside the weights; text is then tokenised with EOS before it, as every document
            starts here, and padded on the left with EOS, which the attention mask hides. No text becomes a
            special token, not even one that spells it: a synthesizer's prompts are token ids, see
            `synthesizer.prompt_tokens`.
        file_bytes: weights of more bytes are written in shards of at most so many, with their index.
        origin: where the model comes from, by name, for the model card.
        beside: further files of the model's, such as what a synthesizer's prompts need, copied as they are.

    Raises:
        ConfigError: the tokenizer has more ids than the model, or a file holds no byte.
        StoreError: the folder holds other files, the disk is full, or it cannot be written.
    """
    config = model.config
    if tokenizer is not None:
        fits = tokenizer.vocab_size <= config.vocab_size
        require(
            fits, "tokenizer.vocab_size", tokenizer.vocab_size, f"at most the model's {config.vocab_size}"
        )
    require(file_bytes >= 1, "file_bytes", file_bytes, "at least 1")
    directory = Path(directory)
    shards = {path.name for path in directory.glob("model-*-of-*.safetensors")}
    known = {*FILES, *shards} if is_hf(directory) else ()
    with atomic_directory(directory, known=known) as folder:
        write_json(folder / CONFIG, _config_record(config, model.embedding.weight.dtype))
        try:
            _write_weights(model, folder, file_bytes)
        except SafetensorError as error:
            raise StoreError(f"cannot write {directory}: {error}") from error
        if tokenizer is not None:
            _write_tokenizer(tokenizer, config, folder)
        for path in beside:
            shutil.copyfile(path, folder / path.name)
        write_text(folder / CARD, _card(config, tokenizer is not None, origin or {}))


def _write_weights(model: Transformer, folder: Path, file_bytes: int) -> None:
    """Write the tensors in order: to one file, or to shards (one in memory at a time) and their index."""
    sizes = {part: value.nbytes for part, value, _ in _parts(model)}
    shards: list[list[str]] = [[]]
    held = 0
    for part, size in sizes.items():
        if shards[-1] and held + size > file_bytes:
            shards.append([])
            held = 0
        shards[-1].append(part)
        held += size
    total = f"{len(shards):05d}"
    files = {f"model-{i:05d}-of-{total}.safetensors": parts for i, parts in enumerate(shards, start=1)}
    if len(shards) == 1:
        files = {WEIGHTS: shards[0]}
    tensors = _exported(model)
    for name, parts in files.items():
        save_file(dict(next(tensors) for _ in parts), folder / name, metadata={"format": "pt"})
    if len(shards) > 1:
        weight_map = {part: name for name, parts in files.items() for part in parts}
        write_json(
            folder / INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        )


def _halves_from_pairs(value: Tensor, head_width: int) -> Tensor:
    """Move, in each head, coordinates 0, 2, 4, … before 1, 3, 5, …."""
    return value.unflatten(0, (-1, head_width // 2, 2)).transpose(1, 2).flatten(0, 2)


def _parts(model: Transformer) -> Iterator[tuple[str, Tensor, bool]]:
    """Yield each tensor's name there, its view here, and whether its coordinates change places."""
    parameters = dict(model.named_parameters())
    for name, parts in layout(model.config):
        for value, part in zip(split(parameters[name].detach(), parts, model.config), parts, strict=True):
            yield part, value, is_rotated(part)


def _exported(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    for part, value, rotated in _parts(model):
        yield part, (_halves_from_pairs(value, model.config.head_width) if rotated else value).contiguous()


def _config_record(config: LMConfig, dtype: torch.dtype) -> dict[str, Any]:
    """Return config.json; positions are there twice, for transformers before and after version 5."""
    rope: dict[str, Any] = {"rope_type": "default"}
    if config.rope_scaling is not None:
        scaling = {theirs: getattr(config.rope_scaling, ours) for ours, theirs in SCALING.items()}
        rope = {"rope_type": "llama3", **scaling}
    rope_twice = {
        "rope_theta": config.rope_theta,
        "rope_scaling": rope if config.rope_scaling is not None else None,
        "rope_parameters": {**rope, "rope_theta": config.rope_theta},
    }
    options = {key: value for key, value in FIXED.items() if value is not None}
    sizes = {theirs: getattr(config, ours) for ours, theirs in KEYS.items()}
    head = {
        "architectures": [ARCHITECTURE],
        "model_type": "qwen3",
        "dtype": str(dtype).removeprefix("torch."),
    }
    return {**head, **sizes, **rope_twice, **options, **IDS}


def _write_tokenizer(tokenizer: Tokenizer, config: LMConfig, folder: Path) -> None:
    """Write the tokenizer, and how to sample: from the model as it is.

    It puts EOS before a text, pads on the left, where generation needs it, and takes a special token's name
    within a text for text, as `corpus.Tokenizer` does.
    """
    tokenizer.save(folder / TOKENIZER)
    record = read_json(folder / TOKENIZER)
    spelled = {token["id"]: token["content"] for token in record["added_tokens"]}
    first = {"SpecialToken": {"id": spelled[EOS], "type_id": 0}}
    text, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    record["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, second],
        "special_tokens": {spelled[EOS]: {"id": spelled[EOS], "ids": [EOS], "tokens": [spelled[EOS]]}},
    }
    write_json(folder / TOKENIZER, record)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": spelled[EOS],
        "eos_token": spelled[EOS],
        "sep_token": spelled[SEP],
        "pad_token": spelled[EOS],
        "padding_side": "left",
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": config.context_length,
    }
    write_json(folder / TOKENIZER_CONFIG, settings)
    sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "suppress_tokens": [SEP]}
    write_json(folder / GENERATION, {**sampling, **IDS})


def _card(config: LMConfig, has_tokenizer: bool, origin: Mapping[str, Any]) -> str:
    """Return the model card, as the Hugging Face hub reads it."""
    facts = {
        "architecture": f"{ARCHITECTURE} (Llama with QK-norm)",
        "parameters": f"{config.num_parameters:,}",
        "layers, width": f"{config.num_layers}, {config.width}",
        "context": f"{config.context_length:,} tokens",
        "vocabulary": f"{config.vocab_size:,} ids, of which {EOS} ends a document and {SEP} separates two",
        "written by": f"sbp_bayes {sbp_bayes.__version__}",
        **origin,
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags:
- synthetic-bootstrapped-pretraining
---

# {ARCHITECTURE} of {config.num_parameters:,} parameters

Trained by [Synthetic Bootstrapped Pretraining](https://arxiv.org/abs/2509.15248) or for it, on text alone: it
follows no instructions and was not made safe for users.

| | |
|---|---|
{rows}

## Use
A document starts with id {EOS}{", which the tokenizer puts before every text" if has_tokenizer else ""}.
A language model continues it. A synthesizer p(d2|d1) reads the ids {EOS}, d1, {SEP} and writes d2 up to id
{EOS}; give it token ids, since no text becomes a special token. Sample at temperature 1 without top-k or
top-p, never draw id {SEP}, and give every request a seed of its own.
"""
