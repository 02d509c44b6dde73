"""Quality of synthetic documents without a judge, where every sentence can be read and every fact is known.

The talk's table of synthetic data quality (repetition, duplicates, non-factual, pair-irrelevance,
pair-copying) is of rates that a language model judged; here the statements of a document are parsed and
looked up.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.concept.documents import PAD
from sbp_bayes.evaluation.intervals import LEVEL, Interval
from sbp_bayes.evaluation.worlds.fidelity import mean_interval, ratio_interval

StatedDocument = str | Tensor | Sequence[int]
"""A document as text, or as world tokens (T,)."""

KINDS = (
    "malformed",
    "repetition",
    "duplicate",
    "non_factual",
    "irrelevant",
    "copied",
    "nothing_new",
)
"""Faults that a document has or not, in the talk's order; see `statement_quality`."""


class Statement(Protocol):
    """What one sentence says."""

    @property
    def subject(self) -> str:
        """Whom it is about."""
        ...

    @property
    def attribute(self) -> str:
        """What it says something of."""
        ...

    @property
    def value(self) -> str:
        """What it says."""
        ...


class StatementWorld(Protocol):
    """A world whose documents consist of statements, for instance biographies."""

    def parse(self, document: StatedDocument) -> Sequence[Statement | None]:
        """Return what each sentence states, None for what is no sentence."""
        ...

    def persons(self, name: str) -> Sequence[int]:
        """Return the concepts that a subject may mean."""
        ...

    def fact(self, person: int, attribute: str) -> str:
        """Return the true value of an attribute of a concept."""
        ...


def statement_quality(
    world: StatementWorld,
    d1s: Sequence[StatedDocument],
    d2s: Sequence[StatedDocument],
    *,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Return rates of faults in documents d2, each written from the seed document d1 of the same place.

    Of real documents (d1, d2 of one concept) and of exact samples d2 ~ P(d2 | d1) the same rates say what the
    world itself leaves: with noise ε, V values and S statements, 1 − (1 − ε (1 − 1/V))^S of them are
    non-factual. All are shares of documents but the last, which is a share of statements:

    - "malformed": a sentence of d2 is none, or there is no sentence at all;
    - "repetition": d2 states an attribute of a subject more than once;
    - "duplicate": the same words as an earlier d2's. It grows with their number: compare equal numbers, and
      give each real document once. Its interval is that of independent documents, which these are not;
    - "non_factual": a statement is false of the person named, or nobody has the name. Of namesakes the one
      counts of whom the fewest of d2's statements are false;
    - "irrelevant": a statement is about another subject than d1's;
    - "copied": the same words as d1's;
    - "nothing_new": d2 states something, and nothing that d1 does not state;
    - "false_statements": statements that are false, of all that d2s make; NaN where they make none.

    Args:
        world: parses documents and knows the facts.
        d1s, d2s: as texts, or as world tokens: a transformer's ids less `NUM_SPECIAL`, without EOS. Tokens
            outside the vocabulary are allowed in d2.
        level: coverage of the intervals, which are over pairs.

    Raises:
        ConfigError: fewer than two pairs, numbers of d1 and d2 that differ, texts beside tokens, or a d1 that
            is not about one subject.
    """
    require(len(d1s) == len(d2s) >= 2, "documents", (len(d1s), len(d2s)), "as many d1 as d2, 2 or more")
    faults = statement_faults(world, d1s, d2s)
    rates = {kind: mean_interval(faults[kind], level) for kind in KINDS}
    return rates | {"false_statements": _share(faults["false"], faults["statements"], level)}


def statement_faults(
    world: StatementWorld, d1s: Sequence[StatedDocument], d2s: Sequence[StatedDocument]
) -> dict[str, np.ndarray]:
    """Return for each of `KINDS` which documents d2 have the fault, float64 (N,) of 0 and 1.

    Besides, "statements" and "false" are the numbers of statements that each d2 makes, and of false ones.
    Arguments and errors are those of `statement_quality`.
    """
    if len({isinstance(document, str) for document in (*d1s, *d2s)}) > 1:
        raise ConfigError("documents are compared as texts or as tokens, not one with the other")
    words = [_words(d2) for d2 in d2s]
    earliest = {written: number for number, written in reversed(list(enumerate(words)))}
    faults = [
        {"duplicate": earliest[words[number]] < number, "copied": words[number] == _words(d1)}
        | _faults(world, d2, *_seed(world, d1, number))
        for number, (d1, d2) in enumerate(zip(d1s, d2s, strict=True))
    ]
    return {
        kind: np.array([fault[kind] for fault in faults], np.float64)
        for kind in (*KINDS, "statements", "false")
    }


def _seed(world: StatementWorld, d1: StatedDocument, number: int) -> tuple[str, set[Statement]]:
    """Return the subject and the statements of a seed document."""
    known = {statement for statement in world.parse(d1) if statement is not None}
    subjects = {statement.subject for statement in known}
    if len(subjects) != 1:
        raise ConfigError(f"d1 number {number} is about {len(subjects)} subjects: expected one")
    return subjects.pop(), known


def _faults(
    world: StatementWorld, d2: StatedDocument, subject: str, known: set[Statement]
) -> dict[str, float]:
    """Return which faults d2 has, how many statements it makes, and how many of them are false."""
    sentences = world.parse(d2)
    statements = [statement for statement in sentences if statement is not None]
    num_false = _num_false(world, statements)
    return {
        "malformed": None in sentences or not sentences,
        "repetition": len({(said.subject, said.attribute) for said in statements}) < len(statements),
        "non_factual": num_false > 0,
        "irrelevant": any(said.subject != subject for said in statements),
        "nothing_new": bool(statements) and known.issuperset(statements),
        "statements": len(statements),
        "false": num_false,
    }


def _num_false(world: StatementWorld, statements: Sequence[Statement]) -> int:
    """Return how many statements are false, of each subject those of the person whom they fit best."""
    total = 0
    for subject in {said.subject for said in statements}:
        own = [said for said in statements if said.subject == subject]
        of_persons = (
            sum(world.fact(person, said.attribute) != said.value for said in own)
            for person in world.persons(subject)
        )
        total += min(of_persons, default=len(own))
    return total


def _share(values: np.ndarray, weights: np.ndarray, level: float) -> Interval:
    if not weights.any():
        return Interval(estimate=np.nan, low=np.nan, high=np.nan)
    return ratio_interval(values, weights, level)


def _words(document: StatedDocument) -> tuple[str | int, ...]:
    """Return what two documents have in common if they are the same words in the same order."""
    if isinstance(document, str):
        return tuple(document.split())
    return tuple(token for token in torch.as_tensor(document).tolist() if token != PAD)
