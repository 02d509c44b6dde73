"""What the experiment sets for each world, so that the oracle comes close to Bayes within minutes."""

from collections.abc import Mapping
from typing import Any

from sbp_bayes.base.errors import ConfigError

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "uniform": {"num_concepts": 100, "vocab_size": 5, "doc_length": 16},
    "dirichlet_unigram": {"vocab_size": 16, "doc_length": 24},
    "dirichlet_markov": {"vocab_size": 6, "doc_length": 32},
    "unigram_mixture": {"num_concepts": 40, "vocab_size": 32, "doc_length": 12},
    "markov_mixture": {"num_concepts": 20, "vocab_size": 16, "doc_length": 16},
    "hmm_mixture": {"num_concepts": 10, "doc_length": 24},
    "mess3_mixture": {"num_concepts": 10, "doc_length": 24},
    "fact_views": {"num_concepts": 100, "num_slots": 12, "num_values": 12, "num_stated": 6, "noise": 0.02},
    "style_and_topic": {"num_concepts": 20, "doc_length": 12},
    "topic_tree": {"doc_length": 24},
}
"""World → its parameters; the rest are the world's own defaults."""


def parameters_of(worlds: Mapping[str, Any], world: str) -> dict[str, Any]:
    """Return the settings of `world` out of `worlds`.

    Raises:
        ConfigError: there is no such world.
    """
    if world not in worlds:
        raise ConfigError(f"world = {world!r}: expected one of {', '.join(sorted(worlds))}")
    return dict(worlds[world])
