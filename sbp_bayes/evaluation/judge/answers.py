"""Asking a judge many questions, so that no answer is lost and none is paid for twice.

Each reply is appended to a file of JSON lines with one write, as it came. Verdicts are read from that file,
so a kill costs the requests under way, and nothing that was answered.
"""

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import encode, fingerprint, require
from sbp_bayes.base.errors import JudgeError, SbpError
from sbp_bayes.base.progress import progress
from sbp_bayes.base.store import append_json_line, read_json_lines
from sbp_bayes.evaluation.intervals import mean_over_seeds_and_documents
from sbp_bayes.evaluation.judge.judges import Judge, Limits, Meter, Reply
from sbp_bayes.evaluation.judge.questions import Item

ANSWERS = "answers.jsonl"

MOST_REFUSED = 10
"""Number of prompts refused one after the other from which the judge is taken to refuse all."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Verdicts(ArrayRecord):
    """What a judge said to N items.

    Attributes:
        faults: 1 where it said YES, 0 where it said NO, NaN where there is no verdict; float64 (N,).
        answered: whether there is a reply, or a refusal; bool (N,).
        refused: whether it would not take the prompt; bool (N,).
    """

    faults: np.ndarray
    answered: np.ndarray
    refused: np.ndarray

    def summary(self) -> dict[str, Any]:
        """Return counts and the rate of faults among verdicts, as JSON types.

        "unparsable" is the share of replies that give no verdict, None without any reply; "rate", "low" and
        "high" are the rate with its 95% interval over documents, cut to [0, 1]; None for fewer than two
        verdicts.
        """
        known = self.faults[~np.isnan(self.faults)]
        replies = int((self.answered & ~self.refused).sum())
        interval = None
        if len(known) >= 2:
            interval = mean_over_seeds_and_documents(known[None], np.ones(len(known))).interval()
        return {
            "questions": len(self.faults),
            "answered": int(self.answered.sum()),
            "refused": int(self.refused.sum()),
            "verdicts": len(known),
            "unparsable": 1 - len(known) / replies if replies else None,
            "rate": None if interval is None else interval.estimate,
            "low": None if interval is None else max(interval.low, 0.0),
            "high": None if interval is None else min(interval.high, 1.0),
        }


def ask(judge: Judge, items: Sequence[Item], path: Path, limits: Limits, *, together: int = 1) -> None:
    """Append the reply to each item to the file `path`, but for those that it holds already.

    A line has the item's question and id, the reply verbatim as `answer` (None where the prompt was refused,
    and then `error` says why), the judge's name, why the reply ends, and the requests and tokens spent.

    Args:
        judge: who is asked.
        items: what is asked, in this order.
        path: of the answers.
        limits: of what the requests in the file and the new ones may spend.
        together: requests under way at once.

    Raises:
        ConfigError: `together` is below 1.
        JudgeError: the judge cannot be reached, or refuses prompt after prompt.
        LimitReached: some items are not answered, and may not be asked.
        StoreError: the file is damaged or cannot be written.
    """
    require(together >= 1, "together", together, "at least 1")
    lines = read_json_lines(path)
    known = {line["key"] for line in lines}
    keys = [_key(judge, item) for item in items]
    missing = [(key, item) for key, item in zip(keys, items, strict=True) if key not in known]
    with progress("asking the judge", len(items), "questions") as advance:
        advance(len(items) - len(missing))
        asker = _Asker(judge, path, limits, lines)
        try:
            with ThreadPoolExecutor(together) as pool:
                try:
                    for _ in pool.map(asker.ask, missing):
                        advance(1)
                finally:
                    asker.stopped = True  # what is not under way yet is not begun
        finally:
            asker.keep_failed()
    if asker.failures:
        raise asker.failures[0]


def read_verdicts(judge: Judge, items: Sequence[Item], path: Path) -> Verdicts:
    """Return what the file `path` holds of these items, asked of this judge."""
    lines = {line["key"]: line for line in read_json_lines(path)}
    found = [lines.get(_key(judge, item)) for item in items]
    said = [
        item.verdict(line["answer"]) if line and line["answer"] is not None else None
        for item, line in zip(items, found, strict=True)
    ]
    return Verdicts(
        faults=np.array([np.nan if verdict is None else float(verdict) for verdict in said]),
        answered=np.array([line is not None for line in found], bool),
        refused=np.array([line is not None and line["answer"] is None for line in found], bool),
    )


def spent(path: Path) -> dict[str, Any]:
    """Return the requests and tokens that the answers in `path` took, and the names that the judge gave."""
    lines = read_json_lines(path)
    models = sorted({line["model"] for line in lines if line["model"]})
    return {"requests": _sum(lines, "requests"), "tokens": _sum(lines, "tokens"), "models": models}


class _Asker:
    """Asks one item at a time, from several threads; stops all of them after the first failure."""

    def __init__(self, judge: Judge, path: Path, limits: Limits, lines: Sequence[Mapping[str, Any]]) -> None:
        self._judge, self._path = judge, path
        self._meter = Meter(limits, _sum(lines, "requests"), _sum(lines, "tokens"))
        self._kept_requests, self._refused_in_a_row = self._meter.requests, 0
        self._lock = threading.Lock()
        self.failures: list[SbpError] = []
        self.stopped = False

    def ask(self, entry: tuple[str, Item]) -> None:
        key, item = entry
        if self.stopped or self.failures:
            return
        try:
            reply = self._judge.reply(item.messages(), self._meter)
            with self._lock:
                self._keep(key, item.question.name, item.id, reply)
                self._refused_in_a_row = self._refused_in_a_row + 1 if reply.text is None else 0
                if self._refused_in_a_row >= MOST_REFUSED:
                    raise JudgeError(
                        f"judge at {self._judge.source} refused {MOST_REFUSED} prompts in a row, the last "
                        f"one with {reply.error}"
                    )
            self._meter.read(reply)
        except SbpError as error:
            self.failures.append(error)

    def keep_failed(self) -> None:
        """Keep how many requests brought no reply, since they may have cost something."""
        requests = self._meter.requests - self._kept_requests
        if requests:
            self._keep("", "", "", Reply(text=None, error="no reply", requests=requests))

    def _keep(self, key: str, question: str, name: str, reply: Reply) -> None:
        line = {"key": key, "question": question, "id": name, "answer": reply.text} | encode(reply)
        del line["text"]
        append_json_line(self._path, line)
        self._kept_requests += reply.requests


def _key(judge: Judge, item: Item) -> str:
    """Name an answer by all that it depends on."""
    return fingerprint(encode(judge.settings), item.messages())


def _sum(lines: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(line[name] or 0 for line in lines)
