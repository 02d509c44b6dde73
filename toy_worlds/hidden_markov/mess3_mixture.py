"""Concepts as settings of the Mess3 process.

Shapes: K concepts, H = V = 3 hidden states and tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sbp_bayes.base.config import require
from sbp_bayes.base.seeds import torch_generator
from toy_worlds.hidden_markov.forward import HiddenMarkovModels
from toy_worlds.hidden_markov.hidden_markov_world import HiddenMarkovWorld
from toy_worlds.world import require_count, require_number, require_seed


class Mess3Mixture(HiddenMarkovWorld):
    """Three states that move alike and each favour a token: belief states of one such process are a fractal.

        P(d | c) = Σ_s ⅓ Π_t B_c(d_t | s_t) Π_{t>1} A_c[s_{t−1}, s_t]

    with A_c[s, s'] = 1 − 2x if s' = s, else x, and B_c(v | s) = a if v = s, else (1 − a) / 2; the first
    state is uniform, which is stationary. (Labelled matrices T^v[s, s'] = A[s, s'] B(v | s'), emitting on
    arrival, are the same process.) A concept is a setting (x, a); P(c) = 1 / num_concepts.

    Source: Mess3 of arXiv 1702.08565, as in arXiv 2405.15943 (x = 0.05, a = 0.85), whose belief states,
    P(s_t | d_≤t), `belief_states` returns.

    Args:
        num_concepts: at least 1.
        vocab_size: 3.
        doc_length: tokens of a document, at least 1.
        seed: draws x from (0, 1/2) and a from (1/3, 1), uniformly.
        settings: (x, a) of every concept in place of drawn ones; x in [0, 1/2], a in [0, 1].

    Example: x = 0.05, a = 0.85. P("00") = ⅓ · [0.85 (0.9 · 0.85 + 0.1 · 0.075) + 2 · 0.075 (0.05 · 0.85 +
    0.95 · 0.075)] = 0.2246, and behind the token 0 the belief is (0.85, 0.075, 0.075).

        >>> world = Mess3Mixture(num_concepts=1, settings=[(0.05, 0.85)])
        >>> d = torch.tensor([[0, 0]])
        >>> round(world.log_prob(d).exp().item(), 4)
        0.2246
        >>> world.belief_states(d, concept=0)[0, 0]
        tensor([0.8500, 0.0750, 0.0750], dtype=torch.float64)
    """

    def __init__(
        self,
        *,
        num_concepts: int = 8,
        vocab_size: int = 3,
        doc_length: int = 32,
        seed: int = 0,
        settings: Sequence[Sequence[float]] | None = None,
    ) -> None:
        require_count("num_concepts", num_concepts)
        require(vocab_size == 3, "vocab_size", vocab_size, "3")
        self.seed, self.settings = require_seed(seed), settings
        self.settings_K2 = self._draw(num_concepts) if settings is None else _checked(settings, num_concepts)
        x_K, a_K = self.settings_K2.T
        models = HiddenMarkovModels(
            initial_CH=torch.full((1, 3), 1.0 / 3.0, dtype=torch.float64),
            transition_CHH=_symmetric(1.0 - 2.0 * x_K, x_K),
            emission_CVH=_symmetric(a_K, (1.0 - a_K) / 2.0),
        )
        super().__init__(models, num_concepts, require_count("doc_length", doc_length))

    def _draw(self, num_concepts: int) -> Tensor:
        generator = torch_generator(self.seed, "mess3_mixture")
        uniform_K2 = torch.rand(num_concepts, 2, dtype=torch.float64, generator=generator)
        low, high = torch.tensor([[0.0, 1.0 / 3.0], [0.5, 1.0]], dtype=torch.float64)
        return low + (high - low) * uniform_K2


def _checked(settings: Sequence[Sequence[float]], num_concepts: int) -> Tensor:
    valid = isinstance(settings, Sequence) and len(settings) == num_concepts
    valid = valid and all(isinstance(pair, Sequence) and len(pair) == 2 for pair in settings)
    require(valid, "settings", settings, f"num_concepts = {num_concepts} pairs (x, a)")
    for i, (x, a) in enumerate(settings):
        require_number(f"settings[{i}].x", x, 0.0, 0.5)
        require_number(f"settings[{i}].a", a, 0.0, 1.0)
    return torch.tensor(settings, dtype=torch.float64)


def _symmetric(diagonal_K: Tensor, other_K: Tensor) -> Tensor:
    """Return matrices (K, 3, 3) of one value on the diagonal and another elsewhere."""
    same = torch.eye(3, dtype=torch.bool)
    return torch.where(same, diagonal_K[:, None, None], other_K[:, None, None])
