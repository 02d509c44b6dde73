"""Recall of facts: the questions, the Bayes-optimal rate by brute force, a transformer's answers by hand."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.records import EOS
from sbp_bayes.evaluation import next_world_token, recall_items, score_recall
from sbp_bayes.lm import LMConfig, Transformer
from sbp_bayes.synthesizer.vocabulary import NUM_SPECIAL
from toy_worlds import make_world
from toy_worlds.knowledge import BiographiesGivenDocuments

WORLDS = {
    "biographies": make_world(
        "biographies",
        num_concepts=3,
        num_attributes=3,
        num_values=2,
        num_stated=2,
        num_templates=2,
        noise=0.3,
        num_names=2,
    ),
    "fact_views": make_world(
        "fact_views", num_concepts=4, num_slots=3, num_values=3, num_stated=2, noise=0.3
    ),
}
both_worlds = pytest.mark.parametrize("name", WORLDS)


def every_document(world):
    if hasattr(world, "grammar"):
        choices = [range(2), range(3), range(3), range(2), range(2), range(2), range(2)]
        rows = [row for row in itertools.product(*choices) if row[1] != row[2]]
        name, *rest = (torch.tensor(column) for column in zip(*rows, strict=True))
        attribute, template, value = (torch.stack(rest[i : i + 2], dim=1) for i in (0, 2, 4))
        return world.grammar.spell(name, attribute, template, value)
    return torch.tensor([d for d in itertools.product(range(9), repeat=2) if d[0] // 3 != d[1] // 3])


def fact_asked(world, prompt, candidates):
    """Which column of the table the candidates are of."""
    if hasattr(world, "grammar"):
        return [row.tolist() for row in world.grammar.value_FV].index(candidates)
    return candidates[0] // world.num_values


def brute_force(world, stated):
    """E[max_v P(fact = v | prompt)] and E[P(next = the fact | prompt)], over all concepts and documents."""
    d = every_document(world)
    prob_DK = world.log_likelihood(d).exp() / world.num_concepts
    assert prob_DK.sum().item() == pytest.approx(1, rel=1e-10)
    prompts, candidates, _ = world.fact_question(d, stated)
    true, written = (
        defaultdict(lambda: np.zeros(world.num_values)),
        defaultdict(lambda: np.zeros(world.num_values)),
    )
    for row, tokens, prompt, prob_K in zip(
        d.tolist(), candidates.tolist(), prompts.tolist(), prob_DK, strict=True
    ):
        asked = fact_asked(world, prompt, tokens)
        place = tokens.index(row[len(prompt)])
        for c, prob in enumerate(prob_K.tolist()):
            true[(*prompt, asked)][world.tables_KF[c, asked]] += prob
            written[(*prompt, asked)][place] += prob
    rate = sum(joint.max() for joint in true.values())
    probability = sum((joint * written[key] / written[key].sum()).sum() for key, joint in true.items())
    return rate, probability


@both_worlds
@pytest.mark.parametrize("stated", [0, 1])
def test_the_bayes_rate_is_that_of_the_enumeration(name, stated):
    """n = 5,000 items: means within 5 standard errors of sums over all concepts and documents."""
    world, n = WORLDS[name], 5000
    items = recall_items(world, 0, n, stated=stated)
    rate, probability = brute_force(world, stated)
    for found, expected in (
        (items.bayes_rate, rate),
        (items.bayes.correct, rate),
        (items.bayes.probability, probability),
    ):
        assert abs(found.mean() - expected) < 5 * found.std() / n**0.5 + 1e-12
    assert rate > 1.05 / world.num_values


@both_worlds
def test_questions_ask_for_facts(name):
    """A candidate may follow; the world's own answers are the Bayes-optimal ones; the seed decides all."""
    world = WORLDS[name]
    items = recall_items(world, 1, 400)
    assert items.prompts.shape == (400, 7 if name == "biographies" else 1)  # one statement, and the question
    after = world.next_token_log_probs(items.prompts).exp()
    inside = after.gather(1, items.candidates)
    assert (inside > 0).all()
    if name == "biographies":
        torch.testing.assert_close(inside.sum(dim=1), torch.ones(400).double(), rtol=1e-10, atol=0)
    assert len(items.answers) == len(items.bayes_rate) == 400
    assert items.answers.max() < world.num_values
    again = score_recall(world.next_token_log_probs, items)
    assert again == items.bayes
    assert (items.bayes.correct == (inside.argmax(dim=1) == items.answers).numpy()).all()
    assert recall_items(world, 1, 400) == items
    assert recall_items(world, 2, 400) != items


def test_the_answer_is_what_is_true_not_what_is_said():
    """With noise 1 documents say anything; without it the answer is what stands there."""
    world = make_world("biographies", num_concepts=20, noise=0.0)
    items = recall_items(world, 3, 200, stated=0)
    assert items.bayes.correct.min() == items.bayes_rate.min() == items.bayes.probability.min() == 1
    for prompt, candidates, answer in zip(items.prompts, items.candidates, items.answers, strict=True):
        (said,) = world.parse([*prompt.tolist(), int(candidates[answer])])
        (person,) = world.persons(said.subject)
        assert world.fact(person, said.attribute) == said.value
    noise = make_world("biographies", num_concepts=20, noise=1.0)
    items = recall_items(noise, 3, 200)
    assert items.bayes.probability == pytest.approx(np.full(200, 1 / 12))


def test_what_documents_tell_is_recalled():
    """Two documents of everybody, three of eight facts each: those stated are known, the others a guess."""
    world = make_world("biographies", num_concepts=20, noise=0.0)
    documents = world.sample(torch.arange(20).repeat(2), torch.Generator().manual_seed(0))
    known = BiographiesGivenDocuments(world, documents)
    items = recall_items(world, 4, 400)
    scores = score_recall(known.next_token_log_probs, items)
    stated = {said[:2] for d in documents for said in world.parse(d)}
    asked = [
        world.parse([*prompt.tolist()[-3:], int(tokens[0])])[0][:2]
        for prompt, tokens in zip(items.prompts, items.candidates, strict=True)
    ]
    told = np.array([question in stated for question in asked])
    assert scores.probability == pytest.approx(np.where(told, 1, 1 / 12))
    assert (scores.correct[told] == 1).all()
    assert 0.4 < told.mean() < 0.8


@both_worlds
def test_a_transformer_reads_eos_and_shifted_tokens(name):
    world = WORLDS[name]
    model = Transformer(
        LMConfig(
            vocab_size=world.vocab_size + NUM_SPECIAL,
            context_length=16,
            width=16,
            num_layers=1,
            num_heads=2,
            num_kv_heads=1,
            head_width=8,
            hidden_width=32,
        ),
        seed=0,
    )
    items = recall_items(world, 5, 300)
    scores = score_recall(model, items)
    predict = next_world_token(model)
    for number in (0, 17, 299):
        row = torch.tensor([[EOS, *(items.prompts[number] + 2).tolist()]])
        with torch.no_grad():
            probs = model(row)[0, -1].double().softmax(dim=0)
        among = probs[items.candidates[number] + 2]
        answer = items.answers[number]
        assert scores.probability[number] == pytest.approx((among[answer] / among.sum()).item(), rel=1e-5)
        assert scores.correct[number] == float(among.argmax() == answer)
        found = predict(items.prompts[number : number + 1]).exp()[0]
        torch.testing.assert_close(found, probs[2:], rtol=1e-5, atol=1e-9)


@both_worlds
def test_numbers_out_of_their_range_are_named(name):
    with pytest.raises(ConfigError, match="number = 0"):
        recall_items(WORLDS[name], 0, 0)
    with pytest.raises(ConfigError, match=r"stated = 2 .* from 0 to 1"):
        recall_items(WORLDS[name], 0, 5, stated=2)
