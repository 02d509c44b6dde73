"""A tiny synthesizer on disk, the documents that it reads and their tokenizer."""

import dataclasses
from pathlib import Path

import numpy as np

from sbp_bayes.corpus import Corpus, Tokenizer, train_tokenizer
from sbp_bayes.lm import LMConfig, Transformer, save_model

TEXT = "the cat sat on a mat and saw seven small birds near an old stone wall by the river"


@dataclasses.dataclass(frozen=True)
class Given:
    """A model on disk, real documents and their tokenizer."""

    model_dir: Path
    corpus: Corpus
    tokenizer: Tokenizer


def make_synthesizer(directory: Path, context_length: int = 16) -> Given:
    """Write model/, real/ and tokenizer.json; EOS is likely, so that samples differ in length."""
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.permutation(TEXT.split())[: 3 + i]) for i in range(10)]
    tokenizer = train_tokenizer(texts, 280)
    config = LMConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=context_length,
        width=16,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_width=16,
        hidden_width=16,
    )
    model = Transformer(config, seed=0)
    model.embedding.weight.data[0] *= 15
    save_model(model, directory / "model")
    corpus = Corpus.build(texts, tokenizer)
    corpus.save(directory / "real")
    tokenizer.save(directory / "tokenizer.json")
    return Given(directory / "model", corpus, tokenizer)
