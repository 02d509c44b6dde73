"""Worlds of hidden Markov models, and one forward pass for all of them."""

from toy_worlds.hidden_markov.hmm_mixture import HmmMixture
from toy_worlds.hidden_markov.mess3_mixture import Mess3Mixture

__all__ = ["HmmMixture", "Mess3Mixture"]
