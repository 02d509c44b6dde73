"""Concepts as ways of moving through a memory of entities and properties (GINC).

Shapes: E entities, P properties, H = E · P hidden states, V vocabulary, K concepts.
"""

import torch
from torch import Tensor

from sbp_bayes.base.seeds import torch_generator
from toy_worlds.hidden_markov.forward import HiddenMarkovModels
from toy_worlds.hidden_markov.hidden_markov_world import HiddenMarkovWorld
from toy_worlds.world import (
    Table,
    require_count,
    require_integers,
    require_number,
    require_probabilities,
    require_seed,
)


class HmmMixture(HiddenMarkovWorld):
    """A document walks over (entity, property) states and says what a shared memory holds there.

    The state s = entity · num_properties + property moves by A_c[(e, p), (e', p')] = E[e, e'] P_c[p, p'].
    The entities' matrix E is shared; the concept is the properties' matrix P_c. Both are sums of random
    permutations (as many as they have rows) with weights softmax((u − ½) / temperature), u uniform; E is
    mixed with the identity by `entity_stickiness`. A state's token is memory[e, p] with probability
    1 − noise, and any token otherwise; memory[e, 0] = 0 is the delimiter, the rest is uniform on
    1 … vocab_size − 1. The first state is uniform; P(c) = 1 / num_concepts.

        P(d | c) = Σ_s (1 / H) Π_t B(d_t | s_t) Π_{t>1} A_c[s_{t−1}, s_t]

    Source: GINC, arXiv 2111.02080, where each concept's first state is drawn nearly uniformly, and there is
    no noise.

    Args:
        num_concepts: at least 1.
        vocab_size: at least 2.
        doc_length: tokens of a document, at least 1.
        seed: draws the memory and the matrices.
        num_entities: at least 1.
        num_properties: at least 1.
        entity_stickiness: in [0, 1].
        temperature: above 0; the smaller, the nearer to permutations the matrices are.
        noise: in [0, 1].
        memory: the token of every entity and property in place of drawn ones, (num_entities, num_properties).
        transitions: A_c of every concept in place of drawn ones, (num_concepts, H, H), H the states.

    Example: one entity that has one property beside the delimiter, of token 1, no noise, and the
    matrices P_0 = [[0, 1], [1, 0]] and P_1 = [[½, ½], [½, ½]].
    P("010") = (½ + ⅛) / 2 = 0.3125, and P("010" | "010") = (¼ + 1/64) / (½ + ⅛) = 0.425.

        >>> sizes = {"num_concepts": 2, "vocab_size": 2, "num_entities": 1, "num_properties": 2}
        >>> even = [[0.5, 0.5], [0.5, 0.5]]
        >>> world = HmmMixture(**sizes, memory=[[0, 1]], transitions=[[[0, 1], [1, 0]], even])
        >>> d = torch.tensor([[0, 1, 0]])
        >>> round(world.log_prob(d).exp().item(), 4), round(world.log_prob_pair(d, given=d).exp().item(), 4)
        (0.3125, 0.425)
    """

    def __init__(
        self,
        *,
        num_concepts: int = 16,
        vocab_size: int = 16,
        doc_length: int = 32,
        seed: int = 0,
        num_entities: int = 4,
        num_properties: int = 4,
        entity_stickiness: float = 0.9,
        temperature: float = 0.1,
        noise: float = 0.0,
        memory: Table | None = None,
        transitions: Table | None = None,
    ) -> None:
        require_count("num_concepts", num_concepts)
        require_count("vocab_size", vocab_size, least=2)
        self.num_entities = require_count("num_entities", num_entities)
        self.num_properties = require_count("num_properties", num_properties)
        self.entity_stickiness = require_number("entity_stickiness", entity_stickiness, 0.0, 1.0)
        self.temperature = require_number("temperature", temperature, 0.0, low_open=True)
        self.noise, self.seed = require_number("noise", noise, 0.0, 1.0), require_seed(seed)
        self.memory, self.transitions = memory, transitions
        states = num_entities * num_properties
        if memory is None:
            self.memory_EP = self._draw_memory(vocab_size)
        else:
            self.memory_EP = require_integers("memory", memory, (num_entities, num_properties), vocab_size)
        if transitions is None:
            transition_CHH = self._draw_transitions(num_concepts)
        else:
            transition_CHH = require_probabilities("transitions", transitions, (num_concepts, states, states))
        models = HiddenMarkovModels(
            initial_CH=torch.full((1, states), 1.0 / states, dtype=torch.float64),
            transition_CHH=transition_CHH,
            emission_CVH=self._emission(vocab_size),
        )
        super().__init__(models, num_concepts, require_count("doc_length", doc_length))

    def _draw_memory(self, vocab_size: int) -> Tensor:
        """Return the token of every entity and property, (E, P); property 0 is the delimiter."""
        generator = torch_generator(self.seed, "hmm_mixture", "memory")
        shape = (self.num_entities, self.num_properties)
        memory_EP = torch.randint(1, vocab_size, shape, generator=generator)
        memory_EP[:, 0] = 0
        return memory_EP

    def _emission(self, vocab_size: int) -> Tensor:
        """Return P(token | state), (1, V, H), the same for all concepts."""
        said_HV = torch.nn.functional.one_hot(self.memory_EP.flatten(), vocab_size).double()
        return ((1.0 - self.noise) * said_HV + self.noise / vocab_size).T[None].contiguous()

    def _draw_transitions(self, num_concepts: int) -> Tensor:
        """Return A_c for every concept, (K, H, H)."""
        generator = torch_generator(self.seed, "hmm_mixture", "transitions")
        entity_EE = _mixed_permutations(self.num_entities, self.temperature, generator)
        sticky_EE = torch.eye(self.num_entities, dtype=torch.float64) * self.entity_stickiness
        sticky_EE += (1.0 - self.entity_stickiness) * entity_EE
        return torch.stack(
            [
                torch.kron(sticky_EE, _mixed_permutations(self.num_properties, self.temperature, generator))
                for _ in range(num_concepts)
            ]
        )


def _mixed_permutations(size: int, temperature: float, generator: torch.Generator) -> Tensor:
    """Return a doubly stochastic matrix, (size, size): `size` random permutations, randomly weighted."""
    uniform = torch.rand(size, dtype=torch.float64, generator=generator)
    weights = ((uniform - 0.5) / temperature).softmax(dim=0)
    orders = [torch.randperm(size, generator=generator) for _ in range(size)]
    return (weights[:, None, None] * torch.eye(size, dtype=torch.float64)[torch.stack(orders)]).sum(dim=0)
