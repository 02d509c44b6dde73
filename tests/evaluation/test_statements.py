"""Quality of what documents state: cases with known counts, and what real and exact documents must score."""

import math

import pytest
import torch

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.evaluation import statement_quality
from sbp_bayes.synthesizer import PosteriorSynthesizer
from toy_worlds import make_world

TABLES = [[0, 0, 0], [1, 1, 1], [0, 1, 1]]
WORLD = make_world(
    "biographies", num_concepts=3, num_attributes=3, num_values=2, num_stated=2, num_names=2, tables=TABLES
)
"""Two are called Ada: from Boston, in Athens, a baker; from Boston, in Berlin, a banker. Alan: Cairo, Berlin,
banker."""

D1 = "Ada hails from Boston. Ada is a baker."
ALL_FALSE = {
    "malformed": 0,
    "repetition": 0,
    "duplicate": 0,
    "non_factual": 0,
    "irrelevant": 0,
    "copied": 0,
    "nothing_new": 0,
    "false_statements": 0,
}
CASES = {
    "Ada lives in Athens. Ada became a baker.": {},
    D1: {"copied": 1, "nothing_new": 1},
    "Ada is a baker. Ada hails from Boston.": {"nothing_new": 1},
    "Ada comes from Boston. Ada became a baker.": {"nothing_new": 1},
    "Ada is a baker.": {"nothing_new": 1},
    "Alan comes from Cairo. Alan is a banker.": {"irrelevant": 1},
    "Ada is a baker. Alan is a banker.": {"irrelevant": 1},
    "Ada lives in Berlin. Ada is a banker.": {},
    "Ada lives in Athens. Ada is a banker.": {"non_factual": 1, "false_statements": 1 / 2},
    "Ada comes from Cairo. Ada is a baker.": {"non_factual": 1, "false_statements": 1 / 2},
    "Ada comes from Cairo. Alan is a baker.": {"non_factual": 1, "false_statements": 1, "irrelevant": 1},
    "Zoe comes from Boston. Ada lives in Athens.": {
        "non_factual": 1,
        "false_statements": 1 / 2,
        "irrelevant": 1,
    },
    "Ada lives in Athens. Ada resides in Athens.": {"repetition": 1},
    "Ada lives in Athens. Ada dwells in Berlin.": {
        "repetition": 1,
        "non_factual": 1,
        "false_statements": 1 / 2,
    },
    "Ada lives in Athens. Alan lives in Berlin.": {"irrelevant": 1},
    "Ada lives in Athens. Ada is": {"malformed": 1},
    "Ada lives from Athens. Ada is a baker.": {"malformed": 1, "nothing_new": 1},
    "": {"malformed": 1, "false_statements": math.nan},
    "Ada Ada. baker.": {"malformed": 1, "false_statements": math.nan},
}


def rates(quality):
    return {kind: interval.estimate for kind, interval in quality.items()}


@pytest.mark.parametrize("d2", CASES)
def test_each_fault_is_counted(d2):
    """As text, and as tokens where all words are known; the pair twice, so the second is a duplicate."""
    expected = ALL_FALSE | CASES[d2] | {"duplicate": 1 / 2}
    assert rates(statement_quality(WORLD, [D1] * 2, [d2] * 2)) == pytest.approx(expected, nan_ok=True)
    if "Zoe" not in d2:
        tokens = [WORLD.from_text(D1)] * 2, [WORLD.from_text(d2)] * 2
        found = rates(statement_quality(WORLD, *tokens))
        if "Ada Ada" not in d2 and not d2.endswith(" is"):
            assert found == pytest.approx(expected, nan_ok=True)
        assert found["malformed"] == expected["malformed"]


def test_counts_of_a_collection():
    """All cases together: documents are averaged, and false statements are of all that are made."""
    d2s = list(CASES)
    quality = statement_quality(WORLD, [D1] * len(d2s), d2s)
    expected = {
        kind: sum((ALL_FALSE | case)[kind] for case in CASES.values()) / len(d2s)
        for kind in ALL_FALSE
        if kind != "false_statements"
    }
    num_statements = sum(len([s for s in WORLD.parse(d2) if s is not None]) for d2 in d2s)
    assert num_statements == 31
    assert rates(quality) == pytest.approx(expected | {"false_statements": 6 / 31})
    for interval in quality.values():
        assert interval.low <= interval.estimate <= interval.high
    assert quality["malformed"].low < quality["malformed"].estimate < quality["malformed"].high


def test_duplicates_are_those_of_earlier_documents():
    d2s = [
        "Ada is a baker.",
        "Ada lives in Athens.",
        "Ada is a baker.",
        "Ada is a baker.",
        "Ada became a baker.",
    ]
    assert rates(statement_quality(WORLD, [D1] * 5, d2s))["duplicate"] == 2 / 5


def test_a_seed_documents_noise_is_no_fault_of_the_sample():
    """What d1 misprints is false in d2 too, and copied: both are said."""
    d1 = "Alan hails from Boston. Alan is a banker."
    found = rates(statement_quality(WORLD, [d1] * 2, [d1, "Alan comes from Boston."]))
    assert found["non_factual"] == found["nothing_new"] == 1
    assert found["copied"] == 1 / 2


def pairs(world, number):
    source = torch.Generator().manual_seed(0)
    c = world.sample_concept(number, source)
    return world.sample(c, source), world.sample(c, source), source


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["real", "exact"])
def test_real_documents_and_exact_samples_have_the_faults_of_noise_alone(kind, noise):
    """n = 4,000: nothing malformed, repeated or irrelevant; non-factual as noise has it, z < 5."""
    world = make_world("biographies", num_concepts=50, num_values=6, noise=noise)
    d1, d2, source = pairs(world, 4000)
    if kind == "exact":
        d2 = torch.stack(PosteriorSynthesizer(world).sample(d1, source))
    found = rates(statement_quality(world, d1, d2))
    assert found["malformed"] == found["repetition"] == found["irrelevant"] == 0
    false = noise * (1 - 1 / 6)
    for key, expected, number in (
        ("non_factual", 1 - (1 - false) ** 3, 4000),
        ("false_statements", false, 12_000),
    ):
        assert abs(found[key] - expected) <= 5 * (expected * (1 - expected) / number) ** 0.5
    # three of eight facts come again with 1 / C(8, 3), in their order and words with 1 / (8 · 7 · 6 · 27)
    if noise == 0:
        assert abs(found["nothing_new"] - 1 / 56) < 5 * (1 / 56 / 4000) ** 0.5
        assert found["copied"] < 5 * (1 / 9072 / 4000) ** 0.5 + 1 / 9072


def test_texts_and_tokens_say_the_same():
    world = make_world("biographies", num_concepts=10, num_values=3, noise=0.3)
    d1, d2, _ = pairs(world, 300)
    texts = [[world.to_text(d) for d in documents] for documents in (d1, d2)]
    assert statement_quality(world, *texts) == statement_quality(world, d1, d2)


def test_what_cannot_be_compared_is_refused():
    for d1s, d2s in (([D1], [D1]), ([D1] * 3, [D1] * 2), ([], [])):
        with pytest.raises(ConfigError, match="as many d1 as d2, 2 or more"):
            statement_quality(WORLD, d1s, d2s)
    with pytest.raises(ConfigError, match="texts or as tokens"):
        statement_quality(WORLD, [D1] * 2, [WORLD.from_text(D1)] * 2)
    for d1, number in (("Ada is", 0), ("Ada is a baker. Alan is a baker.", 2)):
        with pytest.raises(ConfigError, match=f"d1 number 1 is about {number} subjects"):
            statement_quality(WORLD, [D1, d1], [D1] * 2)
