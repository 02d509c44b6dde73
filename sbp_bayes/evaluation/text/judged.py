"""What a judge says of synthetic and of real text: how often it is false, and how often d2 has left d1."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import LimitReached
from sbp_bayes.base.records import Pairs
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.stage import Outcome, Place, StageFolder, as_place, plan_stage, run_stage
from sbp_bayes.base.store import write_json
from sbp_bayes.corpus import Corpus, Tokenizer
from sbp_bayes.evaluation.judge.answers import ANSWERS, ask, read_verdicts, spent
from sbp_bayes.evaluation.judge.judges import Judge, Limits
from sbp_bayes.evaluation.judge.questions import FORM, IRRELEVANT, NON_FACTUAL, Item, Question
from sbp_bayes.evaluation.text.measures import cut_texts
from sbp_bayes.evaluation.text.quality import seed_indices

VERDICTS = "verdicts.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedConfig:
    """What a judge is asked.

    Attributes:
        max_document_tokens: real documents are cut to so many tokens, as the samples are.
        documents: documents, and pairs, of each kind that it reads; drawn at random.
        seed: of the choice.
    """

    max_document_tokens: int
    documents: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.documents >= 1, "documents", self.documents, "at least 1")


Items = Mapping[tuple[str, Question], list[Item]]
"""Items by kind of text, "synthetic" or "real", and question."""


def judge_items(
    config: JudgedConfig, synthetic: Corpus, unique: Corpus, tokenizer: Tokenizer, pairs: Pairs | None = None
) -> Items:
    """Return what is asked: of documents whether they are factual, of pairs whether they are related.

    Samples without d1, and real text without pairs, are no pairs.

    Raises:
        CorpusError: see `seed_indices`.
    """
    limit, seeds = config.max_document_tokens, seed_indices(synthetic, unique)
    sampled, real = _sample(config, "synthetic", len(synthetic)), _sample(config, "real", len(unique))

    def text(index: int) -> str:
        (cut,) = cut_texts(unique, np.array([index]), limit, tokenizer)
        return cut

    items: dict[tuple[str, Question], list[Item]] = {
        ("synthetic", NON_FACTUAL): [_about(synthetic.ids[i], synthetic.texts[i]) for i in sampled],
        ("real", NON_FACTUAL): [_about(unique.ids[i], text(i)) for i in real],
    }
    if seeds is not None:
        items["synthetic", IRRELEVANT] = [
            _pair(synthetic.ids[i], text(int(seeds[i])), synthetic.texts[i]) for i in sampled
        ]
    if pairs is not None:
        chosen = [
            (int(pairs.first[i]), int(pairs.second[i])) for i in _sample(config, "pairs", len(pairs.first))
        ]
        items["real", IRRELEVANT] = [
            _pair(f"{unique.ids[i]} → {unique.ids[j]}", text(i), text(j)) for i, j in chosen
        ]
    return items


def judge_stage(
    config: JudgedConfig,
    judge: Judge,
    items: Items,
    inputs: Mapping[str, str],
    place: Place,
    *,
    limits: Limits,
    together: int = 1,
) -> dict[str, Any]:
    """Ask a judge as a stage, and return what its answers say; they are kept in `answers.jsonl`.

    Questions are asked in turn of every kind, so that where a limit stops the judge the rates are of as many
    documents of each. The stage is then unfinished, and the same call with a higher limit goes on.

    Args:
        config: of `items`.
        judge: who is asked.
        items: as of `judge_items`.
        inputs: fingerprints of what `items` were made of.
        place: the stage's folder.
        limits: what the judge may spend; no part of the plan, as speed is none.
        together: requests under way at once.

    Returns:
        for "synthetic" and "real" and each question's name the counts of `Verdicts.summary`; "judge", its
        settings, source, questions and what was spent; "stopped", why not all is answered, or None. All of
        it stands in `verdicts.json` too.

    Raises:
        JudgeError: the judge cannot be reached, or refuses prompt after prompt; its answers are kept.
    """
    asked = {"judged": config, "judge": dict(judge.settings), "questions": _questions(items), "form": FORM}
    plan = plan_stage("judge", asked, inputs, __name__)
    path, stopped = as_place(place).folder(plan) / ANSWERS, None

    def work(folder: StageFolder) -> Outcome:
        ask(judge, _in_turn(items), folder.path / ANSWERS, limits, together=together)
        return Outcome(counts=spent(folder.path / ANSWERS))

    try:
        run_stage(plan, place, work)
    except LimitReached as limit:
        stopped = str(limit)
    said: dict[str, Any] = {"synthetic": {}, "real": {}}
    for (kind, question), own in items.items():
        said[kind][question.name] = read_verdicts(judge, own, path).summary()
    record = {**judge.settings, "source": judge.source, "questions": _questions(items), "form": FORM}
    said |= {"judge": record | spent(path), "stopped": stopped}
    write_json(path.parent / VERDICTS, said)
    return said


def _questions(items: Items) -> dict[str, str]:
    return {question.name: question.text for _, question in items}


def _in_turn(items: Items) -> list[Item]:
    longest = max(map(len, items.values()))
    return [own[i] for i in range(longest) for own in items.values() if i < len(own)]


def _about(name: str, text: str) -> Item:
    return Item(question=NON_FACTUAL, id=name, documents=(("The document", text),))


def _pair(name: str, first: str, second: str) -> Item:
    documents = (("The first document", first), ("The second document", second))
    return Item(question=IRRELEVANT, id=name, documents=documents)


def _sample(config: JudgedConfig, name: str, number: int) -> list[int]:
    order = numpy_generator(config.seed, "judged", name).permutation(number)
    return [int(i) for i in order[: config.documents]]
