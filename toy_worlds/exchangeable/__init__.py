"""Worlds whose words are exchangeable: their order carries nothing."""

from toy_worlds.exchangeable.uniform import Uniform
from toy_worlds.exchangeable.unigram_mixture import UnigramMixture

__all__ = ["Uniform", "UnigramMixture"]
