"""A tiny pretraining, which can kill its own process at a chosen step."""

import os
import signal
from pathlib import Path
from typing import Any

from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.stage import Manifest, Workspace
from sbp_bayes.base.workers import one_thread
from sbp_bayes.corpus import Corpus, Tokenizer, train_tokenizer
from sbp_bayes.lm import LMConfig
from sbp_bayes.pretraining import Mixture, PretrainConfig, pretrain
from sbp_bayes.training import OptimiserConfig

SENTENCE = "the synthesizer reads one document and writes another about its hidden concept again"


def texts(name: str, count: int) -> list[str]:
    """Documents of 3 to 30 random words."""
    generator = numpy_generator(0, name)
    return [" ".join(generator.choice(SENTENCE.split(), generator.integers(3, 31))) for _ in range(count)]


def tiny_tokenizer() -> Tokenizer:
    return train_tokenizer(texts("real", 20), 280)


def corpus_of(name: str, count: int) -> Corpus:
    return Corpus.build(texts(name, count), tiny_tokenizer())


def tiny_config(**changes: Any) -> PretrainConfig:
    """12 steps of 4 rows of 32 tokens, three validations."""
    model = LMConfig(
        vocab_size=tiny_tokenizer().vocab_size,
        context_length=32,
        width=16,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_width=8,
        hidden_width=24,
    )
    settings: dict[str, Any] = {
        "model": model,
        "optimiser": OptimiserConfig(),
        "budget_tokens": 12 * 4 * 32 + 100,
        "rows_per_batch": 4,
        "num_validations": 3,
    }
    return PretrainConfig(**(settings | changes))


def pretrain_tiny(directory: Path | Workspace, **changes: Any) -> Manifest:
    """Pretrain in `directory`; what is no setting of the configuration goes to `pretrain`."""
    inputs: dict[str, Any] = {
        "real": corpus_of("real", 20),
        "synthetic": corpus_of("synthetic", 40),
        "validation": corpus_of("validation", 9),
        "tokenizer": tiny_tokenizer(),
    }
    inputs |= {name: changes.pop(name) for name in {*inputs, "label", "checkpoint_seconds"} & changes.keys()}
    with one_thread():  # a library may lower the number of threads on a busy machine, which moves sums
        return pretrain(tiny_config(**changes), directory=directory, **inputs)


def killed_pretraining(directory: Path, step: int, **changes: Any) -> None:
    """Pretrain half on synthetic text with a checkpoint after each step, and die at batch `step`."""
    batch = Mixture.batch

    def deadly_batch(mixture: Mixture, number: int) -> Any:
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch(mixture, number)

    Mixture.batch = deadly_batch
    pretrain_tiny(directory, synthetic_share=0.5, checkpoint_seconds=0.0, **changes)
