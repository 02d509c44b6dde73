"""Embedders by name."""

from typing import TYPE_CHECKING

from sbp_bayes.base.config import did_you_mean
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.corpus import Corpus
from sbp_bayes.lm import Transformer
from sbp_bayes.pairing.embed import minilm, qwen3, sentence
from sbp_bayes.pairing.embed.embedder import Embedder, weights_fingerprint
from sbp_bayes.pairing.embed.hidden_states import SelfEmbedder
from sbp_bayes.pairing.embed.lsa import LsaEmbedder
from sbp_bayes.pairing.embed.pretrained import device, find_model, folder_fingerprint

if TYPE_CHECKING:
    from sbp_bayes.pairing.pairs import PairConfig

KINDS = ("lsa", "minilm", "self", qwen3.KIND, sentence.KIND)
EXPECTED = "lsa, minilm, self, qwen3, qwen3:FOLDER_OR_NAME, sentence:FOLDER_OR_NAME"


def parse_embedder(name: str) -> tuple[str, str | None]:
    """Return an embedder's kind and, where it is an outside model's, the folder or name of the model.

    Raises:
        ConfigError: `name` is none of the known ones; the message has them and the nearest kind.
    """
    kind, colon, model = name.partition(":")
    if (kind in ("lsa", "minilm", "self") and not colon) or (kind == qwen3.KIND and name == kind):
        return kind, qwen3.DEFAULT_MODEL if kind == qwen3.KIND else None
    if kind in (qwen3.KIND, sentence.KIND) and model:
        return kind, model
    raise ConfigError(f"embedder = {name!r}: expected one of {EXPECTED}{did_you_mean(kind, KINDS)}")


def fit_embedder(config: "PairConfig", corpus: Corpus, model: Transformer | None = None) -> Embedder:
    """Build the embedder that `config` names, fitted on `corpus`: the training documents and no others.

    Args:
        config: names the embedder.
        corpus: the training documents.
        model: the language model whose states the "self" embedder averages.

    Raises:
        ConfigError: an unknown embedder, the "self" embedder without a model, or a `max_tokens` that the
            model can't read.
        PairingError: an embedder that can't be fitted or loaded, or whose package is missing.
    """
    kind, name = parse_embedder(config.embedder)
    if kind == "lsa":
        return LsaEmbedder(config.dimension, config.seed).fit(corpus)
    if kind == "minilm":
        return minilm.MiniLmEmbedder()
    if kind == "self":
        return SelfEmbedder(_given(model)).fit(corpus)
    assert name is not None
    outside = {qwen3.KIND: qwen3.Qwen3Embedder, sentence.KIND: sentence.SentenceEmbedder}[kind]
    return outside(name, config.max_tokens)


def embedder_inputs(config: "PairConfig", model: Transformer | None = None) -> dict[str, str]:
    """Return the fingerprint of the weights that the embedder of `config` reads, by name, for a stage's plan.

    Args:
        config: names the embedder.
        model: see `fit_embedder`.

    Raises:
        ConfigError: the "self" embedder without a model.
        PairingError: there is no such outside model, or its package is missing.
    """
    kind, name = parse_embedder(config.embedder)
    if kind == "self":
        return {"model": weights_fingerprint(_given(model))}
    if kind == "minilm":
        return {"embedder": folder_fingerprint(minilm.packaged_folder())}
    return {} if name is None else {"embedder": folder_fingerprint(find_model(kind, name))}


def embedder_device(config: "PairConfig") -> str:
    """Return the kind of device on which the embedder of `config` computes here, "cpu" or "cuda"."""
    _, name = parse_embedder(config.embedder)
    return "cpu" if name is None else device()


def _given(model: Transformer | None) -> Transformer:
    if model is None:
        raise ConfigError("embedder = 'self' needs a model: give the pretrained baseline's folder")
    return model
