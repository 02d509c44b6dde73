"""A judge's error rates in biographies, by judges whose errors are known."""

import pytest
from chat_server import chat_server

from experiments.judge_agreement import AgreementConfig, documents, run
from sbp_bayes.base.errors import ConfigError, LimitReached
from sbp_bayes.base.stage import Workspace
from sbp_bayes.evaluation.worlds.statements import statement_faults

CONFIG = {"model": "m", "documents": 24, "together": 1}
WORLD, FIRST, SECOND = documents(AgreementConfig(url="http://x/v1", **CONFIG))
TRUTH = statement_faults(WORLD, FIRST, SECOND)


def perfect(shown: str, code: str) -> bool:
    """Whether there is a fault, by reading what is shown and nothing else."""
    one, two = (part.split("\n</document")[0] for part in shown.split(f"<document {code}>\n")[1:])
    if "The facts:" in shown:
        facts = {statement for paragraph in one.split("\n\n") for statement in WORLD.parse(paragraph)}
        return not facts.issuperset(WORLD.parse(two))
    return WORLD.parse(one)[0].subject != WORLD.parse(two)[0].subject


def test_both_kinds_of_documents_are_there():
    for kind in ("non_factual", "irrelevant"):
        assert 6 <= TRUTH[kind].sum() <= 18


@pytest.mark.parametrize(
    ("says", "missed", "false_alarms"),
    [(perfect, 0, 0), (lambda *_: True, 0, 1), (lambda *_: False, 1, 0), (lambda *a: not perfect(*a), 1, 1)],
)
def test_error_rates_of_known_judges(tmp_path, says, missed, false_alarms):
    with chat_server(lambda *a: f"VERDICT {a[1]}: {'YES' if says(*a) else 'NO'}") as server:
        found = run(AgreementConfig(url=server.url, **CONFIG), Workspace(tmp_path))
    for kind in ("non_factual", "irrelevant"):
        own = found[kind]
        assert (own["missed"], own["false_alarms"], own["unparsable"]) == (missed, false_alarms, 0)
        assert own["faulty"] == TRUTH[kind].sum() == 24 - own["sound"]
    assert found["spent"]["requests"] == 48


def test_unparsable_answers_are_no_errors_and_a_limit_keeps_answers(tmp_path):
    def answer(shown: str, code: str) -> str:
        return f"VERDICT {code}: YES" if perfect(shown, code) else "no fault that I could see"

    with chat_server(answer) as server:
        with pytest.raises(LimitReached):
            run(AgreementConfig(url=server.url, max_requests=20, **CONFIG), Workspace(tmp_path))
        found = run(AgreementConfig(url=server.url, **CONFIG), Workspace(tmp_path))
        assert len(server.requests) == 48
    own = found["irrelevant"]
    assert (own["missed"], own["false_alarms"], own["sound"]) == (0, None, 0)
    assert own["unparsable"] == 24 - TRUTH["irrelevant"].sum()


def test_what_is_told_of_a_person_is_true_and_all():
    said = WORLD.parse(WORLD.told(7))
    assert {statement.attribute for statement in said} == {a.name for a in WORLD.grammar.attributes}
    assert all(WORLD.fact(7, statement.attribute) == statement.value for statement in said)
    assert {WORLD.persons(statement.subject)[0] for statement in said} == {7}


@pytest.mark.parametrize(
    "who", [{}, {"url": "http://x/v1"}, {"url": "http://x/v1", "model": "m", "folder": "f"}]
)
def test_a_judge_is_needed(who):
    with pytest.raises(ConfigError, match="a judge is needed"):
        AgreementConfig(**who)
