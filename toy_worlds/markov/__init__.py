"""Worlds whose tokens are a Markov chain: the order of neighbours carries the concept."""

from toy_worlds.markov.dirichlet_markov import DirichletMarkovChain
from toy_worlds.markov.markov_mixture import MarkovMixture

__all__ = ["DirichletMarkovChain", "MarkovMixture"]
