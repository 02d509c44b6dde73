"""The embedders by name: a new one is a file in this folder and a line in `EMBEDDERS`."""

import dataclasses
from collections.abc import Callable, Mapping

from sbp_bayes.base.config import did_you_mean, require
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.store import folder_fingerprint
from sbp_bayes.corpus import Corpus
from sbp_bayes.lm import Transformer
from sbp_bayes.pairing.embed import minilm, qwen3
from sbp_bayes.pairing.embed.bm25 import Bm25Embedder
from sbp_bayes.pairing.embed.embedder import Embedder, weights_fingerprint
from sbp_bayes.pairing.embed.hidden_states import SelfEmbedder
from sbp_bayes.pairing.embed.lsa import LsaEmbedder
from sbp_bayes.pairing.embed.pretrained import device, find_model
from sbp_bayes.pairing.embed.sentence import SentenceEmbedder


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedderConfig:
    """Which embedder, and its settings.

    Attributes:
        kind: "lsa" (words, by TF-IDF), "bm25" (words, by BM25), "minilm" (a packaged sentence embedder),
            "self" (our own model's states), "qwen3" or "qwen3:FOLDER_OR_NAME" (Qwen3-Embedding, 0.6B or
            another one), or "sentence:FOLDER_OR_NAME" (any model of sentence-transformers).
        dimension: of the vectors of "lsa" and "bm25"; the others have their own.
        max_tokens: that an outside model (qwen3, sentence) reads of a document; None: 8,192, or as the model
            has it.
    """

    kind: str = "lsa"
    dimension: int = 256
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        name, colon, argument = self.kind.partition(":")
        row = EMBEDDERS.get(name)
        if row is None or not (row.argument is not None if argument else not colon and row.argument != ""):
            spellings = ", ".join(spelling for name in EMBEDDERS for spelling in _spellings(name))
            raise ConfigError(
                f"embedder = {self.kind!r}: expected one of {spellings}{did_you_mean(name, EMBEDDERS)}"
            )
        reads = self.max_tokens is None or row.argument is not None
        require(reads, "max_tokens", self.max_tokens, f"none, as embedder = {self.kind!r} has its own")
        require(self.dimension >= 1, "dimension", self.dimension, "at least 1")

    @property
    def name(self) -> str:
        """The embedder's name in the table."""
        return self.kind.partition(":")[0]

    @property
    def argument(self) -> str:
        """The folder or name of the outside model, "" where there is none."""
        return self.kind.partition(":")[2] or EMBEDDERS[self.name].argument or ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedderRow:
    """How one embedder is made.

    Attributes:
        fit: settings, training documents, language model, seed → the embedder.
        inputs: settings, language model → the fingerprint of the weights that it reads, by name.
        argument: of an outside model, what stands for the part after the colon where that is left out, ""
            where it must be given; None: the embedder is no outside model, and nothing comes after its name.
    """

    fit: Callable[[EmbedderConfig, Corpus, Transformer | None, int], Embedder]
    inputs: Callable[[EmbedderConfig, Transformer | None], dict[str, str]] = lambda *_: {}
    argument: str | None = None


def fit_embedder(
    config: EmbedderConfig, corpus: Corpus, model: Transformer | None = None, *, seed: int = 0
) -> Embedder:
    """Build the embedder that `config` names, fitted on `corpus`: the training documents and no others.

    Args:
        config: names the embedder.
        corpus: the training documents.
        model: the language model whose states the "self" embedder averages.
        seed: of an embedder that draws numbers.

    Raises:
        ConfigError: the "self" embedder without a model, or a `max_tokens` that the model can't read.
        PairingError: an embedder that can't be fitted or loaded, or whose package is missing.
    """
    return EMBEDDERS[config.name].fit(config, corpus, model, seed)


def embedder_inputs(config: EmbedderConfig, model: Transformer | None = None) -> dict[str, str]:
    """Return the fingerprint of the weights that the embedder of `config` reads, by name, for a stage's plan.

    Args:
        config: names the embedder.
        model: see `fit_embedder`.

    Raises:
        ConfigError: the "self" embedder without a model.
        PairingError: there is no such outside model, or its package is missing.
    """
    return EMBEDDERS[config.name].inputs(config, model)


def embedder_device(config: EmbedderConfig) -> str:
    """Return the kind of device on which the embedder of `config` computes here, "cpu" or "cuda"."""
    return "cpu" if EMBEDDERS[config.name].argument is None else device()


def _spellings(name: str) -> list[str]:
    """Return how an embedder may be written: with its argument or without."""
    argument = EMBEDDERS[name].argument
    alone = [] if argument == "" else [name]
    return alone if argument is None else [*alone, f"{name}:FOLDER_OR_NAME"]


def _given(model: Transformer | None) -> Transformer:
    if model is None:
        raise ConfigError("embedder = 'self' needs a model: give the pretrained baseline's folder")
    return model


def _files(config: EmbedderConfig, _: Transformer | None) -> dict[str, str]:
    return {"embedder": folder_fingerprint(find_model(config.name, config.argument))}


EMBEDDERS: Mapping[str, EmbedderRow] = {
    "lsa": EmbedderRow(fit=lambda config, corpus, _, seed: LsaEmbedder(config.dimension, seed).fit(corpus)),
    "bm25": EmbedderRow(fit=lambda config, corpus, _, seed: Bm25Embedder(config.dimension, seed).fit(corpus)),
    "minilm": EmbedderRow(
        fit=lambda *_: minilm.MiniLmEmbedder(),
        inputs=lambda *_: {"embedder": folder_fingerprint(minilm.packaged_folder())},
    ),
    "self": EmbedderRow(
        fit=lambda _, corpus, model, __: SelfEmbedder(_given(model)).fit(corpus),
        inputs=lambda _, model: {"model": weights_fingerprint(_given(model))},
    ),
    "qwen3": EmbedderRow(
        fit=lambda config, *_: qwen3.Qwen3Embedder(config.argument, config.max_tokens),
        inputs=_files,
        argument=qwen3.DEFAULT_MODEL,
    ),
    "sentence": EmbedderRow(
        fit=lambda config, *_: SentenceEmbedder(config.argument, config.max_tokens),
        inputs=_files,
        argument="",
    ),
}
"""Every embedder: its name, how it is fitted, what it reads besides documents, and its argument."""
