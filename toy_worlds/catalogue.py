"""The catalogue: every world by its name."""

import inspect
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, overload

from sbp_bayes.base.config import did_you_mean
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.concept import ConceptModel
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


@overload
def make_world(name: Literal["uniform"], **params: Any) -> Uniform: ...
@overload
def make_world(name: Literal["dirichlet_unigram"], **params: Any) -> DirichletUnigram: ...
@overload
def make_world(name: Literal["dirichlet_markov"], **params: Any) -> DirichletMarkovChain: ...
@overload
def make_world(name: Literal["unigram_mixture"], **params: Any) -> UnigramMixture: ...
@overload
def make_world(name: Literal["markov_mixture"], **params: Any) -> MarkovMixture: ...
@overload
def make_world(name: Literal["hmm_mixture"], **params: Any) -> HmmMixture: ...
@overload
def make_world(name: Literal["mess3_mixture"], **params: Any) -> Mess3Mixture: ...
@overload
def make_world(name: Literal["fact_views"], **params: Any) -> FactViews: ...
@overload
def make_world(name: Literal["biographies"], **params: Any) -> Biographies: ...
@overload
def make_world(name: Literal["style_and_topic"], **params: Any) -> StyleAndTopic: ...
@overload
def make_world(name: Literal["topic_tree"], **params: Any) -> TopicTree: ...
@overload
def make_world(name: str, **params: Any) -> ConceptModel: ...
def make_world(name: str, **params: Any) -> ConceptModel:
    """Build the world `name`; parameters that are not given keep their defaults.

    Returns:
        The world, an `ExactModel` where P(d) has a closed form. It keeps its parameters as attributes and,
        all together, as `params`.

    Raises:
        ConfigError: an unknown world or parameter (named with the nearest known one), or a parameter out
            of its range (named with its value and range).
    """
    if name not in WORLDS:
        raise ConfigError(f"unknown world {name!r}{_hint(name, WORLDS)}")
    known = inspect.signature(WORLDS[name]).parameters
    for key in params:
        if key not in known:
            raise ConfigError(f"unknown parameter {key!r} of world {name!r}{_hint(key, known)}")
    return WORLDS[name](**params)


def _hint(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known) or f" (known: {', '.join(known)})"
