"""A tree of topics around topics: a continuous concept without a closed form.

Shapes: N documents, T time, L leaves, V vocabulary.
"""

import math

import torch
from torch import Tensor

from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.concept.conjugate import log_dirichlet
from sbp_bayes.concept.documents import PAD, check_documents
from toy_worlds.world import (
    Parameters,
    Table,
    require_count,
    require_number,
    require_probabilities,
    require_seed,
)


class TopicTree(Parameters):
    """A concept is a tree of word distributions; a document draws a leaf, and its words from that leaf.

    The root's distribution r ~ Dirichlet(root_concentration, …) is the world's, from the seed. A concept
    is a topic below it, τ ~ Dirichlet(κ r), with `branching` children ~ Dirichlet(κ τ), each with as many
    of its own, and so on: κ = concentration, and `depth` levels without the root's. With the leaves
    c_1 … c_L, L = branching^(depth − 1),

        P(d | c) = (1 / L) Σ_l Π_t c_l(d_t).

    P(d) = ∫ P(d | c) P(c) dc has no closed form unless depth = 1 (Dirichlet–categorical, κ r): the world
    is no `ExactModel`. Estimate P(d) by `sbp_bayes.concept.annealed_log_prob`. Source: the hierarchical
    Dirichlet prior of MacKay and Peto 1995, "A hierarchical Dirichlet language model".

    Args:
        vocab_size: at least 1.
        doc_length: tokens of a document, at least 1.
        seed: draws the root.
        depth: levels below the root, at least 1.
        branching: children of a topic, at least 1.
        concentration: κ, above 0; the larger, the nearer children are to their parents.
        root_concentration: above 0.
        root: r in place of a drawn one, (vocab_size,).

    Example: a concept of the two leaves (0.9, 0.1) and (0.2, 0.8): P("00" | c) = (0.81 + 0.04) / 2 = 0.425.

        >>> world = TopicTree(vocab_size=2, depth=2, branching=2)
        >>> leaves = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]], dtype=torch.float64)
        >>> round(world.log_prob_given(torch.tensor([[0, 0]]), leaves).exp().item(), 4)
        0.425
    """

    def __init__(
        self,
        *,
        vocab_size: int = 16,
        doc_length: int = 32,
        seed: int = 0,
        depth: int = 2,
        branching: int = 4,
        concentration: float = 8.0,
        root_concentration: float = 1.0,
        root: Table | None = None,
    ) -> None:
        self.vocab_size = require_count("vocab_size", vocab_size)
        self.doc_length = require_count("doc_length", doc_length)
        self.depth, self.branching = require_count("depth", depth), require_count("branching", branching)
        self.concentration = require_number("concentration", concentration, 0.0, low_open=True)
        self.root_concentration = require_number("root_concentration", root_concentration, 0.0, low_open=True)
        self.seed, self.root = require_seed(seed), root
        if root is None:
            alpha_V = torch.full((vocab_size,), self.root_concentration, dtype=torch.float64)
            self.root_V = log_dirichlet(alpha_V, torch_generator(seed, "topic_tree")).exp()
        else:
            self.root_V = require_probabilities("root", root, (vocab_size,))

    @property
    def num_leaves(self) -> int:
        """L, the leaves of a concept."""
        return self.branching ** (self.depth - 1)

    def sample_concept(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n concepts: their leaves' word distributions, (n, L, V)."""
        nodes_NXV = self.root_V.expand(n, 1, -1)
        for level in range(self.depth):
            parents_NXV = nodes_NXV.repeat_interleave(self.branching if level else 1, dim=1)
            nodes_NXV = log_dirichlet(self.concentration * parents_NXV, generator).exp()
        return nodes_NXV

    def sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one document d ~ P(d | c) for each concept of `c` (N, L, V), int64 (N, doc_length)."""
        leaf_N = torch.randint(c.shape[1], (len(c),), generator=generator)
        words_NV = c[torch.arange(len(c)), leaf_N]
        return torch.multinomial(words_NV, self.doc_length, replacement=True, generator=generator)

    def log_prob_given(self, d: Tensor, c: Tensor) -> Tensor:
        """Return log P(d | c) = log (1/L) Σ_l Π_t c_l(d_t), one concept (L, V) a document, (N,)."""
        check_documents(d, self.vocab_size)
        log_words_NLV = c.log()
        log_leaf_NL = torch.zeros(c.shape[:2], dtype=torch.float64)
        for token_N in d.T:
            log_word_NL = log_words_NLV[torch.arange(len(d)), :, token_N.clamp(min=0)]
            log_leaf_NL = log_leaf_NL + log_word_NL.masked_fill((token_N == PAD)[:, None], 0.0)
        return log_leaf_NL.logsumexp(dim=1) - math.log(c.shape[1])
