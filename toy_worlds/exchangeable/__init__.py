"""Worlds whose words are exchangeable: their order carries nothing."""

from toy_worlds.exchangeable.dirichlet_unigram import DirichletUnigram
from toy_worlds.exchangeable.style_and_topic import StyleAndTopic
from toy_worlds.exchangeable.uniform import Uniform
from toy_worlds.exchangeable.unigram_mixture import UnigramMixture

__all__ = ["DirichletUnigram", "StyleAndTopic", "Uniform", "UnigramMixture"]
