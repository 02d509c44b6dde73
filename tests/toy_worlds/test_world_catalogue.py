"""The catalogue: names, parameters, seeds, and the examples in the worlds' descriptions."""

import doctest
import importlib
import inspect
import json
from typing import Any

import pytest
import torch

from sbp_bayes.base.errors import ConfigError
from toy_worlds import WORLDS, make_world

NAMES = {
    "uniform",
    "dirichlet_unigram",
    "dirichlet_markov",
    "unigram_mixture",
    "markov_mixture",
    "hmm_mixture",
    "mess3_mixture",
    "fact_views",
    "biographies",
    "style_and_topic",
    "topic_tree",
}
DRAWN = {
    "unigram_mixture": "log_table_RK",
    "markov_mixture": "log_table_RK",
    "hmm_mixture": "memory_EP",
    "mess3_mixture": "settings_K2",
    "fact_views": "tables_KF",
    "biographies": "tables_KF",
    "style_and_topic": "log_table_VKJ",
    "topic_tree": "root_V",
}


def test_all_worlds_are_there() -> None:
    assert set(WORLDS) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_parameters_are_kept(name: str) -> None:
    world = make_world(name, seed=5)
    assert list(world.params) == list(inspect.signature(WORLDS[name]).parameters)
    assert world.params["seed"] == world.seed == 5
    assert world.params["vocab_size"] == world.vocab_size
    assert world.params["doc_length"] == world.doc_length
    again = make_world(name, **json.loads(json.dumps(world.params)))
    assert again.params == world.params


@pytest.mark.parametrize("name", DRAWN)
def test_the_seed_decides_the_world(name: str) -> None:
    first, same, other = (getattr(make_world(name, seed=seed), DRAWN[name]) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_worlds_do_not_use_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    for name in NAMES:
        world, source = make_world(name), torch.Generator().manual_seed(0)
        world.sample(world.sample_concept(2, source), source)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_example_in_the_description_is_right(name: str) -> None:
    """Every world has a worked example, and it gives the numbers that it says."""
    cls = WORLDS[name]
    module = importlib.import_module(cls.__module__)
    (found,) = doctest.DocTestFinder(recurse=False).find(cls, globs=vars(module) | {"torch": torch})
    results = doctest.DocTestRunner(verbose=False).run(found)
    assert results.failed == 0
    assert results.attempted >= 2
    assert "P(d" in cls.__doc__
    for parameter in inspect.signature(cls).parameters:
        assert f"\n        {parameter}: " in cls.__doc__


def test_an_unknown_world_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown world 'fact_view' \(did you mean 'fact_views'\?\)"):
        make_world("fact_view")
    with pytest.raises(ConfigError, match=r"unknown world 'zzz' \(known: uniform, "):
        make_world("zzz")


def test_an_unknown_parameter_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'num_slot' of world 'fact_views' \(did you mean 'num_slots'\?\)"):
        make_world("fact_views", num_slot=3)
    with pytest.raises(ConfigError, match=r"'num_concepts' of world 'topic_tree'"):
        make_world("topic_tree", num_concepts=3)


TWO = {"num_concepts": 2, "vocab_size": 2}
CHAIN = {"num_concepts": 1, "vocab_size": 2}
ENTITY = {**CHAIN, "num_entities": 1, "num_properties": 2}
FACTS = {"num_concepts": 2, "num_slots": 1, "num_values": 4, "num_stated": 1}
OUT_OF_RANGE: list[tuple[str, dict[str, Any], str]] = [
    *[(name, {"doc_length": 0}, r"doc_length = 0 is out of range") for name in sorted(NAMES)],
    *[(name, {"vocab_size": 0}, r"vocab_size = 0 is out of range") for name in sorted(NAMES)],
    *[(name, {"seed": "x"}, r"seed = 'x' is out of range: expected an integer") for name in sorted(NAMES)],
    *[
        (name, {"num_concepts": value}, rf"num_concepts = {value} .* integer of at least 1")
        for name in ("uniform", *sorted(set(DRAWN) - {"topic_tree"}))
        for value in (0, 2.0, True)
    ],
    *[
        (name, {"concentration": value}, rf"concentration = {value} .* number in \(0.0, inf\)")
        for name, cls in sorted(WORLDS.items())
        if "concentration" in inspect.signature(cls).parameters
        for value in (0.0, -1, float("nan"), float("inf"))
    ],
    ("markov_mixture", {"initial": "x"}, "initial = 'x' .* uniform or sampled"),
    ("hmm_mixture", {"vocab_size": 1}, "vocab_size = 1 .* at least 2"),
    ("hmm_mixture", {"num_entities": 0}, "num_entities = 0"),
    ("hmm_mixture", {"num_properties": 0}, "num_properties = 0"),
    ("hmm_mixture", {"entity_stickiness": 1.1}, r"entity_stickiness = 1.1 .* number in \[0.0, 1.0\]"),
    ("hmm_mixture", {"temperature": 0}, r"temperature = 0 .* number in \(0.0, inf\)"),
    ("hmm_mixture", {"noise": -0.1}, r"noise = -0.1 .* number in \[0.0, 1.0\]"),
    ("mess3_mixture", {"vocab_size": 4}, "vocab_size = 4 .* expected 3"),
    ("mess3_mixture", {"settings": [[0.1, 0.5]]}, "settings = .* expected num_concepts = 8 pairs"),
    ("mess3_mixture", {"num_concepts": 1, "settings": [[0.1]]}, "settings = "),
    ("mess3_mixture", {"num_concepts": 1, "settings": [0.1]}, "settings = "),
    ("mess3_mixture", {"num_concepts": 1, "settings": [[0.6, 0.5]]}, r"settings\[0\].x = 0.6"),
    ("mess3_mixture", {"num_concepts": 1, "settings": [[0.5, 1.5]]}, r"settings\[0\].a = 1.5"),
    ("fact_views", {"num_slots": 0}, "num_slots = 0"),
    ("fact_views", {"num_values": 0}, "num_values = 0"),
    ("fact_views", {"num_stated": 0}, "num_stated = 0"),
    ("fact_views", {"num_stated": 13}, "num_stated = 13 .* at most num_slots = 12"),
    ("fact_views", {"noise": 1.5}, r"noise = 1.5 .* number in \[0.0, 1.0\]"),
    ("fact_views", {"vocab_size": 5}, "vocab_size = 5 .* = 144"),
    ("fact_views", {"doc_length": 5}, "doc_length = 5 .* num_stated = 6"),
    ("biographies", {"num_attributes": 0}, "num_attributes = 0"),
    ("biographies", {"num_attributes": 9}, "num_attributes = 9 .* at most 8"),
    ("biographies", {"num_values": 13}, "num_values = 13 .* at most 12"),
    ("biographies", {"num_stated": 9}, "num_stated = 9 .* at most 8"),
    ("biographies", {"num_templates": 4}, "num_templates = 4 .* at most 3"),
    ("biographies", {"noise": -1}, r"noise = -1 .* number in \[0.0, 1.0\]"),
    ("biographies", {"num_concepts": 101}, "num_concepts = 101 .* at most 100"),
    ("biographies", {"num_concepts": 5, "num_names": 6}, "num_names = 6 .* at most 5"),
    ("biographies", {"num_concepts": 101, "num_names": 101}, "num_names = 101 .* at most 100"),
    ("biographies", {"num_names": 0}, "num_names = 0 .* at least 1"),
    ("biographies", {"doc_length": 5}, "doc_length = 5 .* = 12"),
    (
        "biographies",
        {"num_concepts": 2, "tables": [[0] * 8]},
        r"tables = .* numbers in the shape \(2, 8\)",
    ),
    ("biographies", {"num_concepts": 1, "tables": [[0] * 7]}, r"tables = .* in the shape \(1, 8\)"),
    ("biographies", {"num_concepts": 1, "tables": [[0] * 7 + [12]]}, "tables = .* integers from 0 to 11"),
    ("biographies", {"num_concepts": 1, "tables": [[0] * 7 + [0.5]]}, "tables = .* integers"),
    ("style_and_topic", {"num_styles": 0}, "num_styles = 0"),
    ("style_and_topic", {"style_share": 2}, r"style_share = 2 .* number in \[0.0, 1.0\]"),
    ("topic_tree", {"depth": 0}, "depth = 0"),
    ("topic_tree", {"branching": 0}, "branching = 0"),
    ("topic_tree", {"root_concentration": 0.0}, r"root_concentration = 0.0 .* number in \(0.0, inf\)"),
]


ROWS = [[0.5, 0.5], [0.9, 0.1]]
TABLES: list[tuple[str, dict[str, Any]]] = [
    ("unigram_mixture", {**TWO, "words": ROWS}),
    ("markov_mixture", {**CHAIN, "transitions": [ROWS]}),
    ("markov_mixture", {**CHAIN, "transitions": [ROWS], "initial": "sampled"}),
    (
        "hmm_mixture",
        {**ENTITY, "memory": [[0, 1]], "transitions": [ROWS]},
    ),
    (
        "fact_views",
        {**FACTS, "tables": [[0], [3]]},
    ),
    (
        "style_and_topic",
        {**TWO, "num_styles": 2, "topics": ROWS, "styles": ROWS},
    ),
    ("topic_tree", {"vocab_size": 2, "root": [0.25, 0.75]}),
]


@pytest.mark.parametrize(("name", "params"), TABLES)
def test_tables_stand_in_place_of_drawn_ones(name: str, params: dict[str, Any]) -> None:
    """Lists and tensors are taken alike, whatever the seed, and `params` have them as JSON types."""
    given = {key: torch.tensor(v) if isinstance(v, list) else v for key, v in params.items()}
    world, again, source = make_world(name, **params), make_world(name, **given, seed=1), torch.Generator()
    own = DRAWN[name]
    if params.get("initial") != "sampled":  # the first token's distribution is still drawn
        torch.testing.assert_close(getattr(world, own), getattr(again, own), rtol=1e-6, atol=0)
    copy = make_world(name, **json.loads(json.dumps(again.params)))
    d = world.sample(world.sample_concept(20, source), source)
    c = again.sample_concept(20, source.manual_seed(0))
    assert torch.equal(again.log_prob_given(d, c), copy.log_prob_given(d, c))


def test_a_table_is_the_probability_that_it_says() -> None:
    words = make_world("unigram_mixture", num_concepts=2, vocab_size=2, words=ROWS)
    styles = make_world("style_and_topic", **TWO, num_styles=1, style_share=0.0, topics=ROWS)
    chains = make_world("markov_mixture", num_concepts=1, vocab_size=2, transitions=[ROWS])
    facts = make_world("fact_views", **FACTS, tables=[[0], [3]])
    one = torch.tensor([[1]])
    assert words.log_likelihood(one).exp().tolist() == [pytest.approx([0.5, 0.1])]
    assert styles.log_likelihood(one).exp().tolist() == [pytest.approx([0.5, 0.1])]
    assert chains.log_prob(torch.tensor([[1, 0], [0, 0]])).exp().tolist() == pytest.approx([0.45, 0.25])
    assert facts.log_likelihood(torch.tensor([[3]])).exp().tolist() == [pytest.approx([0.005, 0.985])]


WRONG_TABLES: list[tuple[str, dict[str, Any], str]] = [
    ("unigram_mixture", {"vocab_size": 2, "words": ROWS}, r"words = .* in the shape \(16, 2\)"),
    ("unigram_mixture", {**CHAIN, "words": [[0.5]]}, "words = .* in the shape"),
    ("unigram_mixture", {**CHAIN, "words": "ab"}, "words = 'ab' .* in the shape"),
    ("unigram_mixture", {**CHAIN, "words": [[0.5, 0.6]]}, "each row .* sums to 1"),
    ("unigram_mixture", {**CHAIN, "words": [[1.5, -0.5]]}, "probabilities"),
    ("markov_mixture", {**CHAIN, "transitions": ROWS}, "transitions = "),
    (
        "hmm_mixture",
        {**ENTITY, "memory": [[0, 2]]},
        "integers from 0 to 1",
    ),
    ("hmm_mixture", {**ENTITY, "transitions": [[1.0]]}, "transitions = "),
    ("fact_views", {"num_concepts": 1, "tables": [[0.5] * 12]}, "tables = .* integers from 0 to 11"),
    ("style_and_topic", {"vocab_size": 2, "styles": ROWS}, "styles = "),
    ("topic_tree", {"vocab_size": 2, "root": [0.0, float("nan")]}, "root = .* finite"),
]


@pytest.mark.parametrize(("name", "params", "message"), OUT_OF_RANGE + WRONG_TABLES)
def test_a_parameter_out_of_range_is_named(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_world(name, **params)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("uniform", {"vocab_size": 1}),
        ("hmm_mixture", {"noise": 1.0, "entity_stickiness": 1.0}),
        ("hmm_mixture", {"num_entities": 1, "num_properties": 1, "entity_stickiness": 0.0}),
        ("mess3_mixture", {"num_concepts": 2, "settings": [[0.0, 0.0], [0.5, 1.0]]}),
        ("fact_views", {"num_slots": 1, "num_values": 1, "num_stated": 1, "noise": 1}),
        ("biographies", {"num_concepts": 100, "num_stated": 8, "noise": 1}),
        ("biographies", {"num_concepts": 300, "num_names": 100, "num_values": 1}),
        ("biographies", {"num_concepts": 1, "num_attributes": 1, "num_stated": 1, "num_templates": 1}),
        ("style_and_topic", {"style_share": 0, "num_styles": 1}),
        ("topic_tree", {"depth": 1, "branching": 1}),
        ("unigram_mixture", {"concentration": 1e-3}),
        ("markov_mixture", {"concentration": 1e-3, "initial": "sampled"}),
    ],
)
def test_the_ends_of_ranges_are_inside(name: str, params: dict[str, Any]) -> None:
    world, source = make_world(name, **params), torch.Generator().manual_seed(0)
    c = world.sample_concept(50, source)
    assert (world.log_prob_given(world.sample(c, source), c) > -torch.inf).all()
