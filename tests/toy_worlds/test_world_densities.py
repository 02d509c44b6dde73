"""Each world's density against its formula, written out in loops over tokens, paths and styles."""

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_worlds import FINITE, every_document, small_world
from torch.testing import assert_close

from toy_worlds import make_world
from toy_worlds.hidden_markov import forward
from toy_worlds.knowledge.biography_words import ATTRIBUTES, NAMES

EXACT = {"rtol": 1e-10, "atol": 1e-14}
Document = list[int]


def unigram(world: Any, c: int, d: Document) -> float:
    return math.prod(world.log_table_RK[token, c].exp().item() for token in d)


def markov(world: Any, c: int, d: Document) -> float:
    table, size = world.log_table_RK[:, c].exp(), world.vocab_size
    initial, transition = table[size**2 :], table[: size**2].reshape(size, size)
    steps = (transition[i, j].item() for i, j in itertools.pairwise(d))
    return initial[d[0]].item() * math.prod(steps)


def of_model(table: torch.Tensor, c: int) -> torch.Tensor:
    return table[c % len(table)]


def paths(world: Any, c: int, d: Document) -> dict[tuple[int, ...], float]:
    """P(d, hidden path | c) of every path."""
    initial, transition, emission = (
        of_model(table, c)
        for table in (world.models.initial_CH, world.models.transition_CHH, world.models.emission_CVH)
    )
    joint = {}
    for path in itertools.product(range(world.num_states), repeat=len(d)):
        moves = (transition[i, j].item() for i, j in itertools.pairwise(path))
        said = (emission[token, state].item() for token, state in zip(d, path, strict=True))
        joint[path] = initial[path[0]].item() * math.prod(moves) * math.prod(said)
    return joint


def hidden_markov(world: Any, c: int, d: Document) -> float:
    return sum(paths(world, c, d).values())


def facts(world: Any, c: int, d: Document) -> float:
    prob, slots = 1.0, []
    for stated, token in enumerate(d):
        slot, value = divmod(token, world.num_values)
        if slot in slots:
            return 0.0
        slots.append(slot)
        true = value == world.tables_KF[c, slot].item()
        prob *= ((1 - world.noise) * true + world.noise / world.num_values) / (world.num_slots - stated)
    return prob


def styles(world: Any, c: int, d: Document) -> float:
    words = world.log_table_VKJ[:, c].exp()
    return sum(math.prod(words[t, j].item() for t in d) for j in range(world.num_styles)) / world.num_styles


def biography(world: Any, c: int, d: Document) -> float:
    """Each sentence's attribute among those left, its phrase among the attribute's, and its value."""
    prob, left = 1.0, list(range(world.num_attributes))
    for start in range(0, len(d), 4):
        statements = world.parse(d[start : start + 4])
        names = [attribute.name for attribute in ATTRIBUTES]
        if statements == [None] or names.index(statements[0].attribute) not in left:
            return 0.0
        (said,), own = statements, world.tables_KF[c]
        attribute = names.index(said.attribute)
        true = said.value == ATTRIBUTES[attribute].values[own[attribute]]
        prob *= (NAMES[c % len(world.grammar.names)] == said.subject) / len(left) / world.num_templates
        prob *= (1 - world.noise) * true + world.noise / world.num_values
        left.remove(attribute)
    return prob


FORMULAS: dict[str, Callable[[Any, int, Document], float]] = {
    "uniform": lambda world, c, d: world.vocab_size ** -float(len(d)),
    "unigram_mixture": unigram,
    "markov_mixture": markov,
    "hmm_mixture": hidden_markov,
    "mess3_mixture": hidden_markov,
    "fact_views": facts,
    "biographies": biography,
    "style_and_topic": styles,
}


@pytest.mark.parametrize("case", FINITE)
def test_the_density_is_its_formula(case: str) -> None:
    world, formula = small_world(case), FORMULAS[FINITE[case][0]]
    d = every_document(world)
    expected = [[formula(world, c, row) for c in range(world.num_concepts)] for row in d.tolist()]
    assert_close(world.log_likelihood(d).exp(), torch.tensor(expected, dtype=torch.float64), **EXACT)


def test_orders_of_facts() -> None:
    """Without noise a table's facts have probability (F − t)!/F! up to all slots, and nothing more."""
    world = make_world("fact_views", num_concepts=1, num_slots=4, num_values=3, num_stated=2, noise=0.0)
    d = torch.arange(4)[None] * 3 + world.tables_KF
    for stated, expected in enumerate([1, 1 / 4, 1 / 12, 1 / 24, 1 / 24]):
        assert world.log_prob(d[:, :stated]).exp().item() == pytest.approx(expected, rel=1e-12)
    assert world.log_prob(torch.cat([d, d[:, :1]], dim=1)).item() == -math.inf


def test_facts_that_are_noise_tell_nothing() -> None:
    world = make_world("fact_views", num_concepts=3, num_slots=3, num_values=2, num_stated=2, noise=1.0)
    d = every_document(world)
    assert_close(world.log_likelihood(d), world.log_prob(d)[:, None].expand(-1, 3), **EXACT)


def test_the_table_of_style_and_topic_mixes_both() -> None:
    """At share 0 every style is alike, at 1 every topic; between, the table is linear in the share."""
    mixed, topics, styles_alone = (
        make_world("style_and_topic", style_share=share).log_table_VKJ.exp() for share in (0.3, 0.0, 1.0)
    )
    assert_close(mixed, 0.7 * topics + 0.3 * styles_alone, **EXACT)
    assert_close(topics, topics[:, :, :1].expand_as(topics), **EXACT)
    assert_close(styles_alone, styles_alone[:, :1].expand_as(topics), **EXACT)


@pytest.mark.parametrize("case", ["hmm", "hmm, no noise", "mess3"])
def test_beliefs_are_sums_over_paths(case: str) -> None:
    world = small_world(case)
    for row in every_document(world)[::4]:
        joint_KH = torch.zeros(world.num_concepts, world.num_states, dtype=torch.float64)
        for c in range(world.num_concepts):
            for path, prob in paths(world, c, row.tolist()).items():
                joint_KH[c, path[-1]] += prob
        for c in range(world.num_concepts):
            mass = joint_KH[c].sum()
            expected = joint_KH[c] / mass if mass > 0 else torch.zeros_like(joint_KH[c])
            assert_close(world.belief_states(row[None], c)[0, -1], expected, **EXACT)
        evidence = joint_KH.sum()
        mixture = joint_KH.sum(dim=0) / evidence if evidence > 0 else torch.zeros_like(joint_KH[0])
        assert_close(world.belief_states(row[None])[0, -1], mixture, **EXACT)


@pytest.mark.parametrize("concept", [None, 0])
def test_beliefs_at_each_position_are_those_of_the_prefix(concept: int | None) -> None:
    world = small_world("mess3")
    d = torch.tensor([[0, 2, 1, 1], [1, 1, -1, -1], [2, 0, 0, -1], [-1, -1, -1, -1]])
    belief = world.belief_states(d, concept)
    for row, length in enumerate([4, 2, 3, 0]):
        for t in range(4):
            expected = torch.zeros(3, dtype=torch.float64)
            if t < length:
                expected = world.belief_states(d[row : row + 1, : t + 1], concept)[0, -1]
            assert_close(belief[row, t], expected, **EXACT)


def test_mess3_by_labelled_matrices() -> None:
    """The process as it is published: T^v[s, s'] = P(s', v | s), emitting on arrival from a uniform start."""
    x, a = 0.15, 0.6
    world = make_world("mess3_mixture", num_concepts=1, settings=[[x, a]])
    b, y = (1 - a) / 2, 1 - 2 * x
    labelled = torch.tensor(
        [
            [[a * y, b * x, b * x], [a * x, b * y, b * x], [a * x, b * x, b * y]],
            [[b * y, a * x, b * x], [b * x, a * y, b * x], [b * x, a * x, b * y]],
            [[b * y, b * x, a * x], [b * x, b * y, a * x], [b * x, b * x, a * y]],
        ],
        dtype=torch.float64,
    )
    for row in every_document(world, 4):
        state = torch.full((3,), 1 / 3, dtype=torch.float64)
        for t, token in enumerate(row):
            state = state @ labelled[token]
            assert_close(world.belief_states(row[None], 0)[0, t], state / state.sum(), **EXACT)
        assert_close(world.log_prob(row[None])[0], state.sum().log(), **EXACT)


def test_the_hmm_world_is_made_as_it_says() -> None:
    """Kronecker products of one shared entity matrix and the concepts' own, all doubly stochastic."""
    world = make_world(
        "hmm_mixture", num_concepts=5, num_entities=3, num_properties=4, vocab_size=6, noise=0.1
    )
    transition = world.models.transition_CHH.reshape(5, 3, 4, 3, 4)
    entity, own = transition.sum(dim=4).mean(dim=2), transition.sum(dim=3).mean(dim=1)
    assert_close(transition, torch.einsum("cij,ckl->cikjl", entity, own), **EXACT)
    assert_close(entity, entity[:1].expand_as(entity), **EXACT)
    assert not torch.allclose(own[0], own[1])
    assert (entity.diagonal(dim1=1, dim2=2) > 0.9 - 1e-12).all()
    for matrix in (entity, own):
        for dim in (1, 2):
            assert_close(matrix.sum(dim=dim), torch.ones_like(matrix[:, 0]), **EXACT)
    assert not world.memory_EP[:, 0].any()
    assert world.memory_EP[:, 1:].min() >= 1
    emission_VH = world.models.emission_CVH[0]
    said = world.memory_EP.flatten()
    assert_close(
        emission_VH[said, torch.arange(12)], torch.full((12,), 0.9 + 0.1 / 6, dtype=torch.float64), **EXACT
    )
    assert_close(emission_VH.sum(dim=0), torch.ones(12, dtype=torch.float64), **EXACT)


def random_models(*, shared: bool) -> forward.HiddenMarkovModels:
    """Three models of 2 states and 3 symbols without any symmetry, or one set of tables that they share."""

    def rows(*shape: int) -> torch.Tensor:
        return torch.rand(shape, dtype=torch.float64, generator=source).softmax(dim=-1)

    source, models = torch.Generator().manual_seed(0), 1 if shared else 3
    return forward.HiddenMarkovModels(rows(models, 2), rows(3, 2, 2), rows(models, 2, 3).transpose(1, 2))


@pytest.mark.parametrize("shared", [False, True])
def test_the_forward_pass_emits_before_it_moves(shared: bool) -> None:
    """Models whose first state is not stationary, against sums over paths."""
    models = random_models(shared=shared)
    d = torch.tensor(list(itertools.product(range(3), repeat=3)))
    log_evidence = forward.log_evidence(models, d)
    tokens, belief = forward.token_log_evidence(models, d), forward.beliefs(models, d)
    for row, c in itertools.product(range(len(d)), range(3)):
        joint = paths(SimpleNamespace(models=models, num_states=2), c, d[row].tolist())
        prob = sum(joint.values())
        last = [sum(p for path, p in joint.items() if path[-1] == state) / prob for state in range(2)]
        assert log_evidence[row, c].exp().item() == pytest.approx(prob, rel=1e-12)
        assert tokens[row, :, c].sum().exp().item() == pytest.approx(prob, rel=1e-12)
        assert belief[row, -1, c].tolist() == pytest.approx(last, rel=1e-12)


def log_space_forward(models: forward.HiddenMarkovModels, d: torch.Tensor) -> torch.Tensor:
    """log P(d | model) of one model without any scaling."""
    initial, transition, emission = (
        table[0].log() for table in (models.initial_CH, models.transition_CHH, models.emission_CVH)
    )
    state = initial + emission[d[:, 0]]
    for token in d[:, 1:].T:
        state = (state[:, :, None] + transition).logsumexp(dim=1) + emission[token]
    return state.logsumexp(dim=1)


@pytest.mark.parametrize("noise", [1e-2, 1e-60, 1e-120])
def test_long_and_unlikely_documents_do_not_underflow(noise: float) -> None:
    """600 random tokens, each a most unlikely one: far below the smallest float64, exact all the same."""
    world = make_world("hmm_mixture", num_concepts=2, vocab_size=50, noise=noise)
    d = torch.randint(50, (3, 600), generator=torch.Generator().manual_seed(0))
    for concept in range(2):
        expected = log_space_forward(world.models[torch.tensor([concept])], d)
        assert_close(world.log_likelihood(d)[:, concept], expected, rtol=1e-10, atol=0.0)


def test_scalings_are_as_frequent_as_the_probabilities_ask() -> None:
    def tokens(noise: float) -> int:
        return make_world("hmm_mixture", vocab_size=50, noise=noise).models.tokens_unscaled()

    assert [tokens(noise) for noise in (0.0, 1e-2, 1e-60, 1e-250)] == [8, 8, 4, 1]
    d = torch.zeros(2, 20, dtype=torch.int64)
    d[1, 18:] = -1
    scaled = [(t, rows) for t, rows, _, _ in forward.forward(random_models(shared=False), d, every=8)]
    assert scaled == [(7, slice(0, 2)), (15, slice(0, 2)), (17, slice(1, 2)), (19, slice(0, 1))]


def test_a_documents_bits_do_not_depend_on_its_order_in_the_batch() -> None:
    world = make_world("hmm_mixture")
    source = torch.Generator().manual_seed(0)
    d = world.sample(world.sample_concept(40, source), source)
    d[torch.arange(32) >= torch.randint(33, (40, 1), generator=source)] = -1
    order = torch.randperm(40, generator=source)
    assert_close(world.log_prob(d[order]), world.log_prob(d)[order], **EXACT)


def test_the_tree_is_the_formula() -> None:
    world = make_world("topic_tree", vocab_size=3, doc_length=3, depth=2, branching=2)
    c = world.sample_concept(1, torch.Generator().manual_seed(0))
    d = every_document(world)
    expected = [sum(math.prod(leaf[t].item() for t in row) for leaf in c[0]) / 2 for row in d.tolist()]
    log_prob = world.log_prob_given(d, c.expand(len(d), -1, -1))
    assert_close(log_prob.exp(), torch.tensor(expected, dtype=torch.float64), **EXACT)
    padded = torch.nn.functional.pad(d, (0, 4), value=-1)
    assert torch.equal(world.log_prob_given(padded, c.expand(len(d), -1, -1)), log_prob)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says here what a process needed")
def test_ten_thousand_concepts_fit_in_a_gibibyte() -> None:
    """A process, torch included, that scores 500 pairs and infers as many posteriors (by tokens: 2.6 GB)."""
    script = """
from pathlib import Path
import torch
from toy_worlds import make_world
source = torch.Generator().manual_seed(0)
world = make_world("markov_mixture", num_concepts=10_000, vocab_size=32, doc_length=64)
d = world.sample(world.sample_concept(500, source), source)
world.log_prob_pair(d, given=d.flip(0))
world.posterior(d)
# Not getrusage, whose peak a process takes over from the one that starts it.
(line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(line.split()[1]) * 1024)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=root
    )
    assert int(done.stdout) < 2**30
