"""What the experiments set for each world, so that the oracle comes close to Bayes within minutes."""

from collections.abc import Mapping
from typing import Any

from experiments.toy_validation.config import ToyConfig
from sbp_bayes.base.config import decode, encode, require_one_of

WORLDS: Mapping[str, Mapping[str, Any]] = {
    "uniform": {
        "documents_per_concept": 12,
        "parameters": {"num_concepts": 100, "vocab_size": 5, "doc_length": 16},
    },
    "dirichlet_unigram": {
        "documents_per_concept": 4,
        "parameters": {"vocab_size": 16, "doc_length": 24},
    },
    "dirichlet_markov": {
        "documents_per_concept": 2,
        "parameters": {"vocab_size": 3, "doc_length": 48},
    },
    "unigram_mixture": {
        "documents_per_concept": 40,
        "parameters": {"num_concepts": 40, "vocab_size": 32, "doc_length": 12},
    },
    "markov_mixture": {
        "documents_per_concept": 40,
        "parameters": {"num_concepts": 8, "vocab_size": 6, "doc_length": 16},
    },
    "hmm_mixture": {
        "documents_per_concept": 40,
        "parameters": {"num_concepts": 10, "doc_length": 24},
    },
    "mess3_mixture": {
        "documents_per_concept": 40,
        "parameters": {"num_concepts": 10, "doc_length": 24},
    },
    "fact_views": {
        "documents_per_concept": 60,
        "parameters": {"num_concepts": 30, "num_slots": 6, "num_values": 6, "num_stated": 4, "noise": 0.02},
    },
    "biographies": {
        "documents_per_concept": 8,
        "parameters": {"num_concepts": 60, "num_attributes": 8, "num_values": 8, "num_stated": 3},
    },
    "style_and_topic": {
        "documents_per_concept": 60,
        "parameters": {"num_concepts": 20, "doc_length": 12},
    },
    "topic_tree": {
        "documents_per_concept": 4,
        "parameters": {"doc_length": 24},
    },
}
"""World → its fields of `ToyConfig`; parameters that are not named are the world's own defaults."""


BEST: Mapping[str, Any] = {
    "tuned_start": True,
    "tune_every_arm": True,
    "weight_decays": (),
    "dropouts": (0.1, 0.2, 0.3),
    "word_dropouts": (0.3,),
    "tune_dropout": 0.2,
    "tune_epochs": 8.0,
}
"""Fields of `ToyConfig` that make the most of every arm, as far as we know; see LOG.md."""


def toy_config(world: str, **changes: Any) -> ToyConfig:
    """Return the settings for a world, with changes to other fields of `ToyConfig`.

    Raises:
        ConfigError: there is no such world.
    """
    return ToyConfig(world=world, **_of_world(WORLDS, world), **changes)


def open_settings(config: ToyConfig) -> dict[str, Any]:
    """Return settings for Sacred in which `world` alone chooses among `worlds`, which can be changed too."""
    settings = encode(config) | {"worlds": {world: dict(fields) for world, fields in WORLDS.items()}}
    for field in _of_world(WORLDS, config.world):
        del settings[field]
    return settings


def decode_toy(settings: Mapping[str, Any]) -> ToyConfig:
    """Return the configuration that settings of the form of `open_settings` stand for.

    Raises:
        ConfigError: no such world, an unknown key, or a value out of its range.
    """
    common = {key: value for key, value in settings.items() if key != "worlds"}
    return decode(ToyConfig, common | _of_world(settings["worlds"], settings["world"]))


def _of_world(worlds: Mapping[str, Any], world: str) -> dict[str, Any]:
    require_one_of("world", world, sorted(worlds))
    return dict(worlds[world])
