"""The catalogue: every world by its name."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from sbp_bayes.base.errors import ConfigError
from toy_worlds.exchangeable import DirichletUnigram, StyleAndTopic, Uniform, UnigramMixture
from toy_worlds.hidden_markov import HmmMixture, Mess3Mixture
from toy_worlds.hierarchical import TopicTree
from toy_worlds.knowledge import Biographies, FactViews
from toy_worlds.markov import DirichletMarkovChain, MarkovMixture

WORLDS: Mapping[str, type] = MappingProxyType(
    {
        "uniform": Uniform,
        "dirichlet_unigram": DirichletUnigram,
        "dirichlet_markov": DirichletMarkovChain,
        "unigram_mixture": UnigramMixture,
        "markov_mixture": MarkovMixture,
        "hmm_mixture": HmmMixture,
        "mess3_mixture": Mess3Mixture,
        "fact_views": FactViews,
        "biographies": Biographies,
        "style_and_topic": StyleAndTopic,
        "topic_tree": TopicTree,
    }
)
"""Name → class; every parameter of a class has a default."""


def make_world(name: str, **params: Any) -> Any:
    """Build the world `name`; parameters that are not given keep their defaults.

    Returns:
        A `ConceptModel`. It keeps its parameters as attributes and, all together, as `params`.

    Raises:
        ConfigError: an unknown world or parameter (named with the nearest known one), or a parameter out
            of its range (named with its value and range).
    """
    if name not in WORLDS:
        raise ConfigError(f"unknown world {name!r}{_nearest(name, WORLDS)}")
    known = inspect.signature(WORLDS[name]).parameters
    for key in params:
        if key not in known:
            raise ConfigError(f"unknown parameter {key!r} of world {name!r}{_nearest(key, known)}")
    return WORLDS[name](**params)


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]!r}?" if close else f": known are {', '.join(known)}"
