"""How often a judge is wrong, in a world of facts where every statement can be looked up.

The facts of such a world are drawn at random, and no judge can know them: it is told what is true of the
persons whom a document names, and asked whether the document agrees. So what is measured is how well it
reads, follows the question and answers in form, and not what it knows of the real world.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sbp_bayes.evaluation.judge.answers import ask, read_verdicts, spent
from sbp_bayes.evaluation.judge.judges import Judge, Limits
from sbp_bayes.evaluation.judge.questions import IRRELEVANT, NON_FACTUAL_BY_FACTS, Item
from sbp_bayes.evaluation.worlds.statements import StatementWorld, statement_faults


class ToldWorld(StatementWorld, Protocol):
    """A world of statements that can say in sentences what is true."""

    def told(self, person: int) -> str:
        """Return all facts of a concept as a text of true sentences."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """A judge's verdicts beside the truth.

    Attributes:
        items: documents, or pairs, that it was asked about.
        unparsable: those to which it gave no verdict.
        faulty, sound: those with a verdict that do and do not have the fault.
        missed: share of the faulty ones that it called sound; None where there are none.
        false_alarms: share of the sound ones that it called faulty; None where there are none.
    """

    items: int
    unparsable: int
    faulty: int
    sound: int
    missed: float | None
    false_alarms: float | None


def judge_agreement(
    world: ToldWorld, judge: Judge, d1s: Sequence[str], d2s: Sequence[str], path: Path, **asking: Any
) -> dict[str, Any]:
    """Ask a judge about documents d2 and their d1, and return how often it is wrong.

    Args:
        world: knows which statements are true, and what each document is about.
        judge: who is asked.
        d1s, d2s: texts, of one place each; a d1 is about one person.
        path: file of the answers, which are kept as in `ask`.
        asking: `limits` and `together` of `ask`.

    Returns:
        an `Agreement` for "non_factual" and "irrelevant", as in `statement_quality`, and what was "spent".

    Raises:
        JudgeError: the judge cannot be reached, or its limit is reached; its answers are kept.
    """
    faults = statement_faults(world, d1s, d2s)
    pairs = list(enumerate(zip(d1s, d2s, strict=True)))
    items = {
        "non_factual": [
            Item(
                question=NON_FACTUAL_BY_FACTS,
                id=str(i),
                documents=(("The facts", _facts(world, d2)), ("The document", d2)),
            )
            for i, (_, d2) in pairs
        ],
        "irrelevant": [
            Item(
                question=IRRELEVANT,
                id=str(i),
                documents=(("The first document", d1), ("The second document", d2)),
            )
            for i, (d1, d2) in pairs
        ],
    }
    ask(judge, [item for own in items.values() for item in own], path, **{"limits": Limits(), **asking})
    found: dict[str, Any] = {
        kind: _agreement(faults[kind], read_verdicts(judge, own, path).faults) for kind, own in items.items()
    }
    return found | {"spent": spent(path)}


def _facts(world: ToldWorld, document: str) -> str:
    """Return what is true of everybody whom a document names, each person in a paragraph."""
    names = dict.fromkeys(said.subject for said in world.parse(document) if said is not None)
    persons = [person for name in names for person in world.persons(name)]
    return "\n\n".join(map(world.told, persons)) or "Nothing is known of anybody in the document."


def _agreement(truth: np.ndarray, verdicts: np.ndarray) -> Agreement:
    known = ~np.isnan(verdicts)
    faulty, sound = (verdicts[known & (truth == kind)] for kind in (1, 0))
    return Agreement(
        items=len(truth),
        unparsable=int((~known).sum()),
        faulty=len(faulty),
        sound=len(sound),
        missed=float(1 - faulty.mean()) if len(faulty) else None,
        false_alarms=float(sound.mean()) if len(sound) else None,
    )
